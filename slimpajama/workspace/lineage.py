"""Which documents a model has seen: those that its training read, and those in the weights that it began from.

    models/MODEL/read.parquet    hashes of the documents of those nights that the training read in part

How many documents it read of each night stands in the manifest: `read` = {night: {"read", "documents"}}. A
training of an earlier version has no such record: then any document of its nights may have been seen.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from slimpajama.core.split import document_keys
from slimpajama.workspace.manifest import Manifest
from slimpajama.workspace.parquet import read_table
from slimpajama.workspace.store import Store

DOCUMENTS = "read.parquet"
READ = pa.schema([("night", pa.string()), ("key", pa.uint64())])


@dataclass(frozen=True, slots=True)
class Reading:
    """What a training read of a night."""

    ids: frozenset[str]
    """Of the documents that were asked for: those that it read, or may have read."""
    certain: bool
    """Whether the training recorded it."""
    share: float | None
    """Of the night's documents; None where it is not recorded."""


def readings(store: Store, models: Mapping[str, Manifest], night: str, ids: Collection[str]) -> dict[str, Reading]:
    """Return by model what its training read of some documents of a night's train split; others have no part in it."""
    return {
        name: _reading(store, manifest, night, list(ids))
        for name, manifest in models.items()
        if night in manifest.depends_on["nights"]
    }


def _reading(store: Store, manifest: Manifest, night: str, ids: list[str]) -> Reading:
    counts = manifest.counts.get("read")
    if counts is None:
        return Reading(frozenset(ids), False, None)
    read, total = counts[night]["read"], counts[night]["documents"]
    some = ids if read else []
    if some and read < total:
        table = read_table(store, manifest.file(DOCUMENTS))
        keys = table.filter(pc.equal(table["night"], night))["key"].to_numpy()
        is_read = np.isin(document_keys(ids), keys)
        some = [one for one, yes in zip(ids, is_read, strict=True) if yes]
    return Reading(frozenset(some), True, read / total if total else 0.0)


def with_heirs(models: Mapping[str, Manifest], saw: Collection[str]) -> list[str]:
    """Return some models and those that began from their weights, and so on, in the order of `models`."""
    found = set(saw)
    while more := {name for name, of in models.items() if of.depends_on.get("started_from") in found} - found:
        found |= more
    return [name for name in models if name in found]
