"""The list of forgotten documents: what may not come in again, known by hashes and without a word of its text.

    forgotten/index.json    {"documents": [...], "unfinished": [id, ...]}, replaced by compare-and-swap

A document is on the list before anything of it is removed, and `unfinished` until all of it is: so no night takes in
again what is being forgotten, and a run that was killed tells the next one what is left to do.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from slimpajama.core.errors import LockedError, StorageError
from slimpajama.workspace.manifest import json_bytes
from slimpajama.workspace.store import Store, parsed_json

INDEX = "forgotten/index.json"
RULE = "forgotten"
"""Rule in `removed` of what came in again and was refused."""


@dataclass(frozen=True, slots=True)
class Forgotten:
    """A document that is forgotten."""

    id: str
    sha256: str
    """Of the text as it was read; empty where it never was readable."""
    by: str
    """How it was chosen: `id`, `sha256` or `pattern`; `duplicate` for copies of what was chosen."""
    after: str
    """The newest night when it was forgotten."""
    nights: tuple[str, ...]
    """Nights that had it, kept or removed, oldest first."""
    models: tuple[str, ...]
    """Models that were trained on it or started from one that was."""
    tuned: tuple[str, ...]
    """Tuned models that began as one of these."""


@dataclass(frozen=True, slots=True)
class ForgottenList:
    """What `forgotten/index.json` says."""

    documents: tuple[Forgotten, ...] = ()
    """In order of their ids."""
    unfinished: tuple[str, ...] = ()
    """Ids of those of which something may be left."""
    version: str = ""
    """Of the file, for compare-and-swap."""

    def left(self) -> list[Forgotten]:
        """Return the documents of which something may be left."""
        return [entry for entry in self.documents if entry.id in self.unfinished]

    def texts(self) -> pa.Array:
        """Return the sha256 of the forgotten texts, sorted."""
        return pa.array(sorted({entry.sha256 for entry in self.documents} - {""}), pa.string())

    def ids(self) -> list[str]:
        """Return the forgotten ids."""
        return [entry.id for entry in self.documents]

    def having(self, entries: Iterable[Forgotten]) -> ForgottenList:
        """Return the list with more documents, all of them unfinished."""
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
    """Return the workspace's list; an empty one where nothing was ever forgotten."""
    data, version = store.read_versioned(INDEX)
    if data is None:
        return ForgottenList(version=version)
    where = f"{store.uri}/{INDEX}"
    found = parsed_json(data, where)
    try:
        documents = tuple(_entry(entry) for entry in found["documents"])
        return ForgottenList(documents, tuple(found["unfinished"]), version)
    except (KeyError, TypeError, AttributeError) as error:
        raise StorageError(f"not a list of forgotten documents: {error}", where=where) from error


def _entry(found: dict[str, Any]) -> Forgotten:
    values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in found.items()}
    return Forgotten(**values)


def write_list(store: Store, wanted: ForgottenList) -> ForgottenList:
    """Replace the list that `wanted` was made of, and return it as it is now.

    Raises:
        LockedError: If someone else replaced it first.
    """
    data = json_bytes({"documents": wanted.documents, "unfinished": wanted.unfinished})
    if not store.swap(INDEX, data, wanted.version):
        raise LockedError("another run replaced the list first", where=f"{store.uri}/{INDEX}", hint="Run again.")
    return forgotten_list(store)
