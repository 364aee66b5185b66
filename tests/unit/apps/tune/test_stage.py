"""Tuning on a workspace: what is published, exact resume, gates by task, and the applications on top."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from slimpajama.apps.tune import learn as tune_learn
from slimpajama.apps.tune import stage as tune_stage
from slimpajama.apps.tune.inference import DRAFT, QUOTED, WRITTEN, strategies_of
from slimpajama.apps.tune.loading import load_tuned
from slimpajama.apps.tune.retrieve import Source
from slimpajama.apps.tune.stage import tune
from slimpajama.core.config import ApplyConfig, PairsConfig, PairSourceConfig, RunConfig, TuneConfig
from slimpajama.core.errors import InputError, ModelError
from slimpajama.model.generate.beam import Found
from slimpajama.model.loading import load_model
from slimpajama.workspace.local import LocalStore
from slimpajama.workspace.manifest import load_manifest
from slimpajama.workspace.open import Workspace
from slimpajama.workspace.registry import Models

from ...conftest import CONFIG, WORDS


def sentence(rng, lang):
    return "".join(rng.choice(WORDS[lang], 8)).strip()


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """Write pairs of all three tasks in both languages."""
    folder, rng = tmp_path_factory.mktemp("pairs"), np.random.default_rng(0)
    rows = {"translation": [], "summarization": [], "question-answering": []}
    for n in range(60):
        english, chinese = sentence(rng, "en"), sentence(rng, "zh")
        own = english if n % 2 else chinese
        more = " ".join(sentence(rng, ("zh", "en")[n % 2]) for _ in range(4))
        rows["translation"].append({"source": f"{english} {n}", "target": f"{chinese}{n}", "group": str(n // 3)})
        rows["summarization"].append({"source": f"{own} {n} {more}", "target": f"{own} {n}"})
        rows["question-answering"].append({"source": f"{more} {n}", "question": f"{own} {n}?", "target": [str(n)]})
    for task, lines in rows.items():
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        (folder / f"{task}.jsonl").write_text(text, encoding="utf-8")
    return folder


def config(cfg, raw, **settings):
    sources = tuple(
        PairSourceConfig(name=path.stem[:5], uri=path.name, task=path.stem) for path in sorted(raw.glob("*"))
    )
    options = {"tokens": 4096, "batch_tokens": 256, "target_tokens": 16, "source_tokens": 64, "max_test_pairs": 4}
    return replace(
        cfg,
        pairs=PairsConfig(sources=sources, test_share=0.2),
        tune=TuneConfig(**options | settings),
        apply=ApplyConfig(beams=2),
        dedup=replace(cfg.dedup, threshold=0.99),
        run=RunConfig(source_root=str(raw), workers=1),
    )


@pytest.fixture(scope="module")
def tuned(one_model, raw, tmp_path_factory):
    """Return a store with a tuned model, its settings and report."""
    source, model = one_model
    root = tmp_path_factory.mktemp("tuned") / "workspace"
    shutil.copytree(source, root)
    store, cfg = LocalStore(str(root)), config(CONFIG, raw)
    Models(store).promote(model, "test")
    return store, cfg, model, tune(Workspace(store), cfg, model)


def files(store, folder):
    return {path: store.read(path) for path in store.list(folder)}


def test_a_tuning_publishes_what_its_manifest_lists_and_serves_every_task(tuned):
    store, _, model, report = tuned
    manifest = load_manifest(store, f"tuned/{report.model}/manifest.json")
    names = ["config.json", "dictionary.parquet", "model.safetensors", "outputs.parquet", "scores.json"]
    names += ["tokenizer.json", "training.json", "ways.json"]
    assert [entry.path for entry in manifest.files] == [f"tuned/{report.model}/{name}" for name in names]
    assert store.list(f"tuned/{report.model}") == sorted(
        [*manifest.paths("tuned"), f"tuned/{report.model}/manifest.json"]
    )
    assert report.model.startswith(model)
    assert {task: Models(store).serving(task) for task in report.decisions} == dict.fromkeys(
        ("question-answering", "summarization", "translation"), report.model
    )
    assert set(report.scores["tasks"]["translation"]) == {"zh", "en"}
    assert set(report.scores["ways"]) >= {"translate-zh/en", "translate-en/zh"}
    assert all(word in report.text() for word in ("rougeL", "chrf", "f1"))


def test_the_tuned_model_has_the_champions_weights(tuned):
    store, _, model, report = tuned
    expected = load_model(Workspace(store), model).model.state_dict()
    found = load_tuned(Workspace(store), report.model).model.base.state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


@pytest.mark.parametrize("kind", ["summarize", "answer", "translate-zh"])
def test_every_way_writes_something(tuned, kind):
    store, cfg, _, report = tuned
    model = load_tuned(Workspace(store), report.model)
    text = (
        "今天北京天气很好。我们学习语言模型。研究人员推荐了地图。" if kind != "translate-zh" else "The weather is fine."
    )
    for way in strategies_of(kind):
        model.strategies = {f"{kind}/{lang}": way for lang in ("zh", "en")}
        if kind == "summarize":
            found = model.summarize(text, cfg.apply)
        elif kind == "answer":
            found = model.answer("今天的天气？", text, cfg.apply).text
        else:
            found = "".join(model.translate(text, "zh", cfg.apply))
        if way == QUOTED:
            # Whole characters, also where a token is less than one.
            assert found in text
            assert found
        if way == DRAFT:
            assert found


def test_the_question_decides_how_all_its_answers_are_made(tuned, monkeypatch):
    """Answers out of several documents are compared by their scores, which are of one kind then."""
    store, cfg, _, report = tuned
    model = load_tuned(Workspace(store), report.model)
    model.strategies = {"answer/zh": QUOTED, "answer/en": WRITTEN}
    written = []
    monkeypatch.setattr(model, "write", lambda *given, **_: written.append(given) or Found([], -1.0))
    texts = ("The weather is fine.", "今天北京天气很好。")
    sources = [Source(str(n), "", "", text, 1.0) for n, text in enumerate(texts)]
    for question, times in (("今天的天气？", 0), ("How is the weather?", 2)):
        model.answer_from(sources, question, cfg.apply)
        assert len(written) == times, question


def test_the_champion_is_as_it_was_and_the_same_tuning_is_done_once(tuned, trained):
    store, cfg, model, report = tuned
    space, _ = trained
    assert files(store, f"models/{model}") == files(space.store, f"models/{model}")
    before = files(store, "tuned")
    again = tune(Workspace(store), cfg, model)
    assert again.skipped
    assert again.scores == report.scores
    assert files(store, "tuned") == before


@pytest.mark.parametrize("moment", ["in the middle", "before the ways", "before the scores", "before the manifest"])
def test_a_tuning_that_stops_ends_with_the_same_bytes(tuned, trained, tmp_path, monkeypatch, moment):
    store, cfg, model, report = tuned
    space, _ = trained
    shutil.copytree(space.store.root, tmp_path / "workspace")
    other = LocalStore(str(tmp_path / "workspace"))

    def stop(*_, **__):
        raise KeyboardInterrupt

    # A stage of its own, which is to stop here no more.
    tune_stage.make_pairs(Workspace(other), cfg)
    with monkeypatch.context() as patch:
        if moment == "in the middle":
            real, steps = tune_learn.PairRows.batch, []

            def batch(rows):
                steps.append(1)
                return real(rows) if len(steps) < 9 else stop()

            patch.setattr(tune_learn.PairRows, "batch", batch)
        else:
            steps = {"ways": (tune_stage, "choose_strategies"), "scores": (tune_stage, "measure_outputs")}
            patch.setattr(*steps.get(moment.split()[-1], (tune_stage.Run, "finish")), stop)
        often = replace(cfg, train=replace(cfg.train, checkpoint_seconds=1e-9))
        with pytest.raises(KeyboardInterrupt):
            tune(Workspace(other), often, model)
    assert tune(Workspace(other), cfg, model).model == report.model
    assert files(other, f"tuned/{report.model}") == files(store, f"tuned/{report.model}")


def test_a_new_model_serves_a_task_only_if_it_is_better(tuned):
    store, cfg, model, report = tuned
    untaught = replace(cfg, tune=replace(cfg.tune, tokens=256, seed=5))
    other = tune(Workspace(store), untaught, model)
    for task, decision in other.decisions.items():
        assert decision["promote"] == decision["reason"].startswith("better")
        assert Models(store).serving(task) == (other.model if decision["promote"] else report.model)


def test_applications_work_on_any_text_and_refuse_what_is_none(tuned):
    store, cfg, _, report = tuned
    model = load_tuned(Workspace(store), report.model)
    for text in ("今天北京天气很好。", "The weather is fine today. " * 40, "a" * 3000):
        assert isinstance(model.summarize(text, cfg.apply), str)
    text = "今天很好。我们学习。\n\n---\n  北京的天气。\n"
    pieces = list(model.translate(text, "en", cfg.apply))
    assert len(pieces) == 5
    assert pieces[2:4] == ["\n", "---\n"]
    assert pieces[4].startswith("  ")
    found = model.answer("哪里？", "今天北京天气很好。我们学习语言模型。" * 30, cfg.apply)
    assert found.passage in ("今天北京天气很好。", "我们学习语言模型。") or "今天" in found.passage
    for call in (
        lambda: model.summarize(" \n", cfg.apply),
        lambda: list(model.translate("。", "en", cfg.apply)),
        lambda: model.answer("?", "text", cfg.apply),
        lambda: model.answer("who", "", cfg.apply),
    ):
        with pytest.raises(InputError, match="is empty"):
            call()
    for text, lang in (("The weather.", "en"), ("天气。123", "zh")):
        with pytest.raises(InputError, match="nothing to translate"):
            list(model.translate(text, lang, cfg.apply))
    assert list(model.translate("今天很好。 It is fine.", "en", cfg.apply))[1] == "It is fine."
    for text in ("今天", "today"):
        with pytest.raises(InputError, match="not tuned for this"):
            list(model.translate(text, "fr", cfg.apply))
    with pytest.raises(InputError, match="not valid Unicode"):
        model.summarize("half \ud800", cfg.apply)


def test_pairs_of_which_none_falls_to_the_test_are_too_few(tuned, tmp_path):
    store, cfg, model, _ = tuned
    (tmp_path / "few.tsv").write_text("The weather is fine\t今天天气很好\n", encoding="utf-8")
    source = PairSourceConfig(name="few", uri="few.tsv", task="translation")
    few = replace(cfg, pairs=PairsConfig(sources=(source,), test_share=0.001), run=RunConfig(source_root=str(tmp_path)))
    with pytest.raises(InputError, match=r"too few pairs.*none for test.*Bring more"):
        tune(Workspace(store), few, model)


def test_what_is_missing_is_said_clearly(tuned, workspace):
    store = tuned[0]
    for name in ("nothing", "", "../models"):
        with pytest.raises(ModelError, match="no such tuned model"):
            load_tuned(Workspace(store), name)
    with pytest.raises(ModelError, match="no model is tuned for translation yet"):
        Models(workspace.store).serving("translation")


@pytest.fixture
def command(tuned, tmp_path, capsys):
    """Run a command on the tuned workspace; return exit code, what it printed and what it said."""
    from slimpajama.cli import run

    (tmp_path / "text.txt").write_text("今天北京天气很好。\n\n我们学习。\n", encoding="utf-8")

    def call(*arguments):
        code = run([*arguments, "--workspace", str(tuned[0].root)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def test_the_command_line_summarises_translates_and_answers(command, tmp_path):
    text = str(tmp_path / "text.txt")
    code, out, _ = command("summarize", "--text", text, "--json")
    assert code == 0
    assert set(json.loads(out)) == {"summary"}
    code, out, _ = command("translate", "--to", "en", "--text", text)
    assert code == 0
    assert out.count("\n") == 3
    assert out == json.loads(command("translate", "--to", "en", "--text", text, "--json")[1])["translation"]
    code, out, _ = command("answer", "--question", "哪里？", "--context-file", text)
    assert code == 0
    assert "\n  from: " in out
    code, out, _ = command("answer", "--question", "data model?", "--context-workspace", str(tmp_path / "none"))
    assert code == 1


def test_wrong_requests_are_one_clear_line(command, tmp_path):
    text = str(tmp_path / "text.txt")
    for arguments, word in (
        (("translate", "--to", "fr", "--text", text), "not tuned for this"),
        (("summarize", "--text", text, "--model", "nothing"), "no such tuned model"),
        (("summarize", "--text", str(tmp_path / "missing")), "cannot be read"),
        (("pairs",), "no source of pairs"),
    ):
        code, out, said = command(*arguments)
        assert (code, out) == (1, "")
        assert word in said
    assert command("answer", "--question", "q", "--context-file", text, "--context-workspace", "w")[0] == 2


def test_a_terminal_never_gets_control_characters_out_of_a_model(monkeypatch):
    import sys

    from slimpajama.cli.options import shown

    text = "好\x1b[2J\nok"
    # A pipe gets the bytes as they are.
    assert shown(text) == text
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert "\x1b" not in shown(text)
    assert shown(text).startswith("好")
