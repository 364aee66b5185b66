"""Which raw files are there, which of them are new, and how they are grouped into units of work.

A file is known by (source, path, content). Only published nights count as having read it, so a night that failed
leaves no gap.
"""

import glob
import hashlib
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO

from slimpajama.core.config import Config, SourceConfig
from slimpajama.core.errors import InputError, printable
from slimpajama.core.logs import step_log
from slimpajama.corpus.sources.formats import format_of
from slimpajama.corpus.sources.records import RejectedRecord
from slimpajama.corpus.sources.remote import list_remote, open_remote, remote_version
from slimpajama.workspace import layout
from slimpajama.workspace.local import SWAP, TMP
from slimpajama.workspace.store import LOCK

NO_FILES = RejectedRecord("", "no-files", "0 files", "at least 1 file")
LEFT_OUT = RejectedRecord("", "left-out", "a note or a cache beside a dataset", "a file of data")
# What lies beside the data in the folder of a dataset; notes are data where their format is asked for.
_BESIDE = re.compile(r"(state|dataset_dict|dataset_infos?)\.json|cache-.*\.arrow|_.*", re.DOTALL)
_NOTE = re.compile(r"(readme|licen[cs]e)(\..*)?", re.DOTALL | re.IGNORECASE)
# Source, path or pattern, and what is wrong with it.
Problem = tuple[str, str, RejectedRecord]
# Source, path and content of a file.
Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class InputFile:
    """One raw file as the plan saw it."""

    source: str
    path: str
    """As the pattern matched it: relative for a relative pattern; valid Unicode whatever the disk holds."""
    bytes: int
    sha256: str
    """Of its content; for a remote file its store's etag."""
    location: str = field(compare=False)
    """Where it is opened: an absolute path, or a URI. Not part of ids or manifests."""
    stamp: tuple[int, ...] = field(default=(), compare=False)
    """Of a local file: what the disk says of it, which a write changes. Spares hashing it a second time."""
    again: tuple[str, ...] = ()
    """Of a file that an earlier night has read: the steps whose refusals are tried again."""

    @property
    def key(self) -> Key:
        """What it is known by."""
        return self.source, self.path, self.sha256

    def entry(self) -> dict[str, Any]:
        """Return what the night's manifest lists of it, and a later night's `plan` takes as known."""
        again = {"again": list(self.again)} if self.again else {}
        return {"source": self.source, "path": self.path, "bytes": self.bytes, "sha256": self.sha256} | again


@dataclass(frozen=True, slots=True)
class Plan:
    """What a night reads."""

    units: tuple[tuple[InputFile, ...], ...] = ()
    """New and changed files; small ones together, in order."""
    problems: tuple[Problem, ...] = ()
    readable: frozenset[str] = frozenset()
    """Sources that have a file, be it a known one."""

    @property
    def files(self) -> tuple[InputFile, ...]:
        """Every file that is read, in order."""
        return tuple(file for unit in self.units for file in unit)


def plan(
    cfg: Config,
    known: Iterable[dict[str, Any]],
    again: Mapping[Key, tuple[str, ...]] = MappingProxyType({}),
    *,
    quick: bool = False,
) -> Plan:
    """List every source's files and keep those that no earlier night has read in this very form.

    Args:
        cfg: `ingest` and `run.source_root` are used.
        known: Inputs that published nights list: `source`, `path`, `bytes`, `sha256`.
        again: Known files that are kept all the same, and the steps whose refusals are tried again.
        quick: Read no local file whose path and size already say that it is new; its `sha256` stays empty.
    """
    known = list(known)
    seen = {(entry["source"], entry["path"], entry["sha256"]) for entry in known}
    doubtful = {(entry["source"], entry["path"], entry["bytes"]) for entry in known} if quick else None
    files, problems = _listed(cfg, doubtful)
    todo = [replace(file, again=again.get(key, ())) for key, file in files.items() if key not in seen or key in again]
    return replace(_plan(cfg, todo, problems), readable=frozenset(file.source for file in files.values()))


