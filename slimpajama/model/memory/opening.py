"""A model's memory as it was published or exported: which nights it is of, its weights, and the index it looks into.

An exported one lies in the model's folder:

    memory/weights.json, memory/NUMBER.{ids,order,first}.npy, memory/manifest.json
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from slimpajama.core.config import fingerprint
from slimpajama.core.errors import ModelError, StorageError
from slimpajama.model.memory.model import Memory
from slimpajama.model.memory.weights import Weights
from slimpajama.text.suffixes import Suffixes, is_whole
from slimpajama.workspace import layout
from slimpajama.workspace.index import ARRAYS, IndexPart, index_parts, parts_of, require_indexes
from slimpajama.workspace.manifest import FileEntry, Manifest, load_manifest, total
from slimpajama.workspace.mapped import holds
from slimpajama.workspace.open import Workspace, listed_folder
from slimpajama.workspace.parquet import read_verified
from slimpajama.workspace.store import Store, sha256

WITHOUT = "`--no-memory` takes the network alone."
# Of an exported model; and what lists its files.
EXPORTED = layout.Folder("memory")
LISTING = EXPORTED.manifest
COPY_AGAIN = f"Export it again, or copy its files again, not links to them. {WITHOUT}"


@dataclass(frozen=True, slots=True)
class OpenMemory:
    """A memory, ready for use."""

    night: str
    """The newest night that it is of."""
    memory: Memory
    digest: str
    """Changes with the weights and with any document that is remembered; not with how the index is cut into parts."""


@dataclass(frozen=True, slots=True)
class MemoryFiles:
    """A memory that is not opened yet."""

    night: str
    """The newest night that it is of."""
    nights: dict[str, int]
    """All of them, and how many tokens of each it holds, document tokens included."""
    weights: FileEntry
    parts: Sequence[IndexPart]
    digest: str
    """That of `OpenMemory`."""


def nights_of(workspace: Workspace, model_id: str, night: str) -> dict[str, Manifest]:
    """Return the published nights up to `night` that a model's tokenizer encoded and that left text to train on."""
    tokenizer = workspace.models.manifest(model_id).depends_on["tokenizer"]
    published = workspace.nights.published()
    found = {}
    for name in published[: published.index(night) + 1] if night in published else ():
        manifest = workspace.nights.load(name)
        own = manifest.find(layout.TOKENIZER)
        if own and own.sha256 == tokenizer and manifest.entries(layout.night(name).split("train")):
            found[name] = manifest
    return found


def indexes_of(workspace: Workspace, nights: Mapping[str, Manifest]) -> dict[str, Manifest]:
    """Return the manifests of nights' own indexes: a memory of them depends on their digests.

    Raises:
        InputError: A night has no index of the documents that it holds now.
    """
    return require_indexes(workspace, nights, f"`slimpajama prepare` makes the index of every night. {WITHOUT}")


def digests_of(indexes: Mapping[str, Manifest]) -> dict[str, str]:
    """Return the digest of each night's index."""
    return {night: index.digest for night, index in indexes.items()}


def suffixes_in(workspace: Workspace, indexes: Mapping[str, Manifest]) -> list[Suffixes]:
    """Return the parts of the indexes of nights that share a tokenizer."""
    return [Suffixes(*part.arrays) for part in index_parts(workspace.store, indexes)]


def memory_files(workspace: Workspace, model_id: str, night: str) -> MemoryFiles:
    """Return where the memory lies that a model has of the nights up to `night`.

    Raises:
        ModelError: It has none.
        InputError: A night has no index of the documents that it holds now.
        StorageError: A manifest is damaged.
    """
    folder = layout.model(model_id).memory(night)
    manifest = load_manifest(workspace.store, folder.manifest)
    if manifest is None:
        where = f"{workspace.uri}/{folder.path}"
        raise ModelError("the model has no memory of this night", where=where, hint=WITHOUT)
    entry = manifest.file("weights.json")
    indexes = indexes_of(workspace, nights_of(workspace, model_id, night))
    digest = fingerprint(entry.sha256, digests_of(indexes))
    nights = {name: total(index.counts["tokens"]) for name, index in indexes.items()}
    return MemoryFiles(night, nights, entry, index_parts(workspace.store, indexes), digest)


def open_memory(workspace: Workspace, model_id: str, night: str) -> OpenMemory:
    """Return the memory that a model has of the nights up to `night`.

    Raises:
        ModelError: It has none.
        InputError: A night has no index of the documents that it holds now.
        StorageError: A file is not what its manifest says.
    """
    return _opened(workspace.store, memory_files(workspace, model_id, night))


def _opened(store: Store, found: MemoryFiles) -> OpenMemory:
    weights = Weights.load(read_verified(store, found.weights), found.weights.path)
    memory = Memory.of([Suffixes(*part.arrays) for part in found.parts], weights)
    return OpenMemory(found.night, memory, found.digest)


def open_exported(folder: Path, vocab_size: int, document_id: int) -> OpenMemory:
    """Return the memory of an exported model.

    Whoever made the folder may have listed anything. So the index is checked once on each machine: that it is one.

    Args:
        folder: The model's folder; its LISTING is what was exported.

    Raises:
        ModelError: A file is missing, not what is listed, or no part of a memory of these tokens.
    """
    store = listed_folder(folder)
    try:
        listed = load_manifest(store, LISTING)
        if listed is None:
            raise StorageError("empty", where=f"{folder}/{LISTING}")
        weights = listed.file(EXPORTED.file("weights.json"))
        arrays = tuple(entry for entry in listed.files if entry.path.endswith(".npy"))
        parts = parts_of(store, replace(listed, files=arrays))
        for part in parts:
            _require_index(part, vocab_size, document_id)
        nights = dict(listed.depends_on["nights"])
        return _opened(store, MemoryFiles(str(listed.depends_on["night"]), nights, weights, parts, listed.fingerprint))
    except StorageError as error:
        found = {"where": error.where, "expected": error.expected, "found": error.found}
        raise ModelError(error.what, **found, hint=COPY_AGAIN) from error
    except (LookupError, TypeError, ValueError) as error:
        where = f"{folder}/{LISTING}"
        raise ModelError("not the listing of a memory", where=where, found=repr(error), hint=COPY_AGAIN) from error


def _require_index(part: IndexPart, vocab_size: int, document_id: int) -> None:
    suffixes = Suffixes(*part.arrays)
    made_of = " ".join([str(vocab_size), *(part.entries[f"{name}.npy"].sha256 for name in ARRAYS)])
    # The mark is named as those are of files, by a digest that nobody can aim at.
    mark = f"{sha256(made_of.encode())}-index"
    if suffixes.document_id != document_id or not holds(mark, lambda: is_whole(suffixes, vocab_size)):
        where = f"{part.store.uri}/{part.entries['order.npy'].path}"
        raise ModelError("not an index of the model's tokens", where=where, hint=COPY_AGAIN)
