from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from slimpajama.core.errors import InputError
from slimpajama.core.logs import LineHandler, logged_to
from slimpajama.core.schema import SHARDS
from slimpajama.core.split import document_keys
from slimpajama.model.loading import load_model
from slimpajama.model.train import stage as train_stage
from slimpajama.model.train.checkpoint import Checkpoints
from slimpajama.model.train.stage import train
from slimpajama.workspace.manifest import load_manifest
from slimpajama.workspace.open import Workspace
from slimpajama.workspace.parquet import read_columns, read_table
from slimpajama.workspace.store import read_json


def files_of(store: Any, model: str) -> dict[str, bytes]:
    return {path: store.read(path) for path in store.list(f"models/{model}")}


def test_a_training_publishes_exactly_the_files_that_its_manifest_lists(trained: Any):
    space, model = trained
    manifest = load_manifest(space.store, f"models/{model}/manifest.json")
    assert manifest is not None
    names = ["README.md", "config.json", "model.safetensors", "read.parquet", "tokenizer.json", "training.json"]
    assert [entry.path for entry in manifest.files] == [f"models/{model}/{name}" for name in names]
    assert space.store.list(f"models/{model}") == sorted([*manifest.paths("models"), f"models/{model}/manifest.json"])
    assert model.startswith("2026-01-01-tiny-")


def test_the_same_training_again_is_skipped_and_another_seed_is_another_model(trained: Any):
    space, model = trained
    before, said = files_of(space.store, model), []
    with logged_to(LineHandler(said.append)):
        report = train(Workspace(space.store), space.cfg, space.nights[:1], space.nights[0])
    assert report.skipped
    assert report.model == model
    assert any("skipped" in line for line in said)
    assert files_of(space.store, model) == before
    other = replace(space.cfg, train=replace(space.cfg.train, seed=1, tokens=256))
    assert train(Workspace(space.store), other, space.nights[:1], space.nights[0]).model != model


def test_checkpoint_settings_change_neither_name_nor_bytes(workspace: Any, trained: Any):
    space, model = trained
    often = replace(space.cfg, train=replace(space.cfg.train, checkpoint_seconds=1e-9, keep_checkpoints=5))
    assert train(Workspace(workspace.store), often, space.nights[:1], space.nights[0]).model == model
    assert files_of(workspace.store, model) == files_of(space.store, model)


@pytest.mark.parametrize("moment", ["after the checkpoint", "before the manifest", "before the checkpoints go"])
def test_a_training_that_stops_between_its_files_ends_with_the_same_bytes(
    workspace: Any, trained: Any, moment: str, monkeypatch: pytest.MonkeyPatch
):
    space, model = trained

    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if moment == "after the checkpoint":
            patch.setattr(train_stage, "_published", stop)
        elif moment == "before the manifest":
            patch.setattr(train_stage.Run, "finish", stop)
        else:
            patch.setattr(Checkpoints, "clear", stop)
        with pytest.raises(KeyboardInterrupt):
            train(Workspace(workspace.store), space.cfg, space.nights[:1], space.nights[0])
    assert any("/checkpoints/" in path for path in workspace.store.list("models"))
    train(Workspace(workspace.store), space.cfg, space.nights[:1], space.nights[0])
    assert files_of(workspace.store, model) == files_of(space.store, model)


def test_the_second_night_starts_from_the_champion_and_replays_the_first(trained: Any):
    space, model = trained
    short = replace(space.cfg, train=replace(space.cfg.train, tokens=1024))
    cold = train(Workspace(space.store), short, space.nights, space.nights[1])
    warm = train(Workspace(space.store), short, space.nights, space.nights[1], champion=model)
    assert (cold.started_from, warm.started_from) == ("", model)
    assert warm.losses["continue"] < cold.losses["continue"] - 0.3
    manifest = load_manifest(space.store, f"models/{warm.model}/manifest.json")
    assert manifest is not None
    assert list(manifest.depends_on["nights"]) == list(space.nights)


def test_another_architecture_starts_fresh_and_says_so(trained: Any):
    space, model = trained
    wider = replace(space.cfg, model=replace(space.cfg.model, width=32), train=replace(space.cfg.train, tokens=256))
    said: list[str] = []
    with logged_to(LineHandler(said.append)):
        assert train(Workspace(space.store), wider, space.nights, space.nights[1], champion=model).started_from == ""
    assert any("another architecture" in line for line in said)


def test_the_record_holds_losses_and_no_clock(trained: Any):
    space, model = trained
    training = read_json(space.store, f"models/{model}/training.json")
    assert training["tokens"] == 4096
    assert len(training["validation"]) == 4
    assert set(training["validation"][-1]) == {"step", "tokens", "zh", "en"}
    assert training["curve"][-1]["continue"] < training["curve"][0]["continue"]
    assert "seconds" not in space.store.read(f"models/{model}/training.json").decode()


def test_a_short_training_records_the_documents_that_it_read_and_no_others(trained: Any):
    space, champion = trained
    short = replace(space.cfg, train=replace(space.cfg.train, tokens=512, batch_tokens=256))
    model = train(Workspace(space.store), short, space.nights, space.nights[1], champion=champion).model
    manifest = load_manifest(space.store, f"models/{model}/manifest.json")
    assert manifest is not None
    table = read_table(space.store, manifest.file("read.parquet")).to_pylist()
    for night, counts in manifest.counts["read"].items():
        entries = Workspace(space.store).nights.load(night).entries(f"nights/{night}/shards/train")
        keys = document_keys(read_columns(space.store, entries, SHARDS, ["id"])["id"].to_pylist())
        own = [row["key"] for row in table if row["night"] == night]
        assert 0 < counts["read"] < counts["documents"] == len(keys)
        assert len(own) == counts["read"]
        assert set(own) < set(keys.tolist())
    card = space.store.read(f"models/{model}/README.md").decode()
    newest = manifest.counts["read"][space.nights[1]]
    assert f"{newest['read']} of {newest['documents']} documents of night {space.nights[1]}." in card


def test_the_card_names_every_source_with_its_licence_and_size(trained: Any):
    space, model = trained
    card = space.store.read(f"models/{model}/README.md").decode()
    assert "| 2026-01-01 | book | CC0-1.0 | en | 20 |" in card
    assert "| 2026-01-01 | web | not stated | zh | 10 |" in card


def test_a_published_model_loads_with_the_weights_that_were_trained(trained: Any):
    space, model = trained
    loaded = load_model(Workspace(space.store), model)
    assert loaded.model.describe() == loaded.config["description"]


def test_a_night_that_is_not_published_is_an_error_for_the_user(workspace: Any):
    with pytest.raises(InputError, match="not published"):
        train(Workspace(workspace.store), workspace.cfg, workspace.nights, "2026-09-09")
