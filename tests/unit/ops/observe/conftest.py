"""A toy night: two stages, the second on the first one's outcome, watched by what `[observe]` asks for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from steps import begin_step

from slimpajama.core.config import Config, ObserveConfig, RunConfig
from slimpajama.core.logs import LineHandler, logged_to
from slimpajama.core.progress import also_to
from slimpajama.core.schema import DOCUMENTS
from slimpajama.ops.observe import observers
from slimpajama.workspace.open import Workspace, open_store
from slimpajama.workspace.step import Part
from slimpajama.workspace.store import Store

# A folder's name may hold anything but a slash.
RAW = "raw/新闻 \n\x1b[31m\"'\\{}/a.jsonl"


def both(store: Store) -> None:
    """Run `ingest` and `segment`."""
    segment(store, ingest(store))


def ingest(store: Store, fails: bool = False) -> str:
    """Write two documents and return the manifest's digest."""
    inputs = [{"source": "新闻", "path": RAW, "bytes": 7, "sha256": "0" * 64}]
    stage = begin_step(store, "ingest", work="nights/2026-01-01/work/ingest", about={"inputs": inputs})
    if not stage.finished:
        if fails:
            raise OSError("磁盘已满 disk full \x1b[31m\n")
        rows = pa.table({name: pa.nulls(2, DOCUMENTS.field(name).type) for name in DOCUMENTS.names}, schema=DOCUMENTS)
        counts = {"documents": {"新闻": 1, "news": 1}, "bytes": {"新闻": 30, "news": 10}}
        stage.commit("one", Part({"nights/2026-01-01/documents/0.parquet": rows}, counts))
        stage.finish()
    return stage.result.digest


def segment(store: Store, digest: str) -> None:
    """Write a file on `ingest`'s documents."""
    stage = begin_step(store, "segment", work="nights/2026-01-01/work/segment", about={"documents": digest})
    stage.commit("one", Part({"nights/2026-01-01/work/segment/0.bin": b"12345"}))
    stage.finish()


class Toy:
    """Runs the night and remembers what was said."""

    raw = RAW
    ingest = staticmethod(ingest)

    def __init__(self, folder: Path, workspace: str) -> None:
        self.folder, self.said = folder, list[str]()
        self.store: Store = open_store(str(folder / workspace))

    def run(self, work: Callable[[Store], Any] | None = None, **observe: str) -> None:
        cfg = replace(Config(), run=RunConfig(source_root=str(self.folder)), observe=ObserveConfig(**observe))
        watching = observers(cfg, Workspace(self.store), "2026-01-01", "nightly")
        with logged_to(LineHandler(self.said.append)), also_to(*watching, workspace=self.store.uri, night="2026-01-01"):
            (work or both)(self.store)


@pytest.fixture
def toys(tmp_path: Path) -> Callable[[str], Toy]:
    return lambda workspace: Toy(tmp_path, workspace)


@pytest.fixture
def toy(toys: Callable[[str], Toy]) -> Toy:
    return toys("工作区\n\"'\\")
