"""Retention: the removal of rejected models, and of what finished runs left behind.

Whatever the settings say, these are kept: the champion and every model that a rollback can reach, the models that those
began as, tuned models that serve a task, and all nights, since later nights are compared with them and models are
trained on them. Reports are kept, too: they are small, and they say what happened. So a workspace grows only with its
corpus and its champions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from slimpajama.core.config import RetentionConfig
from slimpajama.core.logs import step_log
from slimpajama.core.result import Result
from slimpajama.workspace import layout
from slimpajama.workspace.catalogue import forget
from slimpajama.workspace.index import superseded
from slimpajama.workspace.open import Workspace
from slimpajama.workspace.store import Store


@dataclass(frozen=True, slots=True)
class Removable:
    """A folder that goes."""

    folder: str
    why: str
    bytes: int


@dataclass(frozen=True, slots=True)
class CleanUpReport(Result):
    """What was removed, or would be."""

    removed: list[Removable]
    dry_run: bool
    bytes_left: int
    """Size of the whole workspace afterwards."""
    max_bytes: int
    """What `retention.max_gb` allows; 0 for no limit."""

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
    for place in superseded(workspace):
        why = "an index of several nights, merged into a larger one"
        found.append(Removable(place.path, why, workspace.store.size(place.path)))
    size_left = workspace.store.size() - sum(one.bytes for one in found)
    recent = set(nights[-cfg.nights :] if cfg.nights else nights)
    models = {model: manifest.depends_on for model, manifest in workspace.models.trained().items()}
    kept = _lineage(models, nights[-1:], workspace.models.rollback_targets())
    for model, depends_on in models.items():
        if model in kept:
            continue
        folder = layout.model(model).path
        size = workspace.store.size(folder)
        if depends_on["night"] not in recent:
            why = f"rejected, and older than the newest {cfg.nights} nights"
        elif 0 < cfg.max_gb * 1e9 < size_left:
            why = f"rejected, and the workspace is larger than {cfg.max_gb:g} GB"
        else:
            continue
        found.append(Removable(folder, why, size))
        size_left -= size
    serving = set(workspace.models.tuned_tasks()[0].values())
    for model, manifest in workspace.models.tuned().items():
        night = models.get(manifest.depends_on["base"], {"night": ""})["night"]
        if model not in serving and night not in recent:
            why = f"tuned, serves no task, and its champion is older than the newest {cfg.nights} nights"
            folder = layout.tuned(model).path
            found.append(Removable(folder, why, workspace.store.size(folder)))
    return found


def clean_up(workspace: Workspace, cfg: RetentionConfig, *, dry_run: bool = False) -> CleanUpReport:
    """Remove what may go; what a kill in between leaves is removed the next time.

    Raises:
        LockedError: If a run holds the workspace.
    """
    with workspace.store.lock("clean-up"):
        found = removable(workspace, cfg)
        if not dry_run:
            for one in found:
                step_log("clean-up").info(f"{one.folder}: {one.why}")
                forget(workspace.store, one.folder)
            # A run that had lost the workspace may have gone on for a while.
            for night in workspace.nights.published() if workspace.store.is_fenced else ():
                workspace.nights.drop_unlisted(night)
        left = workspace.store.size() - (sum(one.bytes for one in found) if dry_run else 0)
    return CleanUpReport(found, dry_run, left, int(cfg.max_gb * 1e9))


def _lineage(models: dict[str, dict[str, Any]], newest: Sequence[str], champions: Sequence[str]) -> set[str]:
    """Return the models that stay: of the newest night, champions one can go back to, and those that they began as."""
    waiting = [model for model, depends_on in models.items() if depends_on["night"] in newest] + [*champions]
    kept: set[str] = set()
    while waiting:
        model = waiting.pop()
        if model in models and model not in kept:
            kept.add(model)
            waiting.append(models[model]["started_from"])
    return kept


def _leftovers(store: Store, newest: Sequence[str]) -> list[Removable]:
    """Return folders that no run will come back to.

    A training that did not finish is such a folder unless it is the newest night's; so is what is left of a model whose
    removal was broken off. A work folder is one where the manifest beside it is written.
    """
    paths = [path for folder in ("models", "tuned", "reports", "nights") for path in store.list(folder)]
    present = {folder for path in paths for folder in layout.folders_of(path)}
    done = {layout.folder_of(path) for path in paths if layout.name_of(path) == layout.MANIFEST}
    folders: dict[str, str] = {}
    for place in map(layout.place, paths):
        unfinished = place.root in ("models", "tuned") and place.kind and place.folder.path not in done
        if unfinished and not any(place.owner.startswith(f"{night}-") for night in newest):
            folders[place.folder.path] = "a training that did not finish"
    for model in map(layout.Model, done):
        leftovers = {model.work(), model.checkpoints} & present
        folders |= dict.fromkeys(leftovers, "left by a run that has finished")
    return [Removable(folder, why, store.size(folder)) for folder, why in sorted(folders.items())]
