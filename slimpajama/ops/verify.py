"""Whether a workspace is what it says it is: every listed file, every manifest, the list of nights, the pointers.

Files are hashed as they are read, block by block, so one may be larger than memory.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import cast

from slimpajama.core.errors import StorageError, printable
from slimpajama.core.progress import track
from slimpajama.workspace import layout
from slimpajama.workspace.manifest import FileEntry, load_manifest
from slimpajama.workspace.open import Workspace
from slimpajama.workspace.store import Store, outside_errors

# Folder of `slimpajama.ops.repair`, and gone when it is done.
SCRATCH = "repair"
RESTORE = "Restore it from a backup"
Problems = dict[str, StorageError]
"""By path in the workspace, in order."""


def verify(workspace: Workspace, threads: int = 1) -> tuple[int, Problems]:
    """Check everything that is published.

    Args:
        workspace: The workspace.
        threads: Files that are read at once.

    Returns:
        How many files the manifests list, and what is wrong; each error's hint says what to do next.
    """
    present = {path for path in workspace.store.list() if not path.startswith(f"{SCRATCH}/")}
    problems: list[StorageError | None] = []
    entries: list[FileEntry] = []
    for path in sorted(path for path in present if _is_manifest(path)):
        try:
            manifest = load_manifest(workspace.store, path)
            entries += manifest.files if manifest else ()
        except StorageError as error:
            hint = f"A manifest cannot be rebuilt from itself. {RESTORE}."
            problems.append(StorageError(error.what, where=path, hint=hint))

    def check(entry: FileEntry) -> StorageError | None:
        found = _problem(workspace.store, entry, present)
        bar.advance(entry.bytes)
        return found

    with (
        track("verify", total=sum(entry.bytes for entry in entries), unit="B") as bar,
        ThreadPoolExecutor(max(1, threads), thread_name_prefix="verify") as pool,
    ):
        problems += pool.map(check, entries)
    problems += [*_nights(workspace, present), *_pointers(workspace, present)]
    bad: Problems = {}
    for problem in problems:
        if problem:
            bad.setdefault(problem.where, problem)
    return len(entries), dict(sorted(bad.items()))


def _is_manifest(path: str) -> bool:
    """Whether it is a published one: a stage's own, in its work folder, lists what passes."""
    return path.endswith(("/manifest.json", ".manifest.json")) and "/work/" not in path


def _problem(store: Store, entry: FileEntry, present: set[str]) -> StorageError | None:
    hint = _what_next(entry.path)
    try:
        # It may have come since they were listed.
        if entry.path not in present and not store.exists(entry.path):
            return StorageError("missing", where=entry.path, hint=hint)
        with store.open(entry.path) as file:
            size = file.seek(0, io.SEEK_END)
            file.seek(0)
            known = size == entry.bytes
            digest = hashlib.file_digest(cast(io.BufferedReader, file), "sha256").hexdigest() if known else ""
    except outside_errors(StorageError) as error:
        return StorageError("cannot be read", where=entry.path, found=str(error), hint=hint)
    if digest and digest == entry.sha256:
        return None
    expected, found = f"{entry.bytes} bytes", f"{size} bytes"
    if digest:
        expected, found = f"sha256 {entry.sha256[:16]}…", f"sha256 {digest[:16]}…"
    return StorageError("not what its manifest says", where=entry.path, expected=expected, found=found, hint=hint)


def _what_next(path: str) -> str:
    """Return what to do about a damaged file."""
    match printable(path).split("/"):
        case ["nights", *_]:
            return f"`slimpajama verify --repair` makes it again from the raw files. Or: {RESTORE.lower()}."
        case ["reports", night, "samples.json"]:
            samples = f"reports/{night}/samples.manifest.json"
            return f"{RESTORE}, or delete {samples}, and `slimpajama run --night {night}` writes them again."
        case ["reports", *_]:
            return "`slimpajama verify --repair` renders it again."
        case ["models", model, "evaluations", night, *_]:
            command = f"`slimpajama evaluate --night {night} --model {model}`"
            return f"{RESTORE}, or delete models/{model}/evaluations/{night}, and {command} measures again."
        case ["models", model, *_]:
            return (
                f"{RESTORE}, or do without the model: `slimpajama models rollback` if it is the champion,"
                f" delete models/{model}, `slimpajama train` again."
            )
        case ["tuned" | "pairs" as top, name, *_]:
            return f"{RESTORE}, or delete {top}/{name}, and `slimpajama tune` makes it again."
    return f"{RESTORE}."


def _nights(workspace: Workspace, present: set[str]) -> Iterator[StorageError]:
    """Yield where nights and their list do not agree."""
    try:
        nights = [f"nights/{night}/manifest.json" for night in workspace.nights.published()]
    except StorageError:
        yield StorageError("not readable as the list of nights", where=layout.NIGHTS_INDEX, hint=f"{RESTORE}.")
        return
    for path in nights:
        if path not in present and not workspace.store.exists(path):
            yield StorageError(
                f"missing, and {layout.NIGHTS_INDEX} lists its night", where=path, hint=f"{RESTORE}, with its night."
            )
    manifests = {path for path in present if path.startswith("nights/") and path.count("/") == 2 and _is_manifest(path)}
    at_work = {path.split("/")[1] for path in present if re.match("nights/[^/]+/work/", path)}
    for path in sorted(manifests - set(nights)):
        if path.split("/")[1] in at_work:
            # It is being published; if that was broken off, the next run ends it.
            continue
        night = printable(path.split("/")[1])
        hint = f"`slimpajama prepare --night {night}` ends a publication that was broken off. Or: restore the list."
        yield StorageError(f"its night is not in {layout.NIGHTS_INDEX}", where=path, hint=hint)


def _pointers(workspace: Workspace, present: set[str]) -> Iterator[StorageError]:
    """Yield the pointers that name a model that is not there."""
    if not present & {layout.CHAMPION, layout.TUNED}:
        return

    other = "`slimpajama models promote ID` chooses another champion"
    for path, place, named, hint in (
        (layout.CHAMPION, layout.model, workspace.models.rollback_targets, other),
        (
            layout.TUNED,
            layout.tuned,
            lambda: list(workspace.models.tuned_tasks()[0].values()),
            "`slimpajama tune` makes one again",
        ),
    ):
        if path not in present:
            continue
        try:
            gone = sorted({model for model in named() if place(model).manifest not in present})
            gone = [model for model in gone if not workspace.store.exists(place(model).manifest)]
        except (StorageError, ValueError, LookupError, TypeError, AttributeError):
            yield StorageError("not readable as a pointer", where=path, hint=f"{RESTORE}.")
            continue
        if gone:
            yield StorageError(
                "names what is not there",
                where=path,
                found=", ".join(gone),
                hint=f"{RESTORE}, with its model; or {hint}.",
            )
