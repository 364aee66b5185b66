"""Which manifests a night's report is made of. Only files that one of them lists are read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from slimpajama.core.errors import ModelError, StorageError
from slimpajama.workspace import layout
from slimpajama.workspace.layout import folder_of, place
from slimpajama.workspace.manifest import Manifest, load_manifest
from slimpajama.workspace.open import Workspace
from slimpajama.workspace.parquet import verified_json
from slimpajama.workspace.store import Store


@dataclass(frozen=True, slots=True)
class Inputs:
    """Everything a report depends on."""

    store: Store
    night: str
    model_id: str
    """The night's model; empty where none was trained."""
    champion_id: str
    """What the gate compared it with; empty where there was none."""
    tuned_id: str
    """What a champion was tuned to in this night; empty where none was."""
    earlier: dict[str, Manifest]
    """Nights published before this one that are still there, oldest first."""
    manifests: dict[str, Manifest]
    """`corpus`, and of `model`, `evaluation`, `gate`, `champion`, `samples`, `tuned` those that this night has."""

    @property
    def corpus(self) -> Manifest:
        """The night's own manifest."""
        return self.manifests["corpus"]

    def depends_on(self, name: str) -> dict[str, Any]:
        """Return what a manifest was made from; nothing where there is none."""
        return self.manifests[name].depends_on if name in self.manifests else {}

    def read(self, name: str, file: str) -> Any:
        """Return a JSON file that a manifest lists; None where there is no such manifest."""
        if name not in self.manifests:
            return None
        return verified_json(self.store, self.manifests[name].file(file))

    def digests(self) -> dict[str, Any]:
        """Return what the report's fingerprint is made of."""
        digests = {name: manifest.digest for name, manifest in self.manifests.items()}
        return digests | {"earlier": {name: manifest.digest for name, manifest in self.earlier.items()}}


def gather(workspace: Workspace, night: str, model_id: str = "", tuned_id: str = "") -> Inputs:
    """Return the manifests of a published night and of the models that were made in it: see `Inputs`.

    Raises:
        InputError: If the night is not published.
        ModelError: If a model is not.
    """
    store, corpus = workspace.store, workspace.nights.load(night)
    paths = {}
    if model_id:
        model = layout.model(model_id)
        paths = {"model": model.manifest, "evaluation": model.evaluation(night).manifest}
        paths |= {"gate": model.gate(night).manifest, "samples": layout.report(night).samples_manifest}
    if tuned_id:
        paths["tuned"] = layout.tuned(tuned_id).manifest
    found = {name: load_manifest(store, path) for name, path in paths.items()}
    for name, wanted in (("model", model_id), ("tuned", tuned_id)):
        if wanted and found[name] is None:
            what = "no such model" if name == "model" else "no such tuned model"
            raise ModelError(what, where=f"{workspace.uri}/{folder_of(paths[name])}")
    before = {name: load_manifest(store, layout.night(name).manifest) for name in corpus.depends_on["earlier"]}
    earlier = {name: manifest for name, manifest in before.items() if manifest}
    manifests = {"corpus": corpus} | {name: manifest for name, manifest in found.items() if manifest}
    champion_id = ""
    if "gate" in manifests and (digest := manifests["gate"].depends_on["champion"]):
        champion_id, manifests["champion"] = _champion(store, night, digest)
    return Inputs(store, night, model_id, champion_id, tuned_id, earlier, manifests)


def _champion(store: Store, night: str, digest: str) -> tuple[str, Manifest]:
    """Return the model whose evaluation the gate compared with, and that evaluation.

    The pointer to the champion is of no use here: it moves on, and a report must come out the same later.
    """
    for path in store.list("models"):
        model_id = place(path).owner
        if path == layout.model(model_id).evaluation(night).manifest:
            manifest = load_manifest(store, path)
            if manifest and manifest.digest == digest:
                return model_id, manifest
    raise StorageError(
        "the champion's evaluation is missing",
        where=f"{store.uri}/models",
        expected=f"digest {digest[:12]}…",
        hint="Evaluate the night's model again.",
    )