def plan_again(cfg: Config, inputs: list[dict[str, Any]], problems: list[list[str]]) -> Plan:
    """Return the plan of a published night, however many files have come since.

    Args:
        cfg: The night's.
        inputs: The files that its manifest lists, as `plan` takes them.
        problems: Source, path or pattern, and rule of what it could not read.

    Raises:
        InputError: A file is gone, or is not what it was.
    """
    read = {(entry["source"], entry["path"], entry["bytes"]) for entry in inputs}
    found, unread = _listed(cfg, read)
    unread += [(source, path, NO_FILES) for source, path, rule in problems if rule == NO_FILES.rule]
    bad = {(source, path, reason.rule): reason for source, path, reason in unread}
    keys = [(entry["source"], entry["path"], entry["sha256"]) for entry in inputs]
    if changed := [path for source, path, content in keys if (source, path, content) not in found]:
        raise InputError(
            f"{len(changed)} of {len(keys)} raw files are gone or were changed",
            where=changed[0],
            expected="what the night has read",
            hint="Put them back, or name the folder of --config that they lie in.",
        )
    again = [(source, path, bad[source, path, rule]) for source, path, rule in problems if (source, path, rule) in bad]
    files = [replace(found[key], again=tuple(entry.get("again", ()))) for key, entry in zip(keys, inputs, strict=True)]
    return _plan(cfg, files, again)


def _listed(cfg: Config, doubtful: set[tuple[str, str, int]] | None) -> tuple[dict[Key, InputFile], list[Problem]]:
    """Return all sources' files by (source, path, sha256), and what is wrong; `doubtful` as for `list_source`."""
    found = [item for source in cfg.ingest.sources for item in list_source(source, cfg, doubtful)]
    files = {item.key: item for item in found if isinstance(item, InputFile)}
    return files, [item for item in found if not isinstance(item, InputFile)]


def _plan(cfg: Config, files: list[InputFile], problems: list[Problem]) -> Plan:
    return Plan(tuple(_units(files, int(cfg.ingest.part_mb * 1e6))), tuple(problems))


def _units(files: list[InputFile], unit_bytes: int) -> Iterator[tuple[InputFile, ...]]:
    """Group neighbours up to `unit_bytes`; a larger file is a unit of its own."""
    unit: list[InputFile] = []
    size = 0
    for file in files:
        if unit and size + file.bytes > unit_bytes:
            yield tuple(unit)
            unit, size = [], 0
        unit.append(file)
        size += file.bytes
    if unit:
        yield tuple(unit)


def list_source(
    source: SourceConfig, cfg: Config, doubtful: set[tuple[str, str, int]] | None = None
) -> Iterator[InputFile | Problem]:
    """Yield a source's files in order of their paths, and what is wrong, be it that there are none.

    What slimpajama itself has written into the workspace is left out, with a warning.

    Args:
        source: Where to look.
        cfg: `workspace`, and `run.source_root`, which a relative pattern starts at.
        doubtful: Source, path and size of local files that must be hashed; None for all.
    """
    outputs = _Outputs(cfg.workspace)
    yield from list(_found(source, cfg.run.source_root, doubtful, outputs)) or [(source.name, source.uri, NO_FILES)]
    if outputs.met:
        what = f"source {source.name}: its pattern covers the workspace; {outputs.met} files there are left out"
        step_log("ingest").warning(f"{what}. Narrow {printable(source.uri)}, or move the workspace.")


class _Outputs:
    """What slimpajama itself writes into a workspace, by whatever links one comes there."""

    def __init__(self, workspace: str) -> None:
        tops = [f"{workspace.rstrip('/')}/{name}" for name in (*layout.ROOTS, TMP, LOCK, SWAP)]
        self._tops = {top if "://" in workspace else os.path.realpath(top) for top in tops}
        self._real = cache(os.path.realpath)
        self.met = 0

    def has(self, location: str) -> bool:
        """Return whether a file is one of them, and count it."""
        path = location.removeprefix("file://")
        if "://" not in path:
            folder, _, name = path.rpartition("/")
            path = os.path.realpath(path) if Path(path).is_symlink() else f"{self._real(folder)}/{name}"
        is_own = not self._tops.isdisjoint(layout.folders_of(f"{path}/"))
        self.met += is_own
        return is_own


