"""The content of `report.json`: everything a night's report shows, as plain data.

No clock's reading is in it, so the same night gives the same report at any time.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from slimpajama.ops.report import outcome
from slimpajama.ops.report.corpus import cluster_sizes, length_counts, top_words
from slimpajama.ops.report.drift import drift
from slimpajama.ops.report.funnel import history_row, kept_documents, night_funnel, split_rows
from slimpajama.ops.report.inputs import Inputs, gather
from slimpajama.ops.report.removed import duplicate_pairs, languages_of, removed_index, rule_table
from slimpajama.workspace import layout
from slimpajama.workspace.layout import folder_of
from slimpajama.workspace.manifest import Manifest
from slimpajama.workspace.open import Workspace

# Under these keys the steps record the versions of their libraries.
VERSIONS = ("cld2", "unicode", "engine", "library", "torch", "numpy")


def collect(
    workspace: Workspace, night: str, model_id: str | None = None, tuned_id: str | None = None
) -> dict[str, Any]:
    """Return the report of a published night.

    Args:
        workspace: The workspace.
        night: A published night.
        model_id: The night's model; None where nothing was trained.
        tuned_id: What a champion was tuned to in this night; None where none was.

    Returns:
        Plain JSON: `night`, `verdict`, `funnel`, `history` (earlier nights and this one), `drift`, `rules`,
        `duplicates`, `training`, `evaluation`, `samples`, `natural_repetition`, `tuning`, `corpus`, `sources`,
        `settings`, `versions`, `files`.

    Raises:
        InputError: If the night is not published.
        ModelError: If a model is not.
    """
    inputs = gather(workspace, night, model_id, tuned_id)
    manifest, place = inputs.corpus, layout.night(night)
    removed = manifest.paths(place.removed)
    samples = inputs.read("samples", "samples.json") or {"samples": []}
    index = removed_index(workspace.store, removed)
    kept = kept_documents(workspace.store, night, manifest)
    nights = {name: m.counts for name, m in inputs.recent.items()} | {night: manifest.counts}
    return {
        "format": 1,
        "night": night,
        "verdict": outcome.verdict(inputs),
        "funnel": night_funnel(
            manifest.counts, kept, languages_of(index, "clean"), languages_of(index, "decontaminate")
        ),
        "history": [history_row(name, counts) for name, counts in nights.items()],
        "drift": drift(list(nights.values())),
        "rules": rule_table(workspace.store, removed, index),
        "duplicates": duplicate_pairs(workspace.store, removed, index, _partner_files(inputs))
        | {"of_earlier_nights": manifest.counts["dedup"].get("removed_for_earlier", 0)},
        "training": outcome.training(inputs),
        "evaluation": outcome.evaluation(inputs),
        "samples": samples["samples"],
        "natural_repetition": samples.get("natural", {}),
        "tuning": outcome.tuning(workspace.models, inputs),
        "corpus": {
            "lengths": length_counts(kept),
            "clusters": cluster_sizes(workspace.store, manifest.paths(place.minhash)),
            "words": top_words(workspace.store, manifest.paths(place.split("train"))),
            "splits": split_rows(manifest.counts.get("shards", {})),
            "vocabulary": manifest.counts.get("tokenizer", {}).get("pieces"),
            "segmented": manifest.counts.get("segment", {}),
        },
        "sources": _sources(manifest),
        "settings": _settings(inputs),
        "versions": _versions(inputs),
        "files": _files(inputs),
    }


def _partner_files(inputs: Inputs) -> dict[str, list[str]]:
    """Return the kept documents' files, the night's own first, then from the newest night to the oldest."""
    nights = {inputs.night: inputs.corpus} | dict(reversed(inputs.earlier.items()))
    return {name: manifest.paths(layout.night(name).documents) for name, manifest in nights.items()}


def _sources(manifest: Manifest) -> list[dict[str, Any]]:
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


def _settings(inputs: Inputs) -> dict[str, Any]:
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


def _versions(inputs: Inputs) -> dict[str, Any]:
    steps = inputs.corpus.depends_on["stages"] | {"train": inputs.depends_on("model")}
    found = {
        step: {name: depends_on[name] for name in VERSIONS if name in depends_on} for step, depends_on in steps.items()
    }
    return {"software": inputs.corpus.depends_on["software"]} | {step: names for step, names in found.items() if names}


def _files(inputs: Inputs) -> list[dict[str, Any]]:
    """Return number, rows and bytes of the files of each folder."""
    folders: dict[str, dict[str, Any]] = {}
    for name in ("corpus", "model", "tuned"):
        for entry in inputs.manifests[name].files if name in inputs.manifests else ():
            folder = folder_of(entry.path)
            row = folders.setdefault(folder, {"folder": folder, "files": 0, "rows": 0, "bytes": 0})
            row["files"] += 1
            row["rows"] += entry.rows
            row["bytes"] += entry.bytes
    return [row for _, row in sorted(folders.items())]
