from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from slimpajama.core.errors import LockedError, ModelError, StorageError
from slimpajama.model.loading import load_model
from slimpajama.workspace.local import LocalStore
from slimpajama.workspace.manifest import Manifest, json_bytes, load_manifest
from slimpajama.workspace.open import Workspace
from slimpajama.workspace.registry import Models
from slimpajama.workspace.store import read_json


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    """Three published models of three nights, without weights, and one that is still being trained."""
    store = LocalStore(str(tmp_path))
    for name in "abc":
        manifest = Manifest("train", name, (), {}, {"night": f"night-{name}"})
        store.write(f"models/{name}/manifest.json", json_bytes(manifest))
    store.write("models/d/checkpoints/step-0000001/checkpoint.json", b"{}")
    store.write("models/a/evaluations/n/manifest.json", b"{}")
    return store


def test_only_models_with_a_manifest_are_listed(store: LocalStore):
    assert Models(store).published() == ["a", "b", "c"]


def test_there_is_no_champion_before_the_first_promotion(store: LocalStore):
    assert Models(store).champion() is None
    with pytest.raises(ModelError, match="no champion yet"):
        load_model(Workspace(store))


def test_a_promotion_is_on_record_with_its_reason_and_no_clock(store: LocalStore):
    assert Models(store).promote("a", "first")
    assert Models(store).champion() == "a"
    entry = {"action": "promote", "model": "a", "night": "night-a", "reason": "first"}
    assert read_json(store, "models/champion.json") == {"model": "a", "night": "night-a", "history": [entry]}


def test_promoting_the_champion_again_changes_nothing(store: LocalStore):
    Models(store).promote("a", "first")
    before = store.read("models/champion.json")
    assert not Models(store).promote("a", "again")
    assert store.read("models/champion.json") == before


def test_rollbacks_go_back_one_champion_each_and_stay_on_record(store: LocalStore):
    for name in "abc":
        Models(store).promote(name, "better")
    assert Models(store).rollback() == "b"
    assert Models(store).rollback() == "a"
    assert Models(store).champion() == "a"
    assert [entry["action"] for entry in Models(store).history()] == ["promote"] * 3 + ["rollback"] * 2
    with pytest.raises(ModelError, match="no champion to go back to"):
        Models(store).rollback()
    Models(store).promote("c", "by hand")
    assert Models(store).rollback() == "a"


def test_a_night_is_compared_with_the_champion_it_did_not_make(store: LocalStore):
    assert Models(store).champion_before("night-a") is None
    Models(store).promote("a", "first")
    Models(store).promote("b", "better")
    assert Models(store).champion_before("night-b") == "a"
    assert Models(store).champion_before("night-c") == "b"


def test_a_champion_is_given_each_memory_once_and_a_rollback_brings_its_last_one_back(store: LocalStore):
    models = Models(store)
    assert not models.admit_memory("a", "night-a", "no champion yet")
    models.promote("a", "first", "night-a")
    assert models.admit_memory("a", "night-b", "more text")
    assert (models.memory_of("a"), models.memory_before("night-b")) == ("night-b", "night-a")
    models.promote("b", "better", "night-c")
    assert not models.admit_memory("a", "night-c", "is not the champion")
    assert (models.memory_of("b"), models.memory_of("a"), models.champion()) == ("night-c", "night-b", "b")
    assert models.rollback() == "a"
    assert models.memory_of("a") == "night-b"
    assert models.admit_memory("a", "night-d", "more text")
    assert not models.admit_memory("a", "night-b", "again")
    assert models.memory_of("a") == "night-d"


def test_a_model_that_never_was_champion_has_its_newest_memory(store: LocalStore):
    assert Models(store).memory_of("c") == ""
    store.write("nights/index.json", json_bytes({"nights": ["2026-01-01.2", "2026-01-01.10"]}))
    for night in ("2026-01-01.2", "2026-01-01.10"):
        store.write(f"models/c/memory/{night}/manifest.json", b"{}")
    assert Models(store).memory_of("c") == "2026-01-01.10"
    # One that was promoted without a memory has none, until the gate admits one.
    Models(store).promote("c", "first", "")
    assert Models(store).memory_of("c") == ""


def test_a_gate_promotes_a_model_only_once_even_after_a_rollback(store: LocalStore):
    Models(store).promote("a", "first")
    assert Models(store).promote_once("b", "better")
    Models(store).rollback()
    assert not Models(store).promote_once("b", "better")
    assert Models(store).champion() == "a"


@pytest.mark.parametrize("name", ["d", "zzz", "", "..", "../models/a", "a/evaluations"])
def test_what_is_not_published_cannot_be_promoted(store: LocalStore, name: str):
    with pytest.raises(ModelError, match="no such model"):
        Models(store).promote(name, "no")
    assert Models(store).champion() is None


def test_two_promotions_at_once_have_one_winner_and_the_other_says_so(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
):
    read = Models._read

    def read_then_someone_else_is_first(models: Models) -> Any:
        found = read(models)
        monkeypatch.setattr(Models, "_read", read)
        models.promote("a", "other run")
        return found

    monkeypatch.setattr(Models, "_read", read_then_someone_else_is_first)
    with pytest.raises(LockedError, match="another run replaced the champion first"):
        Models(store).promote("b", "this run")
    assert Models(store).champion() == "a"
    assert len(Models(store).history()) == 1


def test_a_broken_pointer_is_named(store: LocalStore):
    store.write("models/champion.json", b'{"model": "a"}')
    with pytest.raises(StorageError, match=r"champion\.json"):
        Models(store).champion()


def test_the_champion_is_loaded_where_no_model_is_named(trained: Any):
    space, model = trained
    Models(space.store).promote(model, "first")
    loaded = load_model(Workspace(space.store))
    assert loaded.id == model
    tokens = torch.tensor([loaded.tokenizer.encode("今天学习")])
    assert torch.equal(loaded.model.nll(tokens), load_model(Workspace(space.store), model).model.nll(tokens))


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_model_whose_files_are_not_what_was_published_is_refused(trained: Any, name: str):
    space, model = trained
    file = Path(space.store.uri) / "models" / model / name
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    with pytest.raises(StorageError, match="not what its manifest says"):
        load_model(Workspace(space.store), model)


def test_a_model_without_its_manifest_is_refused(trained: Any):
    space, model = trained
    manifest = Path(space.store.uri) / "models" / model / "manifest.json"
    assert load_manifest(space.store, f"models/{model}/manifest.json") is not None
    manifest.unlink()
    with pytest.raises(ModelError, match="no such model"):
        load_model(Workspace(space.store), model)


def test_a_copied_workspace_loads_as_well(trained: Any, tmp_path: Path):
    space, model = trained
    copy = shutil.copytree(space.store.uri, tmp_path / "copy")
    assert load_model(Workspace(LocalStore(str(copy))), model).id == model
