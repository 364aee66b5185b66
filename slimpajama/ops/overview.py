"""What a workspace holds, as rows of tables."""

from collections.abc import Iterator
from typing import Any

from slimpajama.core.page import plain_table
from slimpajama.corpus.losses import losses_of
from slimpajama.workspace import layout
from slimpajama.workspace.layout import name_of
from slimpajama.workspace.manifest import Counts, Manifest, add_counts, load_manifest, total
from slimpajama.workspace.open import Workspace
from slimpajama.workspace.parquet import published_json, verified_json

Rows = list[dict[str, Any]]
PROMOTED = {True: "yes", False: "no", None: ""}


def list_nights(workspace: Workspace) -> Rows:
    """Return a row a published night, oldest first: what came in, what was kept, what came of it.

    `refused` are the records that reading and cleaning refused, by source, file and rule; where a night of an earlier
    version does not tell the file, it is empty. `problems` names the rules that refused records of a source which could
    not be read, or of which nothing was left. `again` are the documents that an earlier night had refused, by source.
    """
    rows = []
    for night in workspace.nights.published():
        counts, report = workspace.nights.load(night).counts, layout.report(night)
        shown = published_json(workspace.store, report.manifest, "report.json")
        verdict = shown["verdict"] if shown else {}
        row = {
            "night": night,
            "read": total(counts["ingest"].get("documents", 0)),
            "refused": add_counts(_refused(counts.get(step, {})) for step in ("ingest", "clean")),
            "problems": losses_of(counts),
            "again": counts["ingest"].get("again", {}),
            "kept": total(counts["dedup"].get("kept", 0)),
            "tokens": total(counts.get("shards", {}).get("tokens", 0)),
            "model": verdict.get("challenger") or "",
            "promoted": PROMOTED[verdict.get("promoted")],
        }
        if forgotten := counts.get("forgotten"):
            row["forgotten"] = forgotten["documents"]
        rows.append(row)
    return rows


def _refused(counts: Counts) -> Counts:
    by_rule = {source: {"": rules} for source, rules in counts.get("removed", {}).items()}
    found: Counts = counts.get("refused", by_rule)
    return found


def show_nights(rows: Rows) -> str:
    """Return the rows as a table, of refused records and of those that came in late the sums."""
    return plain_table([row | {name: total(row[name]) for name in ("refused", "again")} for row in rows])


def list_models_with_scores(workspace: Workspace) -> Rows:
    """Return a row a published model: its night, its newest bits per byte, how much better than its predecessor it is.

    `set` names the held-out text of the bits per byte: that of all nights up to one, and its documents. `difference` is
    that to the predecessor (`against`), both on the held-out text of the same night (`on`), over all languages as the
    gate weighs them; below zero is better.
    """
    best, evaluated = workspace.models.champion(), dict[str, str]()
    rows: Rows = []
    for model_id in workspace.models.published():
        night = workspace.models.manifest(model_id).depends_on["night"]
        row = {"model": model_id, "night": night, "champion": "*" if model_id == best else ""}
        compared = {"difference": "", "against": "", "on": ""}
        for of, evaluation in _evaluations(workspace, model_id):
            evaluated[evaluation.digest] = model_id
            row |= {f"bpb {lang}": round(bits, 4) for lang, bits in evaluation.counts["bits_per_byte"].items()}
            row["set"] = f"{of}: {evaluation.counts['documents']:,} documents"
            gate = load_manifest(workspace.store, layout.model(model_id).gate(of).manifest)
            overall = verified_json(workspace.store, gate.file("decision.json"))["overall"] if gate else None
            if gate and overall:
                difference = round(overall["difference"], 6)
                compared = {"difference": difference, "against": gate.depends_on["champion"], "on": of}
        rows.append(row | compared)
    # The gate knows the digest of the champion's evaluation.
    return [row | {"against": evaluated.get(row["against"], "")} for row in rows]


def _evaluations(workspace: Workspace, model_id: str) -> Iterator[tuple[str, Manifest]]:
    """Yield the nights that a model was evaluated on, in order, and the evaluations."""
    for path in workspace.store.list(layout.model(model_id).evaluations):
        is_evaluation = name_of(path) == layout.MANIFEST and path.count("/") == 4
        if is_evaluation and (found := load_manifest(workspace.store, path)):
            yield layout.place(path).inner, found
