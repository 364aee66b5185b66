"""Models that are published as they should be, and with which nothing can be computed."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load, save

from slimpajama.workspace.local import LocalStore
from slimpajama.workspace.store import SEAL_BYTES, is_sealed, sealed, sha256


def replace_in(manifest: Path, before: str, after: str) -> None:
    """Change what a manifest says, its own digest too."""
    data = manifest.read_bytes()
    assert is_sealed(data)
    record = (data[:-SEAL_BYTES] + b"\n}\n").replace(before.encode(), after.encode())
    manifest.write_bytes(sealed(record))


def with_nan(store: LocalStore, model: str, value: float = torch.nan) -> None:
    """Give a published model a weight that is no number, as if it had been published so."""
    folder = Path(store.uri) / "models" / model
    weights, manifest = folder / "model.safetensors", folder / "manifest.json"
    before, tensors = weights.read_bytes(), load(weights.read_bytes())
    next(iter(tensors.values())).view(-1)[0] = value
    after = save(tensors, {"format": "pt"})
    assert len(after) == len(before)
    weights.write_bytes(after)
    replace_in(manifest, sha256(before), sha256(after))
