"""The content of `report.json`: everything a night's report shows, as plain data.

No clock's reading is in it, so the same night gives the same report at any time.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from slimpajama.core.format import excerpt
from slimpajama.core.schema import DOCUMENTS, REMOVED
from slimpajama.ops.report.corpus import cluster_sizes, length_counts, top_words
from slimpajama.ops.report.drift import drift
from slimpajama.ops.report.funnel import KEPT, history_row, night_funnel, split_rows
from slimpajama.ops.report.inputs import Inputs, gather
from slimpajama.ops.report.removed import LIGHT, duplicate_pairs, languages_of, rule_table
from slimpajama.ops.report.tuning import SHOWN
from slimpajama.workspace import layout
from slimpajama.workspace.layout import folder_of
from slimpajama.workspace.manifest import FileEntry, Manifest
from slimpajama.workspace.open import Workspace
from slimpajama.workspace.parquet import read_columns
from slimpajama.workspace.registry import Models

# Under these keys the steps record the versions of their libraries.
VERSIONS = ("cld2", "unicode", "engine", "library", "torch", "numpy")
Part = dict[str, Any]


def collect(workspace: Workspace, night: str, model_id: str = "", tuned_id: str = "") -> Part:
    """Return the report of a published night; arguments and errors are those of `gather`.

    Returns:
        Plain JSON: `night`, `verdict`, `funnel`, `history` (earlier nights and this one), `drift`, `rules`,
        `duplicates`, `training`, `evaluation`, `samples`, `natural_repetition`, `tuning`, `corpus`, `sources`,
        `settings`, `versions`, `files`.
    """
    inputs = gather(workspace, night, model_id, tuned_id)
    manifest, place = inputs.corpus, layout.night(night)
    removed = manifest.entries(place.removed)
    samples = inputs.read("samples", "samples.json") or {"samples": []}
    index = read_columns(workspace.store, removed, REMOVED, LIGHT)
    kept = read_columns(workspace.store, manifest.entries(place.documents), DOCUMENTS, KEPT)
    nights = {name: m.counts for name, m in inputs.recent.items()} | {night: manifest.counts}
    return {
        "format": 1,
        "night": night,
        "verdict": _verdict(inputs),
        "funnel": night_funnel(
            manifest.counts, kept, languages_of(index, "clean"), languages_of(index, "decontaminate")
        ),
        "history": [history_row(name, counts) for name, counts in nights.items()],
        "drift": drift(list(nights.values())),
        "rules": rule_table(workspace.store, removed, index),
        "duplicates": duplicate_pairs(workspace.store, removed, index, _partner_files(inputs))
        | {"of_earlier_nights": manifest.counts["dedup"].get("removed_for_earlier", 0)},
        "training": _training(inputs),
        "evaluation": _evaluation(inputs),
        "samples": samples["samples"],
        "natural_repetition": samples.get("natural", {}),
        "tuning": _tuning(workspace.models, inputs),
        "corpus": {
            "lengths": length_counts(kept),
            "clusters": cluster_sizes(workspace.store, manifest.entries(place.minhash)),
            "words": top_words(workspace.store, manifest.entries(place.split("train"))),
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
        `challenger`, `champion` (null where there is none), and the gate's `confidence`, `overall` and `languages`.
    """
    decision = inputs.read("gate", "decision.json")
    if decision:
        status, reason = "promoted" if decision["promote"] else "rejected", decision["reason"]
    elif inputs.model_id:
        status, reason = "pending", "The night's model has not been compared with the champion."
    else:
        status = "untrained"
        reason = "Nothing was trained: no document of this night is new after cleaning and deduplication."
    decision = decision or {"promote": None, "overall": None, "languages": None}
    return {
        "status": status,
        "promoted": decision["promote"],
        "reason": reason,
        "challenger": inputs.model_id or None,
        "champion": inputs.champion_id or None,
        "confidence": inputs.depends_on("gate").get("settings", {}).get("confidence"),
        "overall": decision["overall"],
        "languages": decision["languages"],
    }


def _training(inputs: Inputs) -> Part | None:
    """Return `steps`, `tokens`, `started_from`, `nights`, the loss `curve` and the `validation` points."""
    record = inputs.read("model", "training.json")
    if record is None:
        return None
    counts = inputs.manifests["model"].counts
    return {
        "steps": counts["steps"],
        "tokens": counts["tokens"],
        "started_from": record["started_from"] or None,
        "nights": sorted(inputs.depends_on("model")["nights"]),
        "curve": record["curve"],
        "validation": record["validation"],
    }


def _evaluation(inputs: Inputs) -> Part | None:
    """Return the figures of the night's model and of the champion: `overall`, by `languages`, by `sources`."""
    own = inputs.read("evaluation", "evaluation.json")
    return own and {"challenger": own, "champion": inputs.read("champion", "evaluation.json")}


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


def _partner_files(inputs: Inputs) -> dict[str, list[FileEntry]]:
    """Return the kept documents' files, the night's own first, then from the newest night to the oldest."""
    nights = {inputs.night: inputs.corpus} | dict(reversed(inputs.earlier.items()))
    return {name: manifest.entries(layout.night(name).documents) for name, manifest in nights.items()}


def _sources(manifest: Manifest) -> list[Part]:
    """Return the configured sources with the raw files that this night read of them."""
    files: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for entry in manifest.depends_on["stages"]["ingest"]["inputs"]:
        files[entry["source"]] += 1
        sizes[entry["source"]] += entry["bytes"]
    shown = ("name", "uri", "format", "priority", "licence")
    return [
        {name: source[name] for name in shown} | {"files": files[source["name"]], "bytes": sizes[source["name"]]}
        for source in manifest.depends_on["settings"]["ingest"]["sources"]
    ]


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
