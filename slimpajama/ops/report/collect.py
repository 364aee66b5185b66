"""The content of `report.json`: everything a night's report shows, as plain data.

No clock's reading is in it, so the same night gives the same report at any time. Only files that a manifest lists are
read.
"""

from dataclasses import asdict, dataclass
from typing import Any

from slimpajama.core.errors import ModelError, StorageError
from slimpajama.core.format import excerpt
from slimpajama.core.schema import DOCUMENTS, REMOVED
from slimpajama.corpus.losses import findings
from slimpajama.model.evaluate.gate import mean_over_languages
from slimpajama.ops.report.corpus import cluster_sizes, length_counts, top_words
from slimpajama.ops.report.drift import drift
from slimpajama.ops.report.funnel import KEPT, history_row, night_funnel, split_rows
from slimpajama.ops.report.passages import repeated_passages
from slimpajama.ops.report.removed import LIGHT, duplicate_pairs, languages_of, rule_table
from slimpajama.ops.report.tuning import SHOWN
from slimpajama.workspace import layout
from slimpajama.workspace.layout import folder_of, place
from slimpajama.workspace.manifest import Manifest, add_counts, load_manifest
from slimpajama.workspace.open import Workspace
from slimpajama.workspace.parquet import read_columns, verified_json
from slimpajama.workspace.registry import Models
from slimpajama.workspace.store import Store

# Under these keys the steps record the versions of their libraries.
VERSIONS = ("cld2", "unicode", "engine", "library", "torch", "numpy")
EARLIER_NIGHTS = 7
Part = dict[str, Any]


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


def collect(workspace: Workspace, night: str, model_id: str = "", tuned_id: str = "") -> Part:
    """Return the report of a published night; arguments and errors are those of `gather`.

    Returns:
        Plain JSON: `night`, `verdict`, `problems`, `funnel`, `history` (earlier nights and this one), `drift`, `rules`,
        `duplicates`, `passages`, `training`, `evaluation`, `samples`, `natural_repetition`, `tuning`, `corpus`,
        `sources`, `settings`, `versions`, `files`.
    """
    inputs = gather(workspace, night, model_id, tuned_id)
    manifest, own = inputs.corpus, layout.night(night)
    removed = manifest.entries(own.removed)
    samples = inputs.read("samples", "samples.json") or {"samples": []}
    index = read_columns(workspace.store, removed, REMOVED, LIGHT)
    kept = read_columns(workspace.store, manifest.entries(own.documents), DOCUMENTS, KEPT)
    recent = list(inputs.earlier.items())[-EARLIER_NIGHTS:]
    nights = {name: earlier.counts for name, earlier in recent} | {night: manifest.counts}
    # A duplicate's partner may be of any night; the newest are looked through first.
    partners = {night: manifest} | dict(reversed(inputs.earlier.items()))
    partner_files = {name: made.entries(layout.night(name).documents) for name, made in partners.items()}
    return {
        "format": 1,
        "night": night,
        "verdict": _verdict(inputs),
        "problems": [asdict(one) | {"text": one.text()} for one in findings(workspace.store, night, manifest)],
        "funnel": night_funnel(
            manifest.counts,
            kept,
            languages_of(index, "clean"),
            add_counts(languages_of(index, stage) for stage in ("decontaminate", "passages")),
        ),
        "history": [history_row(name, counts) for name, counts in nights.items()],
        "drift": drift(list(nights.values())),
        "rules": rule_table(workspace.store, removed, index),
        "duplicates": duplicate_pairs(workspace.store, removed, index, partner_files)
        | {"of_earlier_nights": manifest.counts["dedup"].get("removed_for_earlier", 0)},
        "passages": repeated_passages(workspace.store, manifest.entries(own.passages), manifest),
        "training": _training(inputs),
        "evaluation": _evaluation(inputs),
        "samples": samples["samples"],
        "natural_repetition": samples.get("natural", {}),
        "tuning": _tuning(workspace.models, inputs),
        "corpus": {
            "lengths": length_counts(kept),
            "clusters": cluster_sizes(workspace.store, manifest.entries(own.minhash)),
            "words": top_words(workspace.store, manifest.entries(own.split("train"))),
            "splits": split_rows(manifest.counts.get("shards", {})),
            "vocabulary": manifest.counts.get("tokenizer", {}).get("pieces"),
            "segmented": manifest.counts.get("segment", {}),
        },
        "sources": _sources(manifest),
        "settings": _settings(inputs),
        "versions": _versions(inputs),
        "files": _files(inputs),
    }


def _verdict(inputs: Inputs) -> Part:
    """Return whether the night's model is the new champion, and why.

    Returns:
        `status` (promoted, rejected, pending or untrained), `promoted` (null where nothing was decided), `reason`,
        `challenger`, `champion` (null where there is none), the gate's `confidence`, `overall` and `languages`, and
        `memory`, what became of the champion's new memory (empty where there is none).
    """
    decision = inputs.read("gate", "decision.json") or {}
    if decision:
        status, reason = "promoted" if decision["promote"] else "rejected", decision["reason"]
    elif inputs.model_id:
        status, reason = "pending", "The night's model has not been compared with the champion."
    else:
        status = "untrained"
        reason = "Nothing was trained: no document of this night is new after cleaning and deduplication."
    return {
        "status": status,
        "promoted": decision.get("promote"),
        "reason": reason,
        "challenger": inputs.model_id or None,
        "champion": inputs.champion_id or None,
        "confidence": inputs.depends_on("gate").get("settings", {}).get("confidence"),
        "overall": decision.get("overall"),
        "languages": decision.get("languages"),
        "memory": (decision.get("memory") or {"reason": ""})["reason"],
    }