def _found(
    source: SourceConfig, root: str, doubtful: set[tuple[str, str, int]] | None, outputs: _Outputs
) -> Iterator[InputFile | Problem]:
    pattern = f"{source.uri}**/*" if source.uri.endswith("/") else source.uri
    if "://" in source.uri:
        for uri, size, version in list_remote(source.uri, pattern):
            if outputs.has(uri):
                continue
            if _left_out(source, uri):
                yield source.name, uri, LEFT_OUT
            else:
                yield InputFile(source.name, uri, size, version, uri)
        return
    lost: list[OSError] = []
    for match in sorted(matches(pattern, root, lost)):
        if outputs.has(os.path.join(root, match)):  # noqa: PTH118 - may be no Unicode
            continue
        full = Path(root, match)
        path = _unicode(match)
        try:
            status = full.stat()
            if stat.S_ISDIR(status.st_mode):
                continue
            # Opening a pipe would wait for ever.
            if not stat.S_ISREG(status.st_mode):
                yield source.name, path, _unreadable("a device or a pipe", "a regular file")
                continue
            if _left_out(source, path):
                yield source.name, path, LEFT_OUT
                continue
            is_hashed = doubtful is None or (source.name, path, status.st_size) in doubtful
            sha256 = file_sha256(full) if is_hashed else ""
            yield InputFile(source.name, path, status.st_size, sha256, str(full), _stamp(status))
        except OSError as error:
            yield source.name, path, _unreadable(error.strerror or str(error), "a file that can be read")
    for loss in lost:
        path = _unicode(str(loss.filename))
        yield source.name, path, _unreadable(loss.strerror or str(loss), "a folder to be listed")


def matches(pattern: str, root: str, lost: list[OSError]) -> set[str]:
    """Return what a local pattern matches below `root`; `**` enters each folder once, whatever links lead to it.

    `glob` alone would go round one loop of links forty times, and round two of them for ever; nor would it tell of a
    folder that cannot be listed, which is added to `lost`.
    """
    pattern = f"{pattern}/*" if f"/{pattern}".endswith("/**") else pattern
    head, deep, tail = f"/{pattern}".partition("/**/")
    if not deep:
        return set(glob.glob(pattern, root_dir=root or None))  # noqa: PTH207 - keeps the prefix
    tops = glob.glob(head[1:], root_dir=root or None) if head[1:] else [""]  # noqa: PTH207
    folders = {folder for top in tops if Path(root, top).is_dir() for folder in _folders(top, root, lost)}
    return {
        os.path.join(folder, name)  # noqa: PTH118 - keeps the prefix
        for folder in sorted(folders)
        for name in matches(tail, os.path.join(root, folder), lost)  # noqa: PTH118
    }


def _folders(top: str, root: str, lost: list[OSError]) -> Iterator[str]:
    """Yield a folder and all below it but hidden ones: each once, by links only those that lie elsewhere."""
    links, met = [top], set[tuple[int, int]]()
    while links:
        link = links.pop(0)
        base = os.path.join(root, link) or "."  # noqa: PTH118 - keeps the prefix
        for full, names, _ in os.walk(base, onerror=lost.append):
            status = Path(full).stat()
            known = (status.st_dev, status.st_ino) in met
            met.add((status.st_dev, status.st_ino))
            names[:] = [] if known else sorted(name for name in names if not name.startswith("."))
            if not known:
                below = full[len(base) :].lstrip("/")
                folder = os.path.join(link, below) if below else link  # noqa: PTH118
                yield folder
                links += [f"{folder}/{name}" if folder else name for name in names if Path(full, name).is_symlink()]


def _unreadable(found: str, expected: str) -> RejectedRecord:
    return RejectedRecord("", "unreadable", found, expected)


def _unicode(path: str) -> str:
    return os.fsencode(path).decode("utf-8", "backslashreplace").replace(os.sep, "/")


def _left_out(source: SourceConfig, path: str) -> bool:
    """Whether a file of a folder is none of its data: a pattern asks for what it matches."""
    name = path.rsplit("/", 1)[-1]
    is_note = _NOTE.fullmatch(name) and format_of(name) != source.format
    return source.uri.endswith("/") and bool(is_note or _BESIDE.fullmatch(name))


def _stamp(status: os.stat_result) -> tuple[int, ...]:
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def file_sha256(file: Path) -> str:
    """Return the hash of a file's content."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def open_input(file: InputFile) -> BinaryIO:
    """Open a planned file for reading.

    Raises:
        OSError: It is gone or may not be read.
        InputError: A server gives no answer.
    """
    return open_remote(file.location) if "://" in file.location else Path(file.location).open("rb")


def current_version(file: InputFile) -> str:
    """Return what `file.sha256` would be now.

    Raises:
        OSError: It is gone or may not be read.
    """
    if "://" in file.location:
        return remote_version(file.location)
    local = Path(file.location)
    return file.sha256 if _stamp(local.stat()) == file.stamp else file_sha256(local)


def check_unchanged(file: InputFile) -> None:
    """Check that a file that was read is still what the plan saw.

    Raises:
        InputError: It was changed.
        OSError: It is gone or may not be read.
    """
    if current_version(file) != file.sha256:
        raise InputError("changed while it was read", where=file.path, hint="Run again once it is written.")
