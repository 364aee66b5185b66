"""The report is published like any stage: manifest last, the same bytes again, done once."""

from __future__ import annotations

import json

from slimpajama.core.config import Config
from slimpajama.ops.repair import repair
from slimpajama.ops.report import stage
from slimpajama.ops.report.stage import write_report
from slimpajama.workspace.layout import noted
from slimpajama.workspace.local import LocalStore
from slimpajama.workspace.open import Workspace
from slimpajama.workspace.parquet import read_verified

from .conftest import TUNED

Nights = dict[str, str | None]


def test_page_and_data_are_written_and_listed(store: LocalStore, nights: Nights) -> None:
    for night, model in nights.items():
        manifest = write_report(Workspace(store), night, model)
        assert [entry.path for entry in manifest.files] == [
            f"reports/{night}/report.html",
            f"reports/{night}/report.json",
        ]
        page, data = (read_verified(store, entry) for entry in manifest.files)
        assert page.startswith(b"<!doctype html>")
        assert json.loads(data)["night"] == night
        assert store.exists(f"reports/{night}/manifest.json")
        assert not [path for path in store.list(f"reports/{night}") if "/work/" in path]


def test_a_finished_report_is_not_made_again(store: LocalStore, nights: Nights, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    first = write_report(Workspace(store), "2026-01-02", nights["2026-01-02"])
    monkeypatch.setattr(stage, "collect", None)
    assert write_report(Workspace(store), "2026-01-02", nights["2026-01-02"]) == first


def test_a_damaged_report_that_compares_with_a_champion_is_repaired(store: LocalStore, nights: Nights) -> None:
    night, path = "2026-01-02", "reports/2026-01-02/report.html"
    write_report(Workspace(store), night, nights[night])
    before = store.read(path)
    store.write(path, before[:-1] + b"?")
    _, repaired, bad = repair(Workspace(store), Config())
    assert path not in bad
    assert path in repaired
    assert store.read(path) == before


def test_what_earlier_versions_published_is_noted_with_the_next_report(store: LocalStore, nights: Nights) -> None:
    assert not store.list("published")
    write_report(Workspace(store), "2026-01-02", nights["2026-01-02"])
    listed = [noted(f"nights/{night}/manifest.json") for night in nights]
    assert {noted("nights/index.json"), noted("tuned/current.json"), *listed} <= set(store.list("published"))


def test_a_report_that_was_lost_comes_back_with_the_same_bytes(store: LocalStore, nights: Nights) -> None:
    first = write_report(Workspace(store), "2026-01-02", nights["2026-01-02"])
    store.delete("reports/2026-01-02/manifest.json")
    assert write_report(Workspace(store), "2026-01-02", nights["2026-01-02"]) == first


def test_an_evaluation_that_came_later_makes_the_report_anew(store: LocalStore, nights: Nights) -> None:
    model = nights["2026-01-01"]
    gate = f"models/{model}/evaluations/2026-01-01/gate/manifest.json"
    held_back = store.read(gate)
    store.delete(gate)
    pending = write_report(Workspace(store), "2026-01-01", model)
    store.write(gate, held_back)
    assert write_report(Workspace(store), "2026-01-01", model).digest != pending.digest
    assert json.loads(store.read("reports/2026-01-01/report.json"))["verdict"]["promoted"] is True


def test_a_tuning_makes_the_report_anew_and_is_in_it(store: LocalStore, nights: Nights) -> None:
    model = nights["2026-01-02"]
    without = write_report(Workspace(store), "2026-01-02", model)
    assert write_report(Workspace(store), "2026-01-02", model, TUNED).digest != without.digest
    assert json.loads(store.read("reports/2026-01-02/report.json"))["tuning"]["model"] == TUNED
