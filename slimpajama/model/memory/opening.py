"""A model's memory as it was published: which nights it is of, its weights, and the index that it looks into."""

from collections.abc import Mapping
from dataclasses import dataclass

from slimpajama.core.config import fingerprint
from slimpajama.core.errors import ModelError
from slimpajama.model.memory.model import Memory
from slimpajama.model.memory.weights import Weights
from slimpajama.text.suffixes import Suffixes
from slimpajama.workspace import layout
from slimpajama.workspace.index import index_parts, require_indexes
from slimpajama.workspace.manifest import Manifest, load_manifest
from slimpajama.workspace.open import Workspace
from slimpajama.workspace.parquet import read_verified

WITHOUT = "`--no-memory` shows the network alone."


@dataclass(frozen=True, slots=True)
class OpenMemory:
    """A memory, ready for use."""

    night: str
    """The newest night that it is of."""
    memory: Memory
    digest: str
    """Changes with the weights and with any document that is remembered; not with how the index is cut into parts."""


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


def open_memory(workspace: Workspace, model_id: str, night: str) -> OpenMemory:
    """Return the memory that a model has of the nights up to `night`.

    Raises:
        ModelError: It has none.
        InputError: A night has no index of the documents that it holds now.
        StorageError: A file is not what its manifest says.
    """
    folder = layout.model(model_id).memory(night)
    manifest = load_manifest(workspace.store, folder.manifest)
    if manifest is None:
        where = f"{workspace.uri}/{folder.path}"
        raise ModelError("the model has no memory of this night", where=where, hint=WITHOUT)
    entry = manifest.file("weights.json")
    weights = Weights.load(read_verified(workspace.store, entry), entry.path)
    indexes = indexes_of(workspace, nights_of(workspace, model_id, night))
    memory = Memory.of(suffixes_in(workspace, indexes), weights)
    return OpenMemory(night, memory, fingerprint(entry.sha256, digests_of(indexes)))
