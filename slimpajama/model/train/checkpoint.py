"""Checkpoints: weights, optimiser and position in one safetensors file plus JSON.

    FOLDER/step-0000120/state.safetensors    tensors, written first
    FOLDER/step-0000120/checkpoint.json      their sha256 and the rest of the state, written last

A checkpoint counts only when its JSON is there and the tensors are what it says; a damaged newest one falls back to
the one before. No random state is kept: every step derives its own from (seed, step).
"""

import re
from dataclasses import dataclass
from typing import Any

import torch
from safetensors.torch import load, save

from slimpajama.core.errors import StorageError
from slimpajama.core.logs import step_log
from slimpajama.workspace.manifest import FileEntry, json_bytes
from slimpajama.workspace.parquet import read_verified
from slimpajama.workspace.store import Store, read_json, sealed, sha256

STEP = re.compile(r"/step-(\d{7})/checkpoint\.json$")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Everything that training goes on from."""

    step: int
    tensors: dict[str, torch.Tensor]
    state: dict[str, Any]
    """Plain JSON: position in the rows, history, seconds used."""


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """The checkpoints of one training run, in a folder of their own."""

    store: Store
    folder: str
    keep: int = 2

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint, then remove all but the newest `keep`."""
        folder = f"{self.folder}/step-{checkpoint.step:07d}"
        data = save({name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.tensors.items()})
        self.store.write(f"{folder}/state.safetensors", data)
        record = {"step": checkpoint.step, "sha256": sha256(data), "bytes": len(data), "state": checkpoint.state}
        self.store.write(f"{folder}/checkpoint.json", sealed(json_bytes(record)))
        for step in self.steps()[: -self.keep]:
            self._remove(step)

    def steps(self) -> list[int]:
        """Return the steps that have a checkpoint, in ascending order."""
        found = (STEP.search(path) for path in self.store.list(self.folder))
        return sorted(int(match[1]) for match in found if match)

    def newest(self) -> Checkpoint | None:
        """Return the newest checkpoint that is whole, or None; a damaged one is named and removed."""
        for step in reversed(self.steps()):
            try:
                return self._load(step)
            except (StorageError, KeyError, TypeError) as error:
                step_log("train").info(
                    f"checkpoint of step {step} is damaged, falling back to the one before ({error})"
                )
                self._remove(step)
        return None

    def clear(self) -> None:
        """Remove all checkpoints; does nothing where there are none."""
        self.store.delete_tree(self.folder)

    def _load(self, step: int) -> Checkpoint:
        folder = f"{self.folder}/step-{step:07d}"
        record = read_json(self.store, f"{folder}/checkpoint.json")
        tensors = FileEntry(f"{folder}/state.safetensors", record["sha256"], record["bytes"])
        return Checkpoint(step, load(read_verified(self.store, tensors)), record["state"])

    def _remove(self, step: int) -> None:
        folder = f"{self.folder}/step-{step:07d}"
        # First: without it the rest does not count.
        self.store.delete(f"{folder}/checkpoint.json")
        self.store.delete_tree(folder)
