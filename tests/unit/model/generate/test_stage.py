from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from slimpajama.core.errors import ModelError
from slimpajama.corpus.index import index_nights
from slimpajama.model.generate import stage as generate_stage
from slimpajama.model.generate.stage import write_samples
from slimpajama.workspace.manifest import entry_of
from slimpajama.workspace.nights import Nights
from slimpajama.workspace.open import Workspace
from slimpajama.workspace.parquet import read_table
from slimpajama.workspace.registry import Models
from slimpajama.workspace.store import read_json


def test_every_prompt_is_continued_and_the_texts_are_published(trained: Any):
    space, model = trained
    report = write_samples(Workspace(space.store), space.cfg, space.nights[0], model)
    assert [(sample["role"], sample["prompt"]) for sample in report.samples] == [
        ("challenger", "今天"),
        ("challenger", "The"),
    ]
    assert all(0 <= sample["repeated_share"] <= 1 for sample in report.samples)
    # No night has an index.
    assert [sample["copied_share"] for sample in report.samples] == [None, None]
    assert space.store.list("reports") == [
        f"reports/{space.nights[0]}/samples.json",
        f"reports/{space.nights[0]}/samples.manifest.json",
    ]


def test_what_a_model_copies_is_looked_for_in_the_index_and_again_when_it_is_another(
    trained: Any, monkeypatch: pytest.MonkeyPatch
):
    space, model = trained
    workspace = Workspace(space.store)
    index_nights(workspace, space.cfg)
    texts = workspace.nights.load(space.nights[0]).entries(f"nights/{space.nights[0]}/shards/train/")
    ids = read_table(space.store, texts[0], ["input_ids"])["input_ids"][0].as_py()[1:100]
    monkeypatch.setattr(generate_stage, "generate_texts", lambda _, tokenizer, *rest: [tokenizer.decode(ids)])
    report = write_samples(workspace, space.cfg, space.nights[0], model)
    # The text's end is cut otherwise than inside its document.
    assert all(sample["copied_share"] > 0.9 for sample in report.samples)
    first = space.nights[0]
    space.store.delete(f"nights/{first}/index/manifest.json")
    report = write_samples(workspace, space.cfg, first, model)
    assert [sample["copied_share"] for sample in report.samples] == [None, None]


def test_the_samples_stand_beside_held_out_text_of_their_length(trained: Any):
    space, model = trained
    cfg = replace(space.cfg, generate=replace(space.cfg.generate, max_tokens=24))
    report = write_samples(Workspace(space.store), cfg, space.nights[0], model)
    expected: dict[str, list[float]] = {}
    for path in Nights(space.store).load(space.nights[0]).paths(f"nights/{space.nights[0]}/shards/validation/"):
        for row in read_table(space.store, entry_of(path, space.store.read(path)), ["lang", "input_ids"]).to_pylist():
            if len(row["input_ids"]) >= 24:
                runs = [tuple(row["input_ids"][start : start + 4]) for start in range(21)]
                expected.setdefault(row["lang"], []).append(1 - len(set(runs)) / len(runs))
    assert set(expected) == {"en", "zh"}
    natural = read_json(space.store, report.uri.removeprefix(f"{space.store.uri}/"))["natural"]
    assert natural == pytest.approx({lang: sum(shares) / len(shares) for lang, shares in expected.items()})


def test_both_models_get_the_same_prompts_and_a_second_run_is_skipped(trained: Any, monkeypatch: pytest.MonkeyPatch):
    space, model = trained
    from slimpajama.model.train.stage import train

    short = replace(space.cfg, train=replace(space.cfg.train, tokens=512))
    other = train(Workspace(space.store), short, space.nights, space.nights[1], model).model
    report = write_samples(Workspace(space.store), space.cfg, space.nights[1], other, model)
    assert [sample["role"] for sample in report.samples] == ["champion", "champion", "challenger", "challenger"]
    monkeypatch.setattr(generate_stage, "_samples", None)
    assert write_samples(Workspace(space.store), space.cfg, space.nights[1], other, model) == report


def test_a_model_is_not_shown_beside_itself(trained: Any):
    space, model = trained
    Models(space.store).promote(model, "first")
    report = write_samples(Workspace(space.store), space.cfg, space.nights[0], model, model)
    assert {sample["role"] for sample in report.samples} == {"challenger"}


def test_a_missing_model_is_an_error_for_the_user(workspace: Any):
    with pytest.raises(ModelError, match="no such model"):
        write_samples(Workspace(workspace.store), workspace.cfg, workspace.nights[0], "nope")
