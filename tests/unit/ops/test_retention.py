"""Clean-up takes what nothing refers to, and nothing else; a broken-off one is finished by the next."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from slimpajama.core.config import Config, RetentionConfig
from slimpajama.corpus.index import index_nights
from slimpajama.ops.retention import clean_up, removable
from slimpajama.ops.verify import verify
from slimpajama.workspace import layout
from slimpajama.workspace.index import open_index
from slimpajama.workspace.local import LocalStore
from slimpajama.workspace.manifest import Manifest, json_bytes
from slimpajama.workspace.open import Workspace
from slimpajama.workspace.registry import Models

NIGHTS = [f"2026-01-0{number}" for number in range(1, 7)]
WEIGHTS = 1000


def add_model(store: LocalStore, name: str, night: str, started_from: str = "") -> str:
    model = f"{night}-tiny-{name}"
    about = {"night": night, "started_from": started_from}
    store.write(f"models/{model}/model.safetensors", bytes(WEIGHTS))
    store.write(f"models/{model}/evaluations/{night}/evaluation.json", b"{}")
    store.write(f"models/{model}/manifest.json", json_bytes(Manifest("train", name, (), {}, about)))
    return model


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    """Six nights; a model each, those of the first, third and fifth became champion."""
    store, best = LocalStore(str(tmp_path / "今夜")), ""
    for number, night in enumerate(NIGHTS):
        store.write(f"nights/{night}/manifest.json", json_bytes(Manifest("night", night, (), {}, {"night": night})))
        store.write(f"nights/{night}/documents/a.parquet", b"text")
        store.write(f"reports/{night}/report.html", b"<p>")
        model = add_model(store, f"{number}", night, best)
        if number % 2 == 0:
            Models(store).promote(model, "better")
            best = model
    store.write("nights/index.json", json_bytes({"nights": NIGHTS}))
    return store


def names(store: LocalStore) -> list[str]:
    return [model.rsplit("-", 1)[1] for model in Models(store).published()]


def test_rejected_models_go_when_their_night_is_old_and_champions_stay(store: LocalStore):
    report = clean_up(Workspace(store), RetentionConfig(nights=3))
    assert [one.folder for one in report.removed] == ["models/2026-01-02-tiny-1"]
    assert names(store) == ["0", "2", "3", "4", "5"]
    clean_up(Workspace(store), RetentionConfig(nights=1))
    assert names(store) == ["0", "2", "4", "5"]


def test_nothing_goes_where_all_nights_are_kept(store: LocalStore):
    before = store.list()
    assert clean_up(Workspace(store), RetentionConfig(nights=0)).removed == []
    assert store.list() == before


def test_corpus_and_reports_are_never_touched(store: LocalStore):
    before = [path for path in store.list() if path.startswith(("nights/", "reports/"))]
    clean_up(Workspace(store), RetentionConfig(nights=1, max_gb=1e-9))
    assert [path for path in store.list() if path.startswith(("nights/", "reports/"))] == before


def test_what_a_kept_model_started_from_stays_though_a_rollback_cannot_reach_it(store: LocalStore):
    # Model 4 is left; model 2 is the champion, and 5 of the newest night was started from 4.
    Models(store).rollback()
    clean_up(Workspace(store), RetentionConfig(nights=1))
    assert Models(store).champion() == "2026-01-03-tiny-2"
    assert names(store) == ["0", "2", "4", "5"]


def test_above_the_size_the_oldest_rejected_models_go_first_and_only_as_many_as_it_takes(store: LocalStore):
    size = store.size()
    report = clean_up(Workspace(store), RetentionConfig(nights=0, max_gb=(size - WEIGHTS) / 1e9))
    assert [one.folder for one in report.removed] == ["models/2026-01-02-tiny-1"]
    assert report.bytes_left == store.size() < size - WEIGHTS
    report = clean_up(Workspace(store), RetentionConfig(nights=0, max_gb=1e-9))
    assert names(store) == ["0", "2", "4", "5"]
    assert "more than retention.max_gb" in report.text()


def test_a_dry_run_names_the_same_and_removes_nothing(store: LocalStore):
    before, cfg = store.list(), RetentionConfig(nights=1)
    planned = clean_up(Workspace(store), cfg, dry_run=True)
    assert store.list() == before
    done = clean_up(Workspace(store), cfg)
    assert planned.removed == done.removed
    assert planned.bytes_left == done.bytes_left
    assert "would go" in planned.text()
    assert "removed" in done.text()


def test_a_removal_that_was_broken_off_is_finished_by_the_next(store: LocalStore, monkeypatch: pytest.MonkeyPatch):
    whole = LocalStore.delete_tree

    def dies(self: LocalStore, prefix: str) -> None:
        if prefix.startswith("models/"):
            raise KeyboardInterrupt
        whole(self, prefix)

    monkeypatch.setattr(LocalStore, "delete_tree", dies)
    with pytest.raises(KeyboardInterrupt):
        clean_up(Workspace(store), RetentionConfig(nights=3))
    monkeypatch.setattr(LocalStore, "delete_tree", whole)
    assert "models/2026-01-02-tiny-1/model.safetensors" in store.list()
    assert names(store) == ["0", "2", "3", "4", "5"]
    clean_up(Workspace(store), RetentionConfig(nights=3))
    assert not store.list("models/2026-01-02-tiny-1")


def test_leftovers_of_finished_runs_go_and_what_may_be_resumed_stays(store: LocalStore):
    leftovers = [
        f"models/{NIGHTS[5]}-tiny-5/checkpoints/step-0000001/checkpoint.json",
        f"models/{NIGHTS[1]}-tiny-unfinished/checkpoints/step-0000001/state.safetensors",
        f"nights/{NIGHTS[2]}/work/clean/state.json",
    ]
    resumable = [
        f"models/{NIGHTS[5]}-tiny-unfinished/checkpoints/step-0000001/checkpoint.json",
        "nights/2026-01-07/work/clean/state.json",
        f"reports/{NIGHTS[5]}/work/samples/state.json",
    ]
    for path in leftovers + resumable:
        store.write(path, b"{}")
    clean_up(Workspace(store), RetentionConfig(nights=0))
    left = store.list()
    assert not set(leftovers) & set(left)
    assert set(resumable) <= set(left)


def test_an_empty_workspace_has_nothing_to_remove(tmp_path: Path):
    store = LocalStore(str(tmp_path / "empty"))
    assert removable(Workspace(store), RetentionConfig()) == []
    assert clean_up(Workspace(store), RetentionConfig()).bytes_left == 0


def test_tuned_models_stay_while_they_serve_a_task_or_are_young(store: LocalStore):
    old, young = f"{NIGHTS[0]}-tiny-0", f"{NIGHTS[-1]}-tiny-5"
    for name, base in (("old-serving", old), ("old", old), ("gone", "no-longer-there"), ("young", young)):
        about = {"base": base}
        store.write(f"tuned/{name}/model.safetensors", bytes(WEIGHTS))
        store.write(f"tuned/{name}/manifest.json", json_bytes(Manifest("tune", name, (), {}, about)))
    store.write("tuned/2026-01-01-broken/checkpoints/step-0000001/state.safetensors", b"")
    store.write("tuned/current.json", json_bytes({"tasks": {"translation": "old-serving"}, "history": []}))
    gone = [one.folder for one in clean_up(Workspace(store), RetentionConfig(nights=3)).removed]
    assert gone == ["tuned/2026-01-01-broken", "models/2026-01-02-tiny-1", "tuned/gone", "tuned/old"]
    assert store.exists("tuned/current.json")


def test_a_merged_index_that_a_larger_one_replaced_goes(
    tmp_path: Path, two_nights: Path, more_nights: Callable[..., None]
):
    workspace = Workspace(LocalStore(str(tmp_path / "merged")))
    tokenizer = next(two_nights.glob("nights/*/tokenizer/tokenizer.json")).read_bytes()
    for number in range(9):
        more_nights(workspace.store, f"2026-02-0{number + 1}", number, tokenizer)
        index_nights(workspace, Config())
    nights = workspace.nights.published()
    asked = [entry for part in open_index(workspace, nights)[0].parts for entry in part.entries.values()]
    merged = {layout.folder_of(path) for path in workspace.store.list("nights") if "/merged/" in path}
    used = {layout.folder_of(entry.path) for entry in asked if "/merged/" in entry.path}
    gone = {one.folder for one in clean_up(workspace, RetentionConfig()).removed}
    assert gone
    assert gone == merged - used
    assert [entry for part in open_index(workspace, nights)[0].parts for entry in part.entries.values()] == asked
    # It does not come back.
    assert index_nights(workspace, Config()).merged == []
    assert verify(workspace)[1] == {}
