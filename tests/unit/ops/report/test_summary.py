"""The lines that a person reads first."""

from dataclasses import replace

from slimpajama.apps.tune.stage import TuneReport
from slimpajama.model.evaluate.stage import EvaluateReport
from slimpajama.model.generate.stage import GenerateReport
from slimpajama.ops.report.summary import nothing_new, summarise_night

LANGUAGES = {
    "zh": {"bits_per_byte": 1.5, "documents": 40},
    "en": {"bits_per_byte": 1.75, "documents": 30},
    "fr": {"bits_per_byte": 9.0, "documents": 1},
}
EVALUATION = EvaluateReport(
    model="n-small-1",
    champion="",
    night="n",
    promote=True,
    reason="There was no champion yet.",
    decision={},
    figures={"languages": LANGUAGES},
    champion_figures=None,
)
SAMPLES = GenerateReport(
    uri="w/reports/n/samples.json",
    samples=[
        {"model": "old", "prompt": "今天", "text": "旧的"},
        {"model": "n-small-1", "prompt": "The ", "text": "cat\x1b[2J"},
        {"model": "n-small-1", "prompt": "今天", "text": "很好"},
        {"model": "n-small-1", "prompt": "明天", "text": "再说"},
    ],
)
REPORTS = {"evaluate": EVALUATION, "generate": SAMPLES}


def test_one_text_a_language_of_the_nights_own_model_and_places_of_everything():
    summary = summarise_night("w", "n", "n-small-1", REPORTS)
    assert summary.outcome == "New champion"
    assert summary.samples == {"en": "The cat\x1b[2J", "zh": "今天很好"}
    assert summary.bits_per_byte == {"zh": 1.5, "en": 1.75}
    text = summary.text()
    for part in ("w/nights/n", "w/models/n-small-1", "w/reports/n/report.html", "zh 1.500, en 1.750", "今天很好"):
        assert part in text
    assert "\x1b" not in text


def test_bits_per_byte_stand_beside_those_of_the_network_alone_where_they_differ():
    figures = {"zh": LANGUAGES["zh"] | {"network_bits_per_byte": 1.9}}
    figures["en"] = LANGUAGES["en"] | {"network_bits_per_byte": 1.75}
    summary = summarise_night(
        "w", "n", "n", REPORTS | {"evaluate": replace(EVALUATION, figures={"languages": figures})}
    )
    assert summary.network_bits_per_byte == {"zh": 1.9}
    assert "zh 1.500 (network alone 1.900), en 1.750" in summary.text()


def test_what_went_wrong_stands_in_the_closing_lines_and_the_rest_in_the_report():
    lines = [f"raw/{n}.jsonl: {n} refused by no-text\x1b[2J, 其键: 内容" for n in range(8)]
    text = replace(summarise_night("w", "n", "n-small-1", REPORTS), problems=lines).text()
    assert "went wrong raw/0.jsonl: 0 refused by no-text\\x1b[2J, 其键: 内容\n" in text
    assert "raw/4.jsonl" in text
    assert "raw/5.jsonl" not in text
    assert "3 more: see the report" in text


def test_a_night_without_training_says_why():
    assert "nothing trained" in nothing_new("n", "old").text()
    assert nothing_new("n", "old").outcome == "Nothing new"
    summary = summarise_night("w", "n", "old", {})
    assert "nothing trained" in summary.verdict
    assert summary.outcome == "Nothing trained"
    assert summary.report
    assert not summary.model


def test_a_tuned_night_shows_one_test_pair_of_each_application_and_language():
    def sample(task, lang, output):
        texts = {
            "source": "长" * 500 if lang == "zh" else "Open\x1b[2J\nit",
            "question": "谁？" if "qu" in task else "",
        }
        return texts | {"task": task, "target_lang": lang, "reference": "the reference", "output": output}

    kinds = [("summarization", "zh"), ("translation", "en"), ("translation", "zh"), ("question-answering", "en")]
    samples = [sample(*kind, f"{text} of {' '.join(kind)}") for kind in kinds for text in ("first", "second")]
    tuning = TuneReport("n-1", "n", "p", False, {"tasks": {}, "bits_per_byte": {}, "samples": samples}, {})
    summary = summarise_night("w", "n", "n", REPORTS | {"tune": tuning})
    assert [example["asked"] for example in summary.examples] == [
        "summary",
        "translation to en",
        "translation to zh",
        "answer",
    ]
    text = summary.text()
    assert "tuned      w/tuned/n-1\n" in text
    assert all(f"written    first of {' '.join(kind)}\nreference  the reference" in text for kind in kinds)
    assert "second of" not in text
    assert "\x1b" not in text
    assert "谁？ … Open" in text
    assert "长" * 100 in text
    assert "长" * 200 not in text
    assert not summarise_night("w", "n", "n", REPORTS).examples
