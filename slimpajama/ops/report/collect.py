"""The content of `report.json`: everything a night's report shows, as plain data.

No clock's reading is in it, so the same night gives the same report at any time.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from slimpajama.ops.report import outcome
from slimpajama.ops.report.corpus import cluster_sizes, length_counts, top_words
from slimpajama.ops.report.drift import drift
from slimpajama.ops.report.funnel import history_row, kept_documents, split_rows, tonight
from slimpajama.ops.report.inputs import Inputs, gather
from slimpajama.ops.report.removed import duplicate_pairs, languages_of, removed_index, rule_table
from slimpajama.workspace.manifest import FileEntry, Manifest
from slimpajama.workspace.open import Workspace

# What stages call their libraries by.
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
    manifest = inputs.corpus
    removed = manifest.paths(f"nights/{night}/removed/")
    index = removed_index(workspace.store, removed)
    kept = kept_documents(workspace.store, night, manifest)
    nights = {name: m.counts for name, m in inputs.recent.items()} | {night: manifest.counts}
    return {
        "format": 1,
        "night": night,
        "verdict": outcome.verdict(workspace.store, inputs),
        "funnel": tonight(manifest.counts, kept, languages_of(index, "clean"), languages_of(index, "decontaminate")),
        "history": [history_row(name, counts) for name, counts in nights.items()],
        "drift": drift(list(nights.values())),
        "rules": rule_table(workspace.store, removed, index),
        "duplicates": duplicate_pairs(workspace.store, removed, index, _partner_files(inputs))
        | {"of_earlier_nights": manifest.counts["dedup"].get("removed_for_earlier", 0)},
        "training": outcome.training(workspace.store, inputs),
        "evaluation": outcome.evaluation(workspace.store, inputs),
        "samples": outcome.samples(workspace.store, inputs),
        "natural_repetition": outcome.natural_repetition(workspace.store, inputs),
        "tuning": outcome.tuning(workspace, inputs),
        "corpus": {
            "lengths": length_counts(kept),
            "clusters": cluster_sizes(workspace.store, manifest.paths(f"nights/{night}/minhash/")),
            "words": top_words(workspace.store, manifest.paths(f"nights/{night}/shards/train/")),
            "splits": split_rows(manifest.counts.get("shards", {})),
            "vocabulary": manifest.counts.get("tokenizer", {}).get("pieces"),
            "segmented": manifest.counts.get("segment", {}),
        },
        "sources": _sources(manifest),
        "settings": _settings(inputs),
        "versions": _versions(inputs),
        "files": _files(
            [
                *manifest.files,
                *(inputs.model.files if inputs.model else ()),
                *(inputs.tuned.files if inputs.tuned else ()),
            ]
        ),
    }


def _partner_files(inputs: Inputs) -> dict[str, list[str]]:
    """Return the kept documents' files, tonight's first, then from the newest night to the oldest."""
    nights = {inputs.night: inputs.corpus} | dict(reversed(inputs.earlier.items()))
    return {name: manifest.paths(f"nights/{name}/documents/") for name, manifest in nights.items()}


def _sources(manifest: Manifest) -> list[dict[str, Any]]:
    """Return the configured sources with the raw files that this night read of them."""
    files: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for entry in manifest.about["stages"]["ingest"]["inputs"]:
        files[entry["source"]] += 1
        sizes[entry["source"]] += entry["bytes"]
    shown = ("name", "uri", "format", "priority", "licence")
    return [
        {name: source[name] for name in shown} | {"files": files[source["name"]], "bytes": sizes[source["name"]]}
        for source in manifest.about["settings"]["ingest"]["sources"]
    ]


def _settings(inputs: Inputs) -> dict[str, Any]:
    settings = {name: value for name, value in inputs.corpus.about["settings"].items() if name != "ingest"}
    settings["ingest"] = {k: v for k, v in inputs.corpus.about["settings"]["ingest"].items() if k != "sources"}
    if inputs.model:
        settings |= {name: inputs.model.about[name] for name in ("model", "train")}
    if inputs.evaluation and inputs.gate:
        budget = {"max_mb_per_language": inputs.evaluation.about["max_mb_per_language"]}
        settings["evaluate"] = budget | inputs.gate.about["settings"]
    if inputs.samples:
        settings["generate"] = inputs.samples.about["settings"]
    if inputs.tuned:
        settings |= {name: inputs.tuned.about[name] for name in ("tune", "apply")}
    return settings


def _versions(inputs: Inputs) -> dict[str, Any]:
    stages = dict(inputs.corpus.about["stages"])
    if inputs.model:
        stages["train"] = inputs.model.about
    found = {
        stage: {name: about[name] for name in VERSIONS if name in about}
        for stage, about in stages.items()
        if any(name in about for name in VERSIONS)
    }
    return {"software": inputs.corpus.about["software"]} | found


def _files(entries: list[FileEntry]) -> list[dict[str, Any]]:
    """Return number, rows and bytes of the files of each folder."""
    folders: dict[str, list[FileEntry]] = {}
    for entry in entries:
        folders.setdefault(entry.path.rsplit("/", 1)[0], []).append(entry)
    return [
        {
            "folder": folder,
            "files": len(found),
            "rows": sum(e.rows for e in found),
            "bytes": sum(e.bytes for e in found),
        }
        for folder, found in sorted(folders.items())
    ]
