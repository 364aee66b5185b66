"""A published or exported model, loaded and checked."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load

from slimpajama.core.config import ModelConfig, TextConfig
from slimpajama.core.errors import ModelError
from slimpajama.model.architectures import LanguageModel, build
from slimpajama.model.device import device
from slimpajama.text.tokenizer import Tokenizer
from slimpajama.workspace.manifest import FileEntry
from slimpajama.workspace.open import Workspace
from slimpajama.workspace.parquet import read_verified
from slimpajama.workspace.store import parsed_json, sha256

M = TypeVar("M", bound=torch.nn.Module)


_OTHER = "It is damaged, or another version of slimpajama made it: copy it again, use that version, or train again."


@dataclass(frozen=True, slots=True)
class Loaded:
    """A published model, ready for use."""

    id: str
    model: LanguageModel[Any]
    tokenizer: Tokenizer
    config: dict[str, Any]
    """The model's `config.json`."""


def load_model(workspace: Workspace, model_id: str | None = None) -> Loaded:
    """Return a published model; the champion where no id is given.

    Raises:
        ModelError: If there is no such model, or no champion yet.
        StorageError: If a file is not what the manifest says.
    """
    wanted = model_id or workspace.models.require_champion()
    manifest = workspace.models.manifest(wanted)
    entries = {entry.path.rsplit("/", 1)[1]: entry for entry in manifest.files}
    config, tokenizer, weights = (
        read_verified(workspace.store, _entry(entries, wanted, name))
        for name in ("config.json", "tokenizer.json", "model.safetensors")
    )
    return _assemble(wanted, parsed_json(config, f"models/{wanted}/config.json"), tokenizer, weights)


def is_exported(folder: str | None) -> bool:
    """Return whether this names a folder that `slimpajama export` wrote."""
    return bool(folder) and Path(folder or "", "tokenizer_config.json").is_file()


def load_exported(folder: Path) -> Loaded:
    """Return the model of a folder that `slimpajama export` wrote; needs no workspace.

    Raises:
        ModelError: If a file is missing, is none of ours, or is not what was exported.
    """
    try:
        files = {name: (folder / name).read_bytes() for name in ("config.json", "tokenizer.json", "model.safetensors")}
    except OSError as error:
        raise ModelError(f"cannot be read: {error.strerror}", where=str(error.filename)) from None
    try:
        config = dict(json.loads(files["config.json"]))
        model_id, hashes = str(config.pop("id")), dict(config.pop("sha256"))
    except (ValueError, LookupError, TypeError, RecursionError):
        raise ModelError(
            "not the config.json of an exported model",
            where=str(folder),
            hint="`slimpajama export --format hf DIR` writes such a folder.",
        ) from None
    for name in ("tokenizer.json", "model.safetensors"):
        if (found := sha256(files[name])) != hashes.get(name):
            raise ModelError(
                "the file is not what was exported",
                where=str(folder / name),
                expected=f"sha256 {str(hashes.get(name))[:16]}…",
                found=f"sha256 {found[:16]}…",
                hint="Export or copy it again.",
            )
    return _assemble(model_id, config, files["tokenizer.json"], files["model.safetensors"])


def _assemble(model_id: str, config: dict[str, Any], tokenizer_json: bytes, weights: bytes) -> Loaded:
    where = f"models/{model_id}"
    try:
        text = TypeAdapter(TextConfig).validate_python(config["text"])
        sizes = TypeAdapter(ModelConfig).validate_python(config["model"])
    except (LookupError, TypeError, ValidationError) as error:
        raise ModelError(
            "not the config.json of a model", where=where, found=str(error).splitlines()[-1].strip(), hint=_OTHER
        ) from error
    tokenizer = Tokenizer.load(tokenizer_json, text)
    model = with_weights(partial(build, sizes, tokenizer.vocab_size, seed=0), weights, where)
    return Loaded(model_id, model.to(device()).eval(), tokenizer, config)


def with_weights(make: Callable[[], M], weights: bytes, where: str) -> M:
    """Return the model that `make` makes with the weights of a safetensors file.

    Raises:
        ModelError: It is no such file, or its tensors are not the model's.
    """
    try:
        tensors = load(weights)
        # Shapes first, without memory: sizes out of a wrong file could ask for any.
        with torch.device("meta"):
            make().load_state_dict(tensors, assign=True)
        model = make()
        model.load_state_dict(tensors)
    except (SafetensorError, RuntimeError, LookupError, TypeError, ValueError) as error:
        raise ModelError(
            "the weights do not fit the architecture",
            where=where,
            found=(str(error).splitlines() or [repr(error)])[-1].strip(),
            hint=_OTHER,
        ) from error
    return model


def _entry(entries: dict[str, FileEntry], model_id: str, name: str) -> FileEntry:
    if name not in entries:
        raise ModelError("not in the model's manifest", where=f"models/{model_id}", expected=name)
    return entries[name]
