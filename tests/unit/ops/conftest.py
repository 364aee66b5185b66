"""Two nights of which documents are forgotten."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from nights_to_forget import FIRST, SECOND, first_night, prepare, second_night, settings, write_model, write_raw

import slimpajama.ops.report.stage as report_stage
from slimpajama.ops.report.stage import write_report
from slimpajama.workspace.local import LocalStore
from slimpajama.workspace.manifest import Manifest, json_bytes
from slimpajama.workspace.open import Workspace


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two nights with their reports, and models; no test may change it: use `folder`."""
    folder = tmp_path_factory.mktemp("forget")
    store = LocalStore(str(folder / "workspace"))
    for night, texts in ((FIRST, first_night()), (SECOND, second_night())):
        write_raw(folder, night, texts)
        prepare(store, settings(folder), night)
        write_report(Workspace(store), night)
    write_model(store, "2025-12-31-tiny-a", ["2025-12-31"])
    write_model(store, "2026-01-01-tiny-b", [FIRST], "2025-12-31-tiny-a")
    write_model(store, "2026-01-02-tiny-c", [SECOND], "2026-01-01-tiny-b")
    store.write("tuned/t/manifest.json", json_bytes(Manifest("tune", "t", (), {}, {"base": "2026-01-02-tiny-c"})))
    return folder


@pytest.fixture
def folder(built: Path, tmp_path: Path) -> Path:
    return shutil.copytree(built, tmp_path / "copy")


@pytest.fixture
def store(folder: Path) -> LocalStore:
    return LocalStore(str(folder / "workspace"))


@pytest.fixture
def quick_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports without plots, which take half a second each."""
    monkeypatch.setattr(report_stage, "night_page", lambda report: report)
    monkeypatch.setattr(report_stage, "html", lambda page: json.dumps(page, ensure_ascii=False))
