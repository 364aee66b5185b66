"""What a workspace may do without, and its removal: rejected models, and what finished runs left behind.

Kept are, whatever the settings say: the champion and every model that a rollback can reach, what those were started
from, tuned models that serve a task, and all nights: later nights are compared with them, and models are trained on
them. Reports are small, and the account of what happened: they stay. So a workspace grows with its corpus and its
champions alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from slimpajama.core.config import RetentionConfig
from slimpajama.core.logs import step_log
from slimpajama.workspace.manifest import forget
from slimpajama.workspace.open import Workspace
from slimpajama.workspace.store import Store


@dataclass(frozen=True, slots=True)
class Removable:
    """A folder that goes."""

    folder: str
    why: str
    bytes: int


@dataclass(frozen=True, slots=True)
class CleanUpReport:
    """What went, or would go."""

    removed: list[Removable]
    dry_run: bool
    bytes_left: int
    """Of the whole workspace, afterwards."""
    max_bytes: int
    """What `retention.max_gb` allows; 0 for no limit."""

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain JSON."""
        return asdict(self)

    def text(self) -> str:
        """Return it for people."""
        verb = "would go" if self.dry_run else "removed"
        lines = [f"{verb}: {one.folder}  {one.bytes / 1e6:,.1f} MB  ({one.why})" for one in self.removed]
        total = sum(one.bytes for one in self.removed)
        lines.append(f"{total / 1e6:,.1f} MB {verb}, {self.bytes_left / 1e6:,.1f} MB left")
        if 0 < self.max_bytes < self.bytes_left:
            lines.append(
                f"That is more than retention.max_gb ({self.max_bytes / 1e9:g} GB): the rest is champions and corpus."
            )
        return "\n".join(lines)


def removable(workspace: Workspace, cfg: RetentionConfig) -> list[Removable]:
    """Return what goes, in the order of its removal: leftovers first, then models, the oldest first.

    Args:
        workspace: The workspace; held by the caller, so that nothing is being trained.
        cfg: `nights` and `max_gb`.
    """
    nights = workspace.nights.published()
    found = _leftovers(workspace.store, nights[-1:])
    left = workspace.store.size() - sum(one.bytes for one in found)
    recent = set(nights[-cfg.nights :] if cfg.nights else nights)
    models = {model: workspace.models.manifest(model).about for model in workspace.models.published()}
    kept = _lineage(models, nights[-1:], workspace.models.rollback_targets())
    for model, about in models.items():
        if model in kept:
            continue
        size = workspace.store.size(f"models/{model}")
        if about["night"] not in recent:
            why = f"rejected, and older than the newest {cfg.nights} nights"
        elif 0 < cfg.max_gb * 1e9 < left:
            why = f"rejected, and the workspace is larger than {cfg.max_gb:g} GB"
        else:
            continue
        found.append(Removable(f"models/{model}", why, size))
        left -= size
    serving = set(workspace.models.tuned_tasks()[0].values())
    for model, manifest in workspace.models.tuned().items():
        if model not in serving and not recent & set(manifest.about["nights"]):
            why = f"tuned, serves no task, and older than the newest {cfg.nights} nights"
            found.append(Removable(f"tuned/{model}", why, workspace.store.size(f"tuned/{model}")))
    return found


def clean_up(workspace: Workspace, cfg: RetentionConfig, *, dry_run: bool = False) -> CleanUpReport:
    """Remove what may go; a kill in between leaves leftovers that the next time takes.

    Raises:
        LockedError: If a run holds the workspace.
    """
    with workspace.store.lock("clean-up"):
        found = removable(workspace, cfg)
        if not dry_run:
            for one in found:
                step_log("clean-up").info(f"{one.folder}: {one.why}")
                forget(workspace.store, one.folder)
        left = workspace.store.size() - (sum(one.bytes for one in found) if dry_run else 0)
    return CleanUpReport(found, dry_run, left, int(cfg.max_gb * 1e9))


def _lineage(models: dict[str, dict[str, Any]], newest: Sequence[str], champions: Sequence[str]) -> set[str]:
    """Return the models that stay: of the newest night, champions one can go back to, and what they started from."""
    waiting = [model for model, about in models.items() if about["night"] in newest] + [*champions]
    kept: set[str] = set()
    while waiting:
        model = waiting.pop()
        if model in models and model not in kept:
            kept.add(model)
            waiting.append(models[model]["started_from"])
    return kept


def _leftovers(store: Store, newest: Sequence[str]) -> list[Removable]:
    """Return folders that no run will come back to.

    A training that did not finish is one of them unless it is the newest night's; so is what is left of a model whose
    removal was broken off. Work folders go where the manifest beside them is written.
    """
    paths = [path for folder in ("models", "tuned", "reports", "nights") for path in store.list(folder)]
    done = {path.removesuffix("/manifest.json") for path in paths if path.endswith("/manifest.json")}
    folders: dict[str, str] = {}
    for path in paths:
        parts = path.split("/")
        own = "/".join(parts[:2])
        unfinished = parts[0] in ("models", "tuned") and len(parts) > 2 and own not in done
        if unfinished and not any(parts[1].startswith(f"{night}-") for night in newest):
            folders[own] = "a training that did not finish"
        for place, part in enumerate(parts[:-1]):
            if part in ("work", "checkpoints") and "/".join(parts[:place]) in done:
                folders["/".join(parts[: place + 1])] = "left by a run that has finished"
                break
    return [Removable(folder, why, store.size(folder)) for folder, why in sorted(folders.items())]
