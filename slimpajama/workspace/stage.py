"""How a stage runs, resumes and ends: the one mechanism for data, training and reports."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from slimpajama.core.config import fingerprint
from slimpajama.core.errors import StorageError
from slimpajama.core.logs import step_log
from slimpajama.core.memory import configure_allocator, release_memory
from slimpajama.core.progress import current
from slimpajama.workspace.claims import ShareDone, hands, mine
from slimpajama.workspace.manifest import Counts, FileEntry, Manifest, T, add_counts, json_bytes, load_manifest
from slimpajama.workspace.parquet import parquet_bytes
from slimpajama.workspace.store import Store, read_json, sha256


@dataclass(slots=True)
class Part:
    """What one unit of work makes."""

    files: dict[str, pa.Table | bytes] = field(default_factory=dict)
    """Path in the workspace -> content; a table is written as Parquet, an empty table is left out."""
    counts: Counts = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    """Rows of those Parquet files that are given as bytes."""


class Stage:
    """One run of one stage.

    Args:
        store: The workspace.
        name: Short name of the stage, for people and for its folder.
        work: Folder that this stage alone uses while it runs, for example `nights/N/work/clean`.
        about: Everything the output depends on: version, settings, digests of inputs, library versions.
        manifest: Where the manifest goes; by default into `work`, for stages inside a night.

    Example:
        >>> stage = Stage(store, "clean", work="nights/N/work/clean", about={...})
        >>> if not stage.finished:
        ...     stage.map([("00000", unit), ...], clean_unit, workers=2)
        ...     stage.finish()
        >>> stage.result.counts
    """

    def __init__(self, store: Store, name: str, *, work: str, about: dict[str, Any], manifest: str = "") -> None:
        configure_allocator()
        self.store, self.name, self.work = store, name, work
        self.manifest_path = manifest or f"{work}/manifest.json"
        self.about = json.loads(json_bytes(about))
        self.fingerprint = fingerprint(name, self.about)
        found = load_manifest(store, self.manifest_path)
        self._manifest = found if found and found.fingerprint == self.fingerprint else None
        self._parts: dict[str, dict[str, Any]] = {}
        if self._manifest:
            self._drop_work()
            step_log(name).info("finished before, skipped")
        else:
            self._begin()
            current().stage_begun(self)

    @property
    def finished(self) -> bool:
        """Whether everything was written by an earlier run, or by this one."""
        return self._manifest is not None

    @property
    def resumed(self) -> bool:
        """Whether units are committed; asked when the stage begins: by an earlier run."""
        return bool(self._parts)

    @property
    def result(self) -> Manifest:
        """The manifest of the finished stage."""
        if self._manifest is None:
            raise RuntimeError(f"stage {self.name} is not finished")
        return self._manifest

    def _begin(self) -> None:
        state = f"{self.work}/state.json"
        found = read_json(self.store, state)["fingerprint"] if self.store.exists(state) else ""
        if found == self.fingerprint:
            self._read_parts()
        elif mine() is not None:
            raise StorageError(
                f"this worker would not make the same {self.name}",
                where=f"{self.store.uri}/{state}",
                expected=f"fingerprint {found or 'of a stage that runs'}",
                found=self.fingerprint,
                hint="Give every worker the same code, libraries and files: the requirements.lock of one commit.",
            )
        else:
            self.store.delete_tree(self.work)
            self.store.write(state, json_bytes({"fingerprint": self.fingerprint}))

    def _read_parts(self) -> None:
        for path in self.store.list(f"{self.work}/parts/"):
            key = path.rsplit("/", 1)[1].removesuffix(".json")
            # Of others' units a share needs to know only that they are there.
            if key not in self._parts:
                self._parts[key] = read_json(self.store, path) if key in (mine() or {key}) else {}

    def map(
        self,
        units: Sequence[tuple[str, T]],
        make: Callable[[T], Part],
        workers: int = 1,
        done: Callable[[T], None] | None = None,
    ) -> list[Counts]:
        """Run `make` for each unit that has no marker yet and commit what it returns; others may help.

        Args:
            units: Key (a file name without extension) and argument of each unit, in output order.
            make: Pure in the workspace's eyes: reads, computes, returns a `Part`. Called from threads.
            workers: Threads; the outcome does not depend on it.
            done: Called with each unit's argument as soon as it is committed or found committed.

        Returns:
            Counts of each unit, in the order of `units`.
        """

        if (share := mine()) is not None:
            # A worker's slot is one thread.
            units, workers = [(key, unit) for key, unit in units if key in share], 1
        told = set() if share is not None else self._let_help(dict(units), done)

        def run(item: tuple[str, T]) -> Counts:
            key, unit = item
            if key not in self._parts:
                self.commit(key, make(unit))
            if done and key not in told:
                done(unit)
            return dict(self._parts[key]["counts"])

        with ThreadPoolExecutor(max_workers=max(1, workers), thread_name_prefix=self.name) as pool:
            futures = [pool.submit(run, item) for item in units]
            try:
                counts = [future.result() for future in futures]
            except BaseException:
                # The first error ends the stage; committed units stay.
                pool.shutdown(cancel_futures=True)
                raise
            finally:
                release_memory()
        if share is not None and units:
            raise ShareDone
        return counts

    def _let_help(self, units: dict[str, T], done: Callable[[T], None] | None) -> set[str]:
        """Let others make what they can of the units without a marker; return the keys that `done` was called for."""
        told: set[str] = set()
        left = [key for key in units if key not in self._parts]
        others = hands()
        if others is None or len(left) < 2:
            return told
        for keys in others(self.name, left):
            told.update(keys)
            if done:
                for key in keys:
                    done(units[key])
        self._read_parts()
        return told

    def commit(self, key: str, part: Part) -> None:
        """Write a unit's files, then its marker."""
        entries = []
        for path, content in part.files.items():
            rows = content.num_rows if isinstance(content, pa.Table) else part.rows.get(path, 0)
            if isinstance(content, pa.Table) and rows == 0:
                continue
            passing = path.startswith(f"{self.work}/")
            data = parquet_bytes(content, passing=passing) if isinstance(content, pa.Table) else content
            self.store.write(path, data)
            entries.append(FileEntry(path, sha256(data), len(data), rows))
        record = json.loads(json_bytes({"files": entries, "counts": part.counts}))
        self.store.write(f"{self.work}/parts/{key}.json", json_bytes(record))
        self._parts[key] = record

    def has(self, key: str) -> bool:
        """Whether a unit is committed."""
        return key in self._parts

    def part_files(self, key: str) -> list[FileEntry]:
        """Return the files of a committed unit."""
        return [FileEntry(**entry) for entry in self._parts[key]["files"]]

    def finish(self, counts: Counts | None = None) -> Manifest:
        """Write the manifest over all committed units: from here on the stage is finished.

        Args:
            counts: Taken instead of the sum of the units' counts.
        """
        keys = sorted(self._parts)
        files = sorted((FileEntry(**e) for key in keys for e in self._parts[key]["files"]), key=lambda e: e.path)
        total = add_counts(self._parts[key]["counts"] for key in keys) if counts is None else counts
        manifest = Manifest(self.name, self.fingerprint, tuple(files), json.loads(json_bytes(total)), self.about)
        self.store.write(self.manifest_path, json_bytes(manifest))
        self._manifest = manifest
        self._drop_work()
        release_memory()
        current().stage_finished(self)
        return manifest

    def _drop_work(self) -> None:
        if not self.manifest_path.startswith(f"{self.work}/"):
            # The manifest has taken over.
            self.store.delete_tree(self.work)
