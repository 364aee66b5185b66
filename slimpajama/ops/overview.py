"""What a workspace holds, as rows of tables."""

from typing import Any

from slimpajama.workspace import layout
from slimpajama.workspace.layout import name_of
from slimpajama.workspace.manifest import load_manifest, total
from slimpajama.workspace.open import Workspace
from slimpajama.workspace.parquet import published_json

Rows = list[dict[str, Any]]
PROMOTED = {True: "yes", False: "no", None: ""}


def list_nights(workspace: Workspace) -> Rows:
    """Return a row a published night, oldest first: what came in, what was kept, what came of it."""
    rows = []
    for night in workspace.nights.published():
        counts, report = workspace.nights.load(night).counts, layout.report(night)
        shown = published_json(workspace.store, report.manifest, "report.json")
        verdict = shown["verdict"] if shown else {}
        row = {
            "night": night,
            "read": total(counts["ingest"].get("documents", 0)),
            "kept": total(counts["dedup"].get("kept", 0)),
            "tokens": total(counts.get("shards", {}).get("tokens", 0)),
            "model": verdict.get("challenger") or "",
            "promoted": PROMOTED[verdict.get("promoted")],
        }
        if forgotten := counts.get("forgotten"):
            row["forgotten"] = forgotten["documents"]
        rows.append(row)
    return rows


def list_models_with_scores(workspace: Workspace) -> Rows:
    """Return a row a published model: its night, its newest bits per byte, whether it is the champion."""
    store, best = workspace.store, workspace.models.champion()
    rows = []
    for model_id in workspace.models.published():
        night = workspace.models.manifest(model_id).depends_on["night"]
        row: dict[str, Any] = {"model": model_id, "night": night, "champion": "*" if model_id == best else ""}
        model = layout.model(model_id)
        for path in store.list(model.evaluations):
            is_evaluation = name_of(path) == layout.MANIFEST and path.count("/") == 4
            if is_evaluation and (evaluation := load_manifest(store, path)):
                row |= {f"bpb {lang}": round(bits, 4) for lang, bits in evaluation.counts["bits_per_byte"].items()}
        rows.append(row)
    return rows
