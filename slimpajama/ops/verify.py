"""The check of a workspace: every listed file, every manifest, the list of nights, pointers, and that all are there.

Files are hashed block by block as they are read, so a file may be larger than memory.
"""

import hashlib
import io
import time
from collections.abc import Collection, Iterator
from typing import cast

from slimpajama.core.errors import ModelError, StorageError, printable
from slimpajama.core.progress import track
from slimpajama.core.stopping import Pool
from slimpajama.workspace import layout
from slimpajama.workspace.catalogue import records, restore
from slimpajama.workspace.manifest import FileEntry, load_manifest
from slimpajama.workspace.open import Workspace
from slimpajama.workspace.store import Store, is_sealed, outside_errors
from slimpajama.workspace.tombstones import forgotten_list

WEIGHTS = "model.safetensors"
RESTORE = "Restore it from a backup"
INDEX_AGAIN = "`slimpajama verify --repair` makes it again from the night's shards."
# So long after each other is looked again at what is wrong.
PAUSES_S = (0.1, 1.0)
Problems = dict[str, StorageError]
"""By path in the workspace, in order."""


def verify(workspace: Workspace, threads: int = 1) -> tuple[int, Problems]:
    """Check everything that is published.

    Args:
        threads: Files that are read at once.

    Returns:
        How many files the manifests list, and what is wrong; each error's hint says what to do next.
    """
    files, bad = _look(workspace, threads)
    for pause in PAUSES_S if bad else ():
        time.sleep(pause)
        # What a night or `forget` was just replacing is whole by now.
        _, again = _look(workspace, threads, bad)
        bad = {path: again[path] for path in bad if path in again}
    return files, bad


def _look(workspace: Workspace, threads: int, only: Collection[str] | None = None) -> tuple[int, Problems]:
    """Check everything, or of the listed files `only` some."""
    present = {path for path in workspace.store.list() if not path.startswith(f"{layout.SCRATCH}/")}
    problems: list[StorageError | None] = []
    entries: list[FileEntry] = []
    for path in sorted(filter(layout.is_published_manifest, present)):
        try:
            manifest = load_manifest(workspace.store, path)
            entries += [e for e in manifest.files if only is None or e.path in only] if manifest else ()
        except StorageError as error:
            hint = f"A manifest cannot be rebuilt from itself. {RESTORE}."
            if layout.place(path).kind == "index":
                hint = INDEX_AGAIN
            problems.append(StorageError(error.what, where=path, hint=hint))

    def check(entry: FileEntry) -> StorageError | None:
        found = _problem(workspace.store, entry, present)
        bar.advance(entry.bytes)
        return found

    with track("verify", total=sum(entry.bytes for entry in entries), unit="B") as bar, Pool(threads, "verify") as pool:
        problems += pool.map(check, entries)
    problems += [*_nights(workspace, present), *_pointers(workspace, present), *_catalogue(workspace.store, present)]
    bad: Problems = {}
    for problem in problems:
        if problem:
            bad.setdefault(problem.where, problem)
    return len(entries), dict(sorted(bad.items()))


def _is_missing(store: Store, path: str, present: set[str]) -> bool:
    # It may have been written since all paths were listed.
    return path not in present and not store.exists(path)


def _problem(store: Store, entry: FileEntry, present: set[str]) -> StorageError | None:
    hint = _what_next(entry.path)
    try:
        name = store.name(entry.path, entry.sha256)
        if name not in present and _is_missing(store, entry.path, present):
            return StorageError("missing", where=entry.path, hint=hint)
        with store.open(entry.path) as file:
            size = file.seek(0, io.SEEK_END)
            file.seek(0)
            known = size == entry.bytes
            digest = hashlib.file_digest(cast(io.BufferedReader, file), "sha256").hexdigest() if known else ""
    except outside_errors(StorageError) as error:
        return StorageError("cannot be read", where=entry.path, found=str(error), hint=hint)
    if digest and digest == entry.sha256:
        return _weights_problem(store, entry) if layout.name_of(entry.path) == WEIGHTS else None
    expected, found = f"{entry.bytes} bytes", f"{size} bytes"
    if digest:
        expected, found = f"sha256 {entry.sha256[:16]}…", f"sha256 {digest[:16]}…"
    return StorageError("not what its manifest says", where=entry.path, expected=expected, found=found, hint=hint)


def _weights_problem(store: Store, entry: FileEntry) -> StorageError | None:
    """Return what is wrong with weights that are those that were published."""
    from safetensors.torch import load

    from slimpajama.model.loading import require_finite

    try:
        require_finite(load(store.read(entry.path)), entry.path)
    except ModelError as error:
        return StorageError(error.what, where=entry.path, found=error.found, hint=_what_next(entry.path))
    return None


