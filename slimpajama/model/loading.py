"""A published or exported model, loaded and checked."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save

from slimpajama.core.config import ModelConfig, TextConfig
from slimpajama.core.errors import ModelError
from slimpajama.model.architectures import LanguageModel, build
from slimpajama.model.device import device
from slimpajama.model.memory.model import Memory, RememberingModel
from slimpajama.model.memory.opening import COPY_AGAIN, LISTING, OpenMemory, open_exported, open_memory
from slimpajama.text.tokenizer import Tokenizer
from slimpajama.workspace import layout
from slimpajama.workspace.open import Workspace
from slimpajama.workspace.parquet import read_verified
from slimpajama.workspace.store import parsed_json, sha256

M = TypeVar("M", bound=torch.nn.Module)


_OTHER = "It is damaged, or another version of slimpajama made it: copy it again, use that version, or train again."


@dataclass(frozen=True, slots=True)
class Loaded:
    """A published model, ready for use."""

    id: str
    model: LanguageModel
    tokenizer: Tokenizer
    config: dict[str, Any]
    """The model's `config.json`."""
    memory: str = ""
    """The newest night that it remembers; empty where `model` is the network alone."""
    memory_digest: str = ""
    """Changes with what is remembered."""


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """What a model's files hold; its weights are still bytes."""

    where: str
    """The model's folder, for messages."""
    config: dict[str, Any]
    sizes: ModelConfig
    tokenizer: Tokenizer
    weights: bytes

    def model(self, make: Callable[[], M]) -> M:
        """Return the model that `make` makes with these weights, on this process's device and ready for use.

        Raises:
            ModelError: The weights do not fit.
        """
        return with_weights(make, self.weights, self.where).to(device()).eval()

    def language_model(self, model_id: str) -> Loaded:
        """Return the language model of these files."""
        model = self.model(partial(build, self.sizes, self.tokenizer.vocab_size, seed=0))
        return Loaded(model_id, model, self.tokenizer, self.config)


def read_files(where: str, config: dict[str, Any], read: Callable[[str], bytes]) -> ModelFiles:
    """Return what a model's files hold.

    Args:
        where: The model's folder, for messages.
        config: Its `config.json`.
        read: Returns the content of one of its files, checked.

    Raises:
        ModelError: This is no model's configuration.
    """
    try:
        text = TypeAdapter(TextConfig).validate_python(config["text"])
        sizes = TypeAdapter(ModelConfig).validate_python(config["model"])
    except (LookupError, TypeError, ValidationError) as error:
        raise ModelError(
            "not the config.json of a model", where=where, found=str(error).splitlines()[-1].strip(), hint=_OTHER
        ) from error
    return ModelFiles(where, config, sizes, Tokenizer.load(read("tokenizer.json"), text), read("model.safetensors"))


def load_model(workspace: Workspace, model_id: str | None = None, memory: bool | str = True) -> Loaded:
    """Return a published model; the champion where no id is given.

    Args:
        memory: Whether it comes with its memory, where it has one; or the night whose memory it comes with.

    Raises:
        ModelError: If there is no such model, or no champion yet.
        StorageError: If a file is not what the manifest says.
    """
    wanted = model_id or workspace.models.require_champion()
    manifest, where = workspace.models.manifest(wanted), layout.model(wanted).path

    def read(name: str) -> bytes:
        return read_verified(workspace.store, manifest.file(name))

    config = parsed_json(read("config.json"), f"{where}/config.json")
    loaded = read_files(where, config, read).language_model(wanted)
    night = workspace.models.memory_of(wanted) if memory is True else memory
    return with_memory(workspace, loaded, night) if night else loaded


def with_memory(workspace: Workspace, loaded: Loaded, night: str, before: str = "") -> Loaded:
    """Return a published model with its memory of the nights up to `night`, and perhaps one from `before` to compare.

    Errors are those of `open_memory`.
    """
    opened = open_memory(workspace, loaded.id, night)
    return _remembering(loaded, opened, open_memory(workspace, loaded.id, before).memory if before else None)


def _remembering(loaded: Loaded, opened: OpenMemory, before: Memory | None = None) -> Loaded:
    model = RememberingModel(loaded.model, opened.memory, before).eval()
    return replace(loaded, model=model, memory=opened.night, memory_digest=opened.digest)


def is_exported(folder: str | None) -> bool:
    """Return whether this names a folder that `slimpajama export` wrote."""
    return bool(folder) and Path(folder or "", "tokenizer_config.json").is_file()


def load_exported(folder: Path, memory: bool = True) -> Loaded:
    """Return the model of a folder that `slimpajama export` wrote, as in its workspace; needs none.

    Every file that is used is compared with its sha256: that of weights, tokenizer and the memory's listing stands in
    `config.json`, that of the memory's files in the listing.

    Args:
        memory: Whether it comes with its memory, where the folder holds one.

    Raises:
        ModelError: If a file is missing, is none of ours, or is not what was exported.
    """

    def read(name: str) -> bytes:
        try:
            return (folder / name).read_bytes()
        except OSError as error:
            raise ModelError(f"cannot be read: {error.strerror}", where=str(folder / name), hint=COPY_AGAIN) from None

    try:
        config = dict(json.loads(read("config.json")))
        model_id, hashes = str(config.pop("id")), dict(config.pop("sha256"))
    except (ValueError, LookupError, TypeError, RecursionError):
        raise ModelError(
            "not the config.json of an exported model",
            where=str(folder),
            hint="`slimpajama export --format hf DIR` writes such a folder.",
        ) from None
    remembers = memory and LISTING in hashes
    files = {name: read(name) for name in ("tokenizer.json", "model.safetensors", *[LISTING] * remembers)}
    for name, data in files.items():
        if (found := sha256(data)) != hashes.get(name):
            raise ModelError(
                "the file is not what was exported",
                where=str(folder / name),
                expected=f"sha256 {str(hashes.get(name))[:16]}…",
                found=f"sha256 {found[:16]}…",
                hint="Export or copy it again.",
            )
    loaded = read_files(layout.model(model_id).path, config, files.__getitem__).language_model(model_id)
    if not remembers:
        return loaded
    return _remembering(loaded, open_exported(folder, loaded.tokenizer.vocab_size, loaded.tokenizer.document_id))


def weights_bytes(tensors: Mapping[str, torch.Tensor]) -> bytes:
    """Return tensors as a safetensors file; the same tensors give the same bytes, wherever they lie.

    Raises:
        ModelError: A number is infinite or none: the last step diverged.
    """
    require_finite(tensors, "model.safetensors")
    return save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, {"format": "pt"})


def require_finite(tensors: Mapping[str, torch.Tensor], where: str) -> None:
    """Refuse weights with which nothing can be computed.

    Raises:
        ModelError: A number is infinite or none.
    """
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise ModelError(
                "weights are not finite",
                where=where,
                found=f"NaN or infinity in {name}",
                hint="Train again, with a lower train.lr or tune.lr; `slimpajama models rollback` leaves a champion.",
            )


def with_weights(make: Callable[[], M], weights: bytes, where: str) -> M:
    """Return the model that `make` makes with the weights of a safetensors file.

    Raises:
        ModelError: It is no such file, its tensors are not the model's, or not all of them are finite.
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
    require_finite(tensors, where)
    return model
