"""What a workspace holds, in tables."""

from __future__ import annotations

from typing import Any

from slimpajama.core.errors import printable
from slimpajama.workspace.manifest import Manifest, load_manifest
from slimpajama.workspace.open import Workspace
from slimpajama.workspace.store import Store, read_json

Rows = list[dict[str, Any]]


def add_up(value: Any) -> int:
    """Add up the numbers of a nested count."""
    return sum(add_up(item) for item in value.values()) if isinstance(value, dict) else int(value)


def list_nights(workspace: Workspace) -> Rows:
    """Return a row a published night, oldest first: what came in, what was kept, what came of it."""
    rows = []
    for night in workspace.nights.published():
        counts = workspace.nights.load(night).counts
        report = f"reports/{night}/report.json"
        verdict = (
            read_json(workspace.store, report)["verdict"]
            if workspace.store.exists(f"reports/{night}/manifest.json")
            else {}
        )
        rows.append(
            {
                "night": night,
                "read": add_up(counts["ingest"].get("documents", 0)),
                "kept": add_up(counts["dedup"].get("kept", 0)),
                "tokens": add_up(counts.get("shards", {}).get("tokens", 0)),
                "model": verdict.get("challenger", "") or "",
                "promoted": {True: "yes", False: "no"}.get(verdict.get("promoted"), ""),  # type: ignore[arg-type]
            }
        )
        if forgotten := counts.get("forgotten"):
            rows[-1]["forgotten"] = forgotten["documents"]
    return rows


def list_models_with_scores(workspace: Workspace) -> Rows:
    """Return a row a published model: its night, its newest bits per byte, whether it is the champion."""

    best = workspace.models.champion()
    rows = []
    for model_id in workspace.models.published():
        about = workspace.models.manifest(model_id).about
        row: dict[str, Any] = {"model": model_id, "night": about["night"], "champion": "*" if model_id == best else ""}
        for manifest in _evaluations(workspace.store, model_id):
            row |= {f"bpb {lang}": round(value, 4) for lang, value in manifest.counts["bits_per_byte"].items()}
        rows.append(row)
    return rows


def _evaluations(store: Store, model_id: str) -> list[Manifest]:
    folder = f"models/{model_id}/evaluations/"
    paths = [path for path in store.list(folder) if path.endswith("/manifest.json") and path.count("/") == 4]
    return [manifest for path in paths if (manifest := load_manifest(store, path))]


def table(rows: Rows) -> str:
    """Return rows as aligned text; columns are those of all rows, in order of first appearance."""
    if not rows:
        return ""
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = [names] + [[printable(row.get(name, "")) for name in names] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(names))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells
    )