def _what_next(path: str) -> str:
    """Return what to do about a damaged file."""
    place = layout.place(printable(path))
    match place:
        case ("nights", _, "index", _):
            return INDEX_AGAIN
        case ("nights", *_):
            return f"`slimpajama verify --repair` makes it again from the raw files. Or: {RESTORE.lower()}."
        case ("reports", night, "samples.json", _):
            samples = layout.report(night).samples_manifest
            return f"{RESTORE}, or delete {samples}, and `slimpajama run --night {night}` writes them again."
        case ("reports", *_):
            return "`slimpajama verify --repair` renders it again."
        case ("models", model, "evaluations", _):
            folder = layout.model(model).evaluation(place.inner).path
            command = f"`slimpajama evaluate --night {place.inner} --model {model}`"
            return f"{RESTORE}, or delete {folder}, and {command} measures again."
        case ("models", model, "memory", _):
            folder = layout.model(model).memory(place.inner).path
            command = f"`slimpajama evaluate --night {place.inner} --model {model}`"
            return f"{RESTORE}, or delete {folder}, and {command} learns it again."
        case ("models", *_):
            return (
                f"{RESTORE}, or do without the model: `slimpajama models rollback` if it is the champion,"
                f" delete {place.folder.path}, `slimpajama train` again."
            )
        case ("tuned" | "pairs", *_):
            return f"{RESTORE}, or delete {place.folder.path}, and `slimpajama tune` makes it again."
    return f"{RESTORE}."


def _nights(workspace: Workspace, present: set[str]) -> Iterator[StorageError]:
    """Yield where nights and their list do not agree."""
    try:
        listed = workspace.nights.published()
    except StorageError as error:
        what = f"not readable as the list of nights: {error.what}"
        yield StorageError(what, where=layout.NIGHTS_INDEX, hint=f"{RESTORE}.")
        return
    for path in (layout.night(night).manifest for night in listed):
        if _is_missing(workspace.store, path, present):
            yield StorageError(
                f"missing, and {layout.NIGHTS_INDEX} lists its night", where=path, hint=f"{RESTORE}, with its night."
            )
    places = [place for path in present if (place := layout.place(path)).root == "nights"]
    # A night with a work folder is being published; if that was broken off, the next run ends it.
    known = {*listed, *(place.owner for place in places if place.kind == "work")}
    for night in sorted({place.owner for place in places if place.is_manifest} - known):
        command = f"`slimpajama prepare --night {printable(night)}`"
        yield StorageError(
            f"its night is not in {layout.NIGHTS_INDEX}",
            where=layout.night(night).manifest,
            hint=f"{command} ends a publication that was broken off. Or: restore the list.",
        )


def _pointers(workspace: Workspace, present: set[str]) -> Iterator[StorageError]:
    """Yield the pointers that name a model that is not there."""
    models = workspace.models

    def serving() -> list[str]:
        return list(models.tuned_tasks()[0].values())

    def forgotten() -> list[str]:
        forgotten_list(workspace.store)
        return []

    another = "`slimpajama models promote ID` chooses another champion"
    pointers = {
        layout.CHAMPION: (layout.model, models.rollback_targets, another),
        layout.TUNED: (layout.tuned, serving, "`slimpajama tune` makes one again"),
        layout.FORGOTTEN: (layout.model, forgotten, ""),
    }
    for path, (place, named, hint) in pointers.items():
        if path not in present:
            continue
        try:
            gone = [
                model for model in sorted(set(named())) if _is_missing(workspace.store, place(model).manifest, present)
            ]
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


def _catalogue(store: Store, present: set[str]) -> Iterator[StorageError]:
    """Yield what was published and is gone, and what is there and not noted; earlier versions noted nothing."""
    notes = {path.removeprefix(layout.noted("")) for path in present if path.startswith(layout.noted(""))}
    for path in sorted(notes):
        if _is_missing(store, path, present):
            hint = INDEX_AGAIN if layout.place(path).kind == "index" else restore(printable(path))
            yield StorageError("missing, and was published", where=path, hint=hint)
    # What has a work folder is being published; if that was broken off, the next run ends it.
    working = {place.folder for path in present if (place := layout.place(path)).kind == "work"}
    for path in records(present):
        if layout.place(path).folder in working or (working and path in layout.POINTERS):
            continue
        if path not in notes and not _is_missing(store, path, set()) and is_sealed(store.read(path)):
            hint = "`slimpajama verify --repair` writes it again."
            yield StorageError("missing, and what it stands for is there", where=layout.noted(path), hint=hint)
