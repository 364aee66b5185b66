"""A tuning's report: figures for people, and texts that no renderer takes for anything else."""

from slimpajama.apps.tune.metrics import MAIN, score
from slimpajama.ops.report.tuning import MEASURES, tuning, tuning_artifact

HOSTILE = "<script>alert(1)</script> | a\n# b [x](javascript:y) 中文"


def report():
    chrf = {"chrf": 21.24, "bleu": 3.0, "interval": [20, 22.5], "n": 1200, "copied": 3.2, "length": 1.1}
    texts = {"source": HOSTILE, "question": "", "reference": HOSTILE, "output": HOSTILE}
    asked = {"source": "x" * 999, "question": "谁？", "reference": "甲", "output": "乙"}
    scores = {
        "tasks": {"translation": {"zh": chrf}},
        "ways": {"translate-zh/en": "draft", "summarize/zh": "quoted"},
        "samples": [
            texts | {"task": "translation", "target_lang": "zh"},
            asked | {"task": "question-answering", "target_lang": "zh"},
        ],
    }
    return {
        "model": "m",
        "base": "b",
        "scores": scores,
        "decisions": {"translation": {"reason": HOSTILE, "promote": True}},
    }


def test_figures_stand_in_tables():
    text = tuning_artifact(report())
    assert "| translation | zh | 1,200 | 21.2 | chrF | 20.0 to 22.5 | BLEU 3.0 | 3 % | 1.10 |" in text
    assert "| translate-zh | en | draft |" in text


def test_no_text_of_a_corpus_is_markup():
    text = tuning_artifact(report())
    assert "<script" not in text
    assert "](javascript" not in text
    assert text.count("</td>") == 8
    assert "<b>translation to zh</b>" in text
    assert "<b>answer</b>" in text
    assert "中文" in text
    assert "谁？ … xxx" in text
    assert "x" * 400 not in text


def test_what_decides_is_what_the_gate_decides_by_and_every_measure_has_a_name():
    assert {task: next(iter(names)) for task, names in MEASURES.items()} == MAIN
    for task, names in MEASURES.items():
        assert set(names) == set(score(task, "en", "a b", "a", ["a"])) - {"copied", "length"}


def test_rows_have_the_figures_of_every_task_and_language():
    tasks, _, ways, *_ = tuning(report()).blocks
    (row,) = tasks.rows
    shown = {column.title: column.text(row) for column in tasks.columns}
    assert (shown["task"], shown["to"], shown["decides"], shown["by"]) == ("translation", "zh", "21.2", "chrF")
    assert ways.rows == [
        {"kind": "summarize", "from": "zh", "way": "quoted"},
        {"kind": "translate-zh", "from": "en", "way": "draft"},
    ]
