"""What came of the night's training: verdict, loss curve, figures of both models, samples."""

from __future__ import annotations

from typing import Any

from slimpajama.core.format import excerpt
from slimpajama.ops.report.inputs import Inputs
from slimpajama.ops.report.tuning import SHOWN
from slimpajama.workspace.registry import Models

Part = dict[str, Any]


def verdict(inputs: Inputs) -> Part:
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


def training(inputs: Inputs) -> Part | None:
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


def evaluation(inputs: Inputs) -> Part | None:
    """Return the figures of the night's model and of the champion: `overall`, by `languages`, by `sources`."""
    own = inputs.read("evaluation", "evaluation.json")
    return own and {"challenger": own, "champion": inputs.read("champion", "evaluation.json")}


def tuning(models: Models, inputs: Inputs) -> Part | None:
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
