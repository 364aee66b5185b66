"""Which tasks a tuned model serves: those at which it is better than the model that serves them now."""

from __future__ import annotations

from typing import Any, cast

import polars as pl

from slimpajama.apps.tune.loading import tuned_manifest
from slimpajama.apps.tune.metrics import MAIN, interval
from slimpajama.core.config import Config
from slimpajama.workspace.open import Workspace
from slimpajama.workspace.parquet import read_verified_table


def decide(workspace: Workspace, cfg: Config, name: str) -> dict[str, Any]:
    """Let a model serve the tasks that it is better at; a model that was asked once is not asked again."""
    tasks, history, version = workspace.models.tuned_tasks()
    own = _outputs(workspace, name)
    decisions: dict[str, Any] = {}
    for task in sorted(own["task"].unique()):
        if any(entry["task"] == task and entry["model"] == name for entry in history):
            decisions[task] = {"promote": tasks.get(task) == name, "reason": "decided before"}
            continue
        decisions[task] = _compared(own.filter(pl.col("task") == task), tasks.get(task, ""), workspace, cfg, task)
        if decisions[task]["promote"]:
            tasks[task] = name
        history.append({"task": task, "model": name, "reason": decisions[task]["reason"]})
    if any(decision["reason"] != "decided before" for decision in decisions.values()):
        workspace.models.tuned_pointer.write({"tasks": tasks, "history": history}, version)
    return decisions


def _compared(own: pl.DataFrame, served_by: str, workspace: Workspace, cfg: Config, task: str) -> dict[str, Any]:
    """Compare on the pairs that both have written, by a bootstrap of the difference in the measure that decides."""
    if not served_by:
        return {"promote": True, "reason": "nobody served it before"}
    other = _outputs(workspace, served_by).rename({"score": "before"})
    both = own.join(other.select("id", "task", "reversed", "before"), on=["id", "task", "reversed"])
    if not len(both):
        return {"promote": True, "reason": f"{served_by} was measured on other pairs"}
    difference = (both["score"] - both["before"]).to_list()
    low, high = interval(difference, cfg.evaluate.seed)
    mean = sum(difference) / len(difference)
    figures = f"{MAIN[task]} {mean:+.2f} against {served_by} ({low:+.2f} to {high:+.2f}, {len(difference)} pairs)"
    return {"promote": low > 0, "reason": ("better: " if low > 0 else "not better: ") + figures}


def _outputs(workspace: Workspace, name: str) -> pl.DataFrame:
    """Return what a tuned model made of its test pairs, with scores."""
    outputs = read_verified_table(workspace.store, tuned_manifest(workspace, name).file("outputs.parquet"))
    return cast(pl.DataFrame, pl.from_arrow(outputs))
