"""The list of forgotten documents, which no night may take in again: their hashes, and no word of their text.

    forgotten/index.json    {"documents": [...], "unfinished": [id, ...]}, replaced by compare-and-swap

A document is put on the list before anything of it is deleted, and stays `unfinished` until all of it is. So no night
takes it in meanwhile, and after a kill the next run knows what remains to be deleted.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from slimpajama.core.errors import LockedError, StorageError
from slimpajama.workspace import layout
from slimpajama.workspace.catalogue import read_pointer, swap_pointer
from slimpajama.workspace.store import Store

# Rule in `removed` of a document that came in again and was refused.
RULE = "forgotten"


@dataclass(frozen=True, slots=True)
class Forgotten:
    """A document that is forgotten."""

    id: str
    sha256: str
    """Of the text as it was read; empty where it could not be read."""
    by: str
    """How it was chosen: `id`, `sha256` or `pattern`; `duplicate` for a copy of such a document."""
    after: str
    """The newest night when it was forgotten."""
    nights: tuple[str, ...]
    """Nights that had it, kept or removed, oldest first."""
    models: tuple[str, ...]
    """Models that were trained on it, or began as such a model."""
    tuned: tuple[str, ...]
    """Tuned models that began as one of `models`."""


@dataclass(frozen=True, slots=True)
class ForgottenList:
    """What `forgotten/index.json` says."""

    documents: tuple[Forgotten, ...] = ()
    """In order of their ids."""
    unfinished: tuple[str, ...] = ()
    """Ids of the documents of which something may remain."""
    version: str = ""
    """Version of the file, for compare-and-swap."""

    def remaining(self) -> list[Forgotten]:
        """Return the documents of which something may remain."""
        return [entry for entry in self.documents if entry.id in self.unfinished]

    def texts(self) -> pa.Array:
        """Return the sha256 of the forgotten texts, sorted."""
        return pa.array(sorted({entry.sha256 for entry in self.documents} - {""}), pa.string())

    def ids(self) -> list[str]:
        """Return the forgotten ids."""
        return [entry.id for entry in self.documents]

    def having(self, entries: Iterable[Forgotten]) -> "ForgottenList":
        """Return the list with more documents, which are unfinished."""
        documents = {entry.id: entry for entry in self.documents}
        for entry in entries:
            before = documents.get(entry.id, entry)
            documents[entry.id] = replace(
                entry,
                nights=_union(before.nights, entry.nights),
                models=_union(before.models, entry.models),
                tuned=_union(before.tuned, entry.tuned),
            )
        unfinished = sorted({*self.unfinished, *(entry.id for entry in entries)})
        return replace(self, documents=tuple(documents[id_] for id_ in sorted(documents)), unfinished=tuple(unfinished))


def _union(first: tuple[str, ...], second: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys([*first, *second]))


def forgotten_list(store: Store) -> ForgottenList:
    """Return the workspace's list, which is empty where nothing was ever forgotten."""
    found, version = read_pointer(store, layout.FORGOTTEN, {"documents": [], "unfinished": []})
    where = f"{store.uri}/{layout.FORGOTTEN}"
    try:
        documents: list[dict[str, Any]] = [
            {name: tuple(value) if isinstance(value, list) else value for name, value in entry.items()}
            for entry in found["documents"]
        ]
        return ForgottenList(tuple(Forgotten(**entry) for entry in documents), tuple(found["unfinished"]), version)
    except (KeyError, TypeError, AttributeError) as error:
        raise StorageError(f"not a list of forgotten documents: {error}", where=where) from error


def write_list(store: Store, wanted: ForgottenList) -> ForgottenList:
    """Replace the list that `wanted` was made of, and return it as it is now.

    Raises:
        LockedError: If someone else replaced it first.
    """
    value = {"documents": wanted.documents, "unfinished": wanted.unfinished}
    if not swap_pointer(store, layout.FORGOTTEN, value, wanted.version):
        where = f"{store.uri}/{layout.FORGOTTEN}"
        raise LockedError("another run replaced the list first", where=where, hint="Run again.")
    return forgotten_list(store)
