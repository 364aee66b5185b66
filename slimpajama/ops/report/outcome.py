"""What came of the night's training: verdict, loss curve, figures of both models, samples."""

from __future__ import annotations

from typing import Any

from slimpajama.core.format import excerpt
from slimpajama.ops.report.inputs import Inputs, read_listed
from slimpajama.ops.report.tuning import SHOWN
from slimpajama.workspace.open import Workspace
from slimpajama.workspace.store import Store

Part = dict[str, Any]


def verdict(store: Store, inputs: Inputs) -> Part:
    """Return whether the night's model is the new champion, and why.

    Returns:
        `status` (promoted, rejected, pending or untrained), `promoted` (null where nothing was decided), `reason`,
        `challenger`, `champion` (null where there is none), and the gate's `confidence`, `overall` and `languages`.
    """
    undecided = {
        "promoted": None,
        "challenger": inputs.model_id or None,
        "champion": None,
        "confidence": None,
        "overall": None,
        "languages": None,
    }
    if not inputs.model:
        reason = "Nothing was trained: no document of this night is new after cleaning and deduplication."
        return undecided | {"status": "untrained", "reason": reason}
    if not inputs.gate:
        return undecided | {"status": "pending", "reason": "The night's model has not been compared with the champion."}
    decision = read_listed(store, inputs.gate, "decision.json")
    return {
        "status": "promoted" if decision["promote"] else "rejected",
        "promoted": decision["promote"],
        "reason": decision["reason"],
        "challenger": inputs.model_id,
        "champion": inputs.champion_id or None,
        "confidence": inputs.gate.about["settings"]["confidence"],
        "overall": decision["overall"],
        "languages": decision["languages"],
    }


def training(store: Store, inputs: Inputs) -> Part | None:
    """Return `steps`, `tokens`, `started_from`, `nights`, the loss `curve` and the `validation` points."""
    if not inputs.model:
        return None
    record = read_listed(store, inputs.model, "training.json")
    counts = inputs.model.counts
    return {
        "steps": counts["steps"],
        "tokens": counts["tokens"],
        "started_from": record["started_from"] or None,
        "nights": sorted(inputs.model.about["nights"]),
        "curve": record["curve"],
        "validation": record["validation"],
    }


def evaluation(store: Store, inputs: Inputs) -> Part | None:
    """Return the figures of the night's model and of the champion: `overall`, by `languages`, by `sources`."""
    if not inputs.evaluation:
        return None
    champion = inputs.champion_evaluation
    return {
        "challenger": read_listed(store, inputs.evaluation, "evaluation.json"),
        "champion": read_listed(store, champion, "evaluation.json") if champion else None,
    }


def samples(store: Store, inputs: Inputs) -> list[Part]:
    """Return the generated texts: `role`, `model`, `prompt`, `text`, `repeated_share`, `copied_share`."""
    return list(read_listed(store, inputs.samples, "samples.json")["samples"]) if inputs.samples else []


def natural_repetition(store: Store, inputs: Inputs) -> Part:
    """Return by language how much held-out text of the samples' length repeats itself."""
    return dict(read_listed(store, inputs.samples, "samples.json").get("natural", {})) if inputs.samples else {}


def tuning(workspace: Workspace, inputs: Inputs) -> Part | None:
    """Return what became of a tuning, in the shape of its own report.

    Returns:
        `model`, `base`, `scores` (`tasks`, `ways`, and `samples` of which excerpts are left), `decisions`
        (the `reason` by task: why it serves the task from now on, or not).
    """
    if not inputs.tuned:
        return None
    scores = read_listed(workspace.store, inputs.tuned, "scores.json")
    texts = ("source", "question", "reference", "output")
    samples = [sample | {name: excerpt(sample[name], SHOWN) for name in texts} for sample in scores["samples"]]
    return {
        "model": inputs.tuned_id,
        "base": inputs.tuned.about["base"],
        "scores": scores | {"samples": samples},
        "decisions": {
            entry["task"]: {"reason": entry["reason"]}
            for entry in workspace.models.tuned_tasks()[1]
            if entry["model"] == inputs.tuned_id
        },
    }
