"""Models that are published as they should be, and with which nothing can be computed."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load, save

from slimpajama.workspace.local import LocalStore
from slimpajama.workspace.store import sha256


def with_nan(store: LocalStore, model: str, value: float = torch.nan) -> None:
    """Give a published model a weight that is no number, as if it had been published so."""
    folder = Path(store.uri) / "models" / model
    weights, manifest = folder / "model.safetensors", folder / "manifest.json"
    before, tensors = weights.read_bytes(), load(weights.read_bytes())
    next(iter(tensors.values())).view(-1)[0] = value
    after = save(tensors, {"format": "pt"})
    assert len(after) == len(before)
    weights.write_bytes(after)
    manifest.write_text(manifest.read_text("utf-8").replace(sha256(before), sha256(after)), "utf-8")
