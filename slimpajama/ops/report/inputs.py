"""Which manifests a night's report is made of. Only files that one of them lists are read."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from slimpajama.core.errors import ModelError, StorageError
from slimpajama.workspace.manifest import Manifest, load_manifest
from slimpajama.workspace.open import Workspace
from slimpajama.workspace.parquet import read_verified
from slimpajama.workspace.store import Store

EARLIER_NIGHTS = 7


@dataclass(frozen=True, slots=True)
class Inputs:
    """Everything a report depends on; what does not exist for this night is None."""

    night: str
    corpus: Manifest
    earlier: dict[str, Manifest]
    """Nights published before this one that are still there, oldest first."""
    model_id: str
    model: Manifest | None
    evaluation: Manifest | None
    gate: Manifest | None
    champion_id: str
    """What the gate compared with; empty where there was none."""
    champion_evaluation: Manifest | None
    samples: Manifest | None
    tuned_id: str
    """What a champion was tuned to in this night; empty where none was."""
    tuned: Manifest | None

    @property
    def recent(self) -> dict[str, Manifest]:
        """The nights that the report compares with, oldest first."""
        return dict(list(self.earlier.items())[-EARLIER_NIGHTS:])

    def digests(self) -> dict[str, Any]:
        """Return what the report's fingerprint is made of."""
        parts = {
            "corpus": self.corpus,
            "model": self.model,
            "evaluation": self.evaluation,
            "gate": self.gate,
            "champion": self.champion_evaluation,
            "samples": self.samples,
            "tuned": self.tuned,
        }
        digests = {name: manifest.digest for name, manifest in parts.items() if manifest}
        return digests | {"earlier": {name: manifest.digest for name, manifest in self.earlier.items()}}


def gather(workspace: Workspace, night: str, model_id: str | None = None, tuned_id: str | None = None) -> Inputs:
    """Return the manifests of a published night and of the model that was trained in it.

    Args:
        workspace: The workspace.
        night: A published night.
        model_id: The night's model; None where nothing was trained.
        tuned_id: What a champion was tuned to in this night; None where none was.

    Raises:
        InputError: If the night is not published.
        ModelError: If a model is not.
    """
    corpus = workspace.nights.load(night)
    earlier = {name: load_manifest(workspace.store, f"nights/{name}/manifest.json") for name in corpus.about["earlier"]}
    model = load_manifest(workspace.store, f"models/{model_id}/manifest.json") if model_id else None
    if model_id and model is None:
        raise ModelError("no such model", where=f"{workspace.uri}/models", found=model_id)
    tuned = load_manifest(workspace.store, f"tuned/{tuned_id}/manifest.json") if tuned_id else None
    if tuned_id and tuned is None:
        raise ModelError("no such tuned model", where=f"{workspace.uri}/tuned", found=tuned_id)
    folder = f"models/{model_id}/evaluations/{night}"
    gate = load_manifest(workspace.store, f"{folder}/gate/manifest.json") if model else None
    champion_id, champion_evaluation = _champion(workspace.store, night, gate.about["champion"] if gate else "")
    return Inputs(
        night=night,
        corpus=corpus,
        earlier={name: manifest for name, manifest in earlier.items() if manifest},
        model_id=model_id or "",
        model=model,
        evaluation=load_manifest(workspace.store, f"{folder}/manifest.json") if model else None,
        gate=gate,
        champion_id=champion_id,
        champion_evaluation=champion_evaluation,
        samples=load_manifest(workspace.store, f"reports/{night}/samples.manifest.json") if model else None,
        tuned_id=tuned_id or "",
        tuned=tuned,
    )


def _champion(store: Store, night: str, digest: str) -> tuple[str, Manifest | None]:
    """Return the model whose evaluation the gate compared with.

    The pointer to the champion is of no use here: it moves on, and a report must come out the same later.
    """
    if not digest:
        return "", None
    for path in store.list("models"):
        parts = path.split("/")
        if parts[2:] == ["evaluations", night, "manifest.json"]:
            manifest = load_manifest(store, path)
            if manifest and manifest.digest == digest:
                return parts[1], manifest
    raise StorageError(
        "the champion's evaluation is missing",
        where=f"{store.uri}/models",
        expected=f"digest {digest[:12]}…",
        hint="Evaluate the night's model again.",
    )


def read_listed(store: Store, manifest: Manifest, name: str) -> Any:
    """Return the JSON file of that name which the manifest lists."""
    entry = next(entry for entry in manifest.files if entry.path.endswith(f"/{name}"))
    return json.loads(read_verified(store, entry))
