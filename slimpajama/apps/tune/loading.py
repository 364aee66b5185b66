"""A tuned model, made new or loaded from its published files and checked."""

from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from pydantic import TypeAdapter

from slimpajama.apps.tune.inference import Tuned
from slimpajama.apps.tune.phrases import Dictionary
from slimpajama.core.config import ModelConfig
from slimpajama.core.errors import ModelError
from slimpajama.model.architectures import build
from slimpajama.model.architectures.chunk import ChunkModel
from slimpajama.model.architectures.seq2seq import PairModel
from slimpajama.model.loading import read_files
from slimpajama.text.tokenizer import Tokenizer
from slimpajama.workspace import layout
from slimpajama.workspace.manifest import FileEntry, Manifest
from slimpajama.workspace.open import Workspace
from slimpajama.workspace.parquet import read_verified
from slimpajama.workspace.store import Store, parsed_json


def fresh_model(config: dict[str, Any], tokenizer: Tokenizer, kinds: tuple[str, ...], seed: int) -> PairModel:
    """Return a model with fresh weights over the architecture that a champion's `config.json` describes."""
    base = build(TypeAdapter(ModelConfig).validate_python(config["model"]), tokenizer.vocab_size, seed)
    assert isinstance(base, ChunkModel)
    return PairModel(base, kinds, tokenizer.document_id, torch.Generator().manual_seed(seed))


def tuned_manifest(workspace: Workspace, model_id: str) -> Manifest:
    """Return the manifest of a published tuned model.

    Raises:
        ModelError: If there is none of this name.
    """
    manifest = workspace.models.tuned_manifest(model_id)
    if manifest is None:
        raise ModelError(
            "no such tuned model", where=f"{workspace.uri}/tuned", found=model_id, hint="`slimpajama tune` makes one."
        )
    return manifest


def load_tuned(workspace: Workspace, model_id: str) -> Tuned:
    """Return a published tuned model.

    Raises:
        ModelError: If there is none of this name, or its weights do not fit.
        StorageError: If a file is not what the manifest says.
    """
    return load_files(workspace.store, tuned_manifest(workspace, model_id).files)


def load_files(store: Store, files: Iterable[FileEntry]) -> Tuned:
    """Return the tuned model that these files hold; without `ways.json`, each kind has its first strategy."""
    entries = {layout.name_of(entry.path): entry for entry in files}

    def read(name: str) -> bytes:
        return read_verified(store, entries[name])

    where = layout.folder_of(entries["config.json"].path)
    found = read_files(where, parsed_json(read("config.json"), f"{where}/config.json"), read)
    config, tokenizer = found.config, found.tokenizer
    model = found.model(partial(fresh_model, config, tokenizer, tuple(config["kinds"]), 0))
    dictionary = Dictionary.load(read("dictionary.parquet"))
    strategies = parsed_json(read("ways.json"), f"{where}/ways.json") if "ways.json" in entries else {}
    return Tuned(model, tokenizer, dictionary, strategies, config["source_tokens"], config["target_tokens"])