def _training(inputs: Inputs) -> Part | None:
    """Return what is told of the training; None where there was none.

    Returns:
        `steps`, `tokens`, `started_from`, `read` (`read` of the night's `documents`, or None), `nights`, the loss
        `curve` and the `validation` points.
    """
    record = inputs.read("model", "training.json")
    if record is None:
        return None
    counts = inputs.manifests["model"].counts
    return {
        "steps": counts["steps"],
        "tokens": counts["tokens"],
        "started_from": record["started_from"] or None,
        "read": counts.get("read", {}).get(inputs.night),
        "nights": sorted(inputs.depends_on("model")["nights"]),
        "curve": record["curve"],
        "validation": record["validation"],
    }


def _evaluation(inputs: Inputs) -> Part | None:
    """Return the figures of the night's model and of the champion: `overall`, by `languages`, by `sources`.

    Bits per byte over all languages are weighed as the gate weighs them.
    """
    found = {
        "challenger": inputs.read("evaluation", "evaluation.json"),
        "champion": inputs.read("champion", "evaluation.json"),
    }
    for own in filter(None, found.values()):
        for name in ("bits_per_byte", "network_bits_per_byte"):
            # Evaluations of earlier versions are of networks without a memory.
            if all(name in part for part in own["languages"].values()):
                own["overall"][name] = mean_over_languages(own["languages"], name)
    return found if found["challenger"] else None


def _tuning(models: Models, inputs: Inputs) -> Part | None:
    """Return what became of a tuning, in the shape of its own report.

    Returns:
        `model`, `base`, `scores` (`tasks`, `ways`, and `samples` of which excerpts are left), `decisions`
        (the `reason` by task: why it serves the task from now on, or not).
    """
    scores = inputs.read("tuned", "scores.json")
    if scores is None:
        return None
    texts = ("source", "question", "reference", "output")
    samples = [sample | {name: excerpt(sample[name], SHOWN) for name in texts} for sample in scores["samples"]]
    _, history, _ = models.tuned_tasks()
    own = [entry for entry in history if entry["model"] == inputs.tuned_id]
    return {
        "model": inputs.tuned_id,
        "base": inputs.depends_on("tuned")["base"],
        "scores": scores | {"samples": samples},
        "decisions": {entry["task"]: {"reason": entry["reason"]} for entry in own},
    }


def _sources(manifest: Manifest) -> list[Part]:
    """Return the configured sources with the raw files that this night read of them."""
    shown = ("name", "uri", "format", "priority", "licence")
    read = manifest.depends_on["stages"]["ingest"]["inputs"]
    rows = []
    for source in manifest.depends_on["settings"]["ingest"]["sources"]:
        sizes = [entry["bytes"] for entry in read if entry["source"] == source["name"]]
        rows.append({name: source[name] for name in shown} | {"files": len(sizes), "bytes": sum(sizes)})
    return rows


def _settings(inputs: Inputs) -> Part:
    settings = dict(inputs.corpus.depends_on["settings"])
    settings["ingest"] = {name: value for name, value in settings["ingest"].items() if name != "sources"}
    for made, sections in (("model", ("model", "train")), ("tuned", ("tune", "apply"))):
        settings |= {name: inputs.depends_on(made)[name] for name in sections if made in inputs.manifests}
    if "gate" in inputs.manifests and "evaluation" in inputs.manifests:
        budget = {"max_mb_per_language": inputs.depends_on("evaluation")["max_mb_per_language"]}
        settings["evaluate"] = budget | inputs.depends_on("gate")["settings"]
    if "samples" in inputs.manifests:
        settings["generate"] = inputs.depends_on("samples")["settings"]
    return settings


def _versions(inputs: Inputs) -> Part:
    steps = inputs.corpus.depends_on["stages"] | {"train": inputs.depends_on("model")}
    found = {
        step: {name: depends_on[name] for name in VERSIONS if name in depends_on} for step, depends_on in steps.items()
    }
    return {"software": inputs.corpus.depends_on["software"]} | {step: names for step, names in found.items() if names}


def _files(inputs: Inputs) -> list[Part]:
    """Return number, rows and bytes of the files of each folder."""
    folders: dict[str, Part] = {}
    for name in ("corpus", "model", "tuned"):
        for entry in inputs.manifests[name].files if name in inputs.manifests else ():
            folder = folder_of(entry.path)
            row = folders.setdefault(folder, {"folder": folder, "files": 0, "rows": 0, "bytes": 0})
            row["files"] += 1
            row["rows"] += entry.rows
            row["bytes"] += entry.bytes
    return [row for _, row in sorted(folders.items())]
