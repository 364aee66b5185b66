"""What was published: an empty file `published/PATH` says that PATH, a manifest or a pointer, must be there.

It is written after the file that it stands for, and deleted before that one.
"""

from collections.abc import Callable, Iterable
from typing import Any

from slimpajama.core.errors import StorageError
from slimpajama.workspace import layout
from slimpajama.workspace.manifest import Manifest, json_bytes
from slimpajama.workspace.store import Store, parsed_json, sealed


def note(store: Store, path: str) -> None:
    """Note that a manifest or a pointer is published."""
    if not store.exists(layout.noted(path)):
        store.write(layout.noted(path), b"")


def records(paths: Iterable[str]) -> list[str]:
    """Return which of some paths are those of published manifests and of pointers, sorted."""
    return sorted(path for path in paths if path in layout.POINTERS or layout.is_published_manifest(path))


def note_all(store: Store) -> None:
    """Note what earlier versions published, and what a kill kept from being noted."""
    present = set(store.list())
    for path in records(present):
        if layout.noted(path) not in present:
            note(store, path)


def write_manifest(store: Store, path: str, manifest: Manifest) -> None:
    """Write a manifest with a digest of its own; where it publishes its files, note that."""
    store.publish(path, sealed(json_bytes(manifest)))
    if layout.is_published_manifest(path):
        note(store, path)


def read_pointer(store: Store, path: str, new: Any) -> tuple[Any, str]:
    """Return what a pointer holds, `new` where there is none yet, and its version.

    Raises:
        StorageError: It is damaged, or was written and is gone.
    """
    data, version = store.read_versioned(path)
    if data is None and store.exists(layout.noted(path)):
        # It may have been written in between.
        data, version = store.read_versioned(path)
        if data is None:
            raise StorageError("missing, and was published", where=f"{store.uri}/{path}", hint=restore(path))
    return (new if data is None else parsed_json(data, f"{store.uri}/{path}")), version


def swap_pointer(store: Store, path: str, value: Any, version: str) -> bool:
    """Replace what was read by a value with a digest of its own; return False where someone else did so first."""
    if not store.swap(path, sealed(json_bytes(value)), version):
        return False
    note(store, path)
    return True


def restore(path: str) -> str:
    """Return what to do about a manifest or a pointer that is gone."""
    return f"Restore it from a backup. Or, where it was deleted on purpose: delete {layout.noted(path)}, too."


def delete_unlisted(
    store: Store, folder: layout.Folder, load: Callable[[], Manifest | None], is_foreign: Callable[[str], bool]
) -> None:
    """Delete what a folder's manifest does not list: written by runs that did not finish, or replaced.

    Args:
        load: Reads the manifest.
        is_foreign: Says of a path in the folder whether the manifest does not answer for it.
    """
    # Before the manifest is read: whatever another run lists and writes from here on is not in it.
    present, manifest = store.list(folder.within("")), load()
    listed = {folder.manifest}
    for entry in manifest.files if manifest else ():
        listed |= {entry.path, store.name(entry.path, entry.sha256)}
    for path in present:
        if path not in listed and not is_foreign(path):
            store.delete(path)


def forget(store: Store, folder: str) -> None:
    """Delete a folder, its manifest first: after a kill in between nothing reads what is left."""
    store.delete_tree(layout.noted(folder))
    store.give_up(folder)
