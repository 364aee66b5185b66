"""The models of a workspace: which there are, which one is the champion, and which tuned model serves each task.

    models/MODEL/manifest.json    written last: only then the model exists
    models/MODEL/memory/NIGHT/    what it looks up of the nights up to this one
    models/champion.json          {"model", "night", "history"}, replaced by compare-and-swap
    tuned/MODEL/manifest.json     of a champion that was taught pairs
    tuned/current.json            {"tasks", "history"}: the tuned model that serves each task

`history` is a log that only grows: every promotion, every rollback and every memory that a champion was given later,
with its reason. The champion is what is left on top after playing it through, so a rollback can be followed by another
one, and brings back the memory that the champion had then.
"""

from dataclasses import dataclass
from typing import Any

from slimpajama.core.errors import LockedError, ModelError, StorageError
from slimpajama.workspace import layout
from slimpajama.workspace.catalogue import read_pointer, swap_pointer
from slimpajama.workspace.manifest import Manifest, load_manifest
from slimpajama.workspace.nights import Nights
from slimpajama.workspace.store import Store

History = list[dict[str, Any]]
REMEMBER = "remember"


@dataclass(frozen=True, slots=True)
class Pointer:
    """A file `{..., "history": [...]}` that is replaced by compare-and-swap and whose history only grows."""

    store: Store
    path: str
    what: str
    """What it points to, for messages."""

    def read(self) -> tuple[dict[str, Any], str]:
        """Return what the file holds, an empty history where there is none yet, and its version.

        Raises:
            StorageError: If it is no pointer, is damaged, or was written and is gone.
        """
        found, version = read_pointer(self.store, self.path, {"history": []})
        log = found.get("history") if isinstance(found, dict) else None
        if not isinstance(log, list) or not all(isinstance(entry, dict) for entry in log):
            raise self.damaged()
        return dict(found), version

    def write(self, value: dict[str, Any], version: str) -> None:
        """Replace the file that was read.

        Args:
            value: The new content.
            version: What `read` returned with the old one.

        Raises:
            LockedError: If someone else replaced it in between.
        """
        if not swap_pointer(self.store, self.path, value, version):
            raise LockedError(
                f"another run replaced {self.what} first",
                where=f"{self.store.uri}/{self.path}",
                hint="Nothing is lost: look at `slimpajama models`, then run again.",
            )

    def damaged(self) -> StorageError:
        """Return what to raise where the content is not what slimpajama writes."""
        hint = f"Restore it from a copy of the workspace; or delete it and {layout.noted(self.path)}: that forgets"
        hint += " all promotions."
        return StorageError("not a pointer that slimpajama wrote", where=f"{self.store.uri}/{self.path}", hint=hint)


@dataclass(frozen=True, slots=True)
class Models:
    """The trained and tuned models of a workspace."""

    store: Store

    def published(self) -> list[str]:
        """Return the ids of the trained models in order; they start with the night."""
        return self._published("models")

    def manifest(self, model_id: str) -> Manifest:
        """Return a trained model's manifest.

        Raises:
            ModelError: If there is no such model, or its training has not finished.
        """
        found = load_manifest(self.store, layout.model(model_id).manifest) if layout.is_name(model_id) else None
        if found is None:
            raise ModelError(
                "no such model",
                where=f"{self.store.uri}/models",
                found=model_id,
                hint="`slimpajama models` lists what there is; `slimpajama train` makes one.",
            )
        return found

    def trained(self) -> dict[str, Manifest]:
        """Return the manifests of the trained models by their ids."""
        return {model_id: self.manifest(model_id) for model_id in self.published()}

    def of_night(self, night: str, wanted: str = "") -> str:
        """Return the model asked for, or the one that was trained for `night`.

        Raises:
            ModelError: If there is none, or if there are several and none was asked for.
        """
        if wanted:
            # Raises where there is none.
            self.manifest(wanted)
            return wanted
        found = [model_id for model_id, manifest in self.trained().items() if manifest.depends_on["night"] == night]
        if len(found) != 1:
            raise ModelError(
                "no model of this night" if not found else "several models of this night",
                where=f"night {night}",
                found=", ".join(found),
                hint="Name one with --model." if found else "Run `slimpajama train`.",
            )
        return found[0]

    def history(self) -> History:
        """Return every promotion, rollback and memory, oldest first: `action`, `model`, `night`, `reason`."""
        return self._read()[0]

    def champion(self) -> str | None:
        """Return the id of the current champion, or None."""
        stack = _play(self.history())
        return stack[-1]["model"] if stack else None

    def champion_before(self, night: str) -> str | None:
        """Return the newest champion that `night` did not make: what the night's model is compared with.

        A night that is run again after its own model was promoted finds the same answer as before.
        """
        stack = [entry for entry in _play(self.history()) if entry["night"] != night]
        return stack[-1]["model"] if stack else None

    def memory_of(self, model_id: str) -> str:
        """Return the night of the memory that a model is used with, or nothing where it has none.

        That of a champion, past or present, was admitted by the gate; another model takes its newest one.
        """
        stack = [entry for entry in _play(self.history()) if entry["model"] == model_id]
        return str(stack[-1].get("memory", "")) if stack else self._newest_memory(model_id)

    def memory_before(self, night: str) -> str:
        """Return the night of the memory that the champion before `night` had then; nothing where it had none."""
        log = [entry for entry in self.history() if entry["action"] != REMEMBER or entry["night"] != night]
        stack = [entry for entry in _play(log) if entry["night"] != night]
        return str(stack[-1].get("memory", "")) if stack else ""

    def admit_memory(self, model_id: str, night: str, reason: str) -> bool:
        """Give the champion its memory of a night; return False where it was given before, or another one is champion.

        Raises:
            LockedError: If someone else replaced the pointer at the same time.
        """
        log, version = self._read()
        stack = _play(log)
        entry = {"action": REMEMBER, "model": model_id, "night": night}
        if not stack or stack[-1]["model"] != model_id or any(entry.items() <= done.items() for done in log):
            return False
        self._write([*log, entry | {"reason": reason}], version)
        return True

    def require_champion(self) -> str:
        """Return the id of the current champion.

        Raises:
            ModelError: If there is none yet.
        """
        found = self.champion()
        if found is None:
            raise ModelError(
                "no champion yet",
                where=self.store.uri,
                hint="Train one with `slimpajama run`, or name a model: `slimpajama models` lists them.",
            )
        return found

    def rollback_targets(self) -> list[str]:
        """Return the current champion and all that rollbacks can reach, the newest first."""
        return [entry["model"] for entry in reversed(_play(self.history()))]

    def promote(self, model_id: str, reason: str, memory: str | None = None) -> bool:
        """Make a model the champion; return False where it is already.

        Args:
            memory: Night of the memory that it is used with, or nothing; None for its newest.

        Raises:
            ModelError: If there is no such model.
            LockedError: If someone else replaced the pointer at the same time.
        """
        night = str(self.manifest(model_id).depends_on["night"])
        log, version = self._read()
        stack = _play(log)
        if stack and stack[-1]["model"] == model_id:
            return False
        entry = {"action": "promote", "model": model_id, "night": night, "reason": reason}
        if memory := self._newest_memory(model_id) if memory is None else memory:
            entry["memory"] = memory
        self._write([*log, entry], version)
        return True

    def promote_once(self, model_id: str, reason: str, memory: str | None = None) -> bool:
        """Promote a model unless it was promoted before; return whether it was done now.

        A night that is run again must not undo a later promotion or a rollback by hand.
        """
        done = any(entry["action"] == "promote" and entry["model"] == model_id for entry in self.history())
        return not done and self.promote(model_id, reason, memory)

    def rollback(self, reason: str = "rolled back by hand") -> str:
        """Go back to the champion before the current one and return its id.

        Raises:
            ModelError: If there is none, or it is no longer published.
            LockedError: If someone else replaced the pointer at the same time.
        """
        log, version = self._read()
        stack = _play(log)
        if len(stack) < 2:
            raise ModelError(
                "no champion to go back to",
                where=layout.CHAMPION,
                found=f"{len(stack)} champion(s) in its history",
                hint="`slimpajama models promote ID` chooses any published model.",
            )
        self.manifest(stack[-2]["model"])
        gone = stack[-1]
        entry = {"action": "rollback", "model": gone["model"], "night": gone["night"], "reason": reason}
        self._write([*log, entry], version)
        return str(stack[-2]["model"])

    def tuned(self) -> dict[str, Manifest]:
        """Return the manifests of the tuned models by their ids."""
        return {name: found for name in self._published("tuned") if (found := self.tuned_manifest(name))}

    def tuned_manifest(self, model_id: str) -> Manifest | None:
        """Return the manifest of a tuned model, or None where there is none of this name."""
        return load_manifest(self.store, layout.tuned(model_id).manifest) if layout.is_name(model_id) else None

    @property
    def tuned_pointer(self) -> Pointer:
        """The pointer that says which tuned model serves each task."""
        return Pointer(self.store, layout.TUNED, "the pointer to the tuned models")

    def tuned_tasks(self) -> tuple[dict[str, str], History, str]:
        """Return which tuned model serves each task, how that came about, and the pointer's version."""
        pointer = self.tuned_pointer
        found, version = pointer.read()
        tasks = found.get("tasks", {})
        if not isinstance(tasks, dict) or not all(isinstance(name, str) for name in tasks.values()):
            raise pointer.damaged()
        return tasks, found["history"], version

    def serving(self, task: str) -> str:
        """Return the tuned model that serves a task.

        Raises:
            ModelError: If there is none yet.
        """
        found = self.tuned_tasks()[0].get(task)
        if not found:
            raise ModelError(
                f"no model is tuned for {task} yet",
                where=self.store.uri,
                hint=f'Add a source with task = "{task}" to pairs.sources and run `slimpajama tune`.',
            )
        return found

    def _newest_memory(self, model_id: str) -> str:
        memories = layout.model(model_id).memories
        nights = {layout.place(path).inner for path in self.store.list(memories) if path.endswith(layout.MANIFEST)}
        return next((night for night in reversed(Nights(self.store).published()) if night in nights), "")

    def _published(self, root: str) -> list[str]:
        places = (layout.place(path) for path in self.store.list(root))
        return sorted(place.owner for place in places if place.is_manifest)

    @property
    def _pointer(self) -> Pointer:
        return Pointer(self.store, layout.CHAMPION, "the champion")

    def _read(self) -> tuple[History, str]:
        pointer = self._pointer
        found, version = pointer.read()
        log = found["history"]
        if not all(isinstance(entry.get(name), str) for entry in log for name in ("action", "model", "night")):
            raise pointer.damaged()
        return log, version

    def _write(self, log: History, version: str) -> None:
        top = _play(log)[-1]
        self._pointer.write({"model": top["model"], "night": top["night"], "history": log}, version)


def _play(log: History) -> History:
    """Return the champions that are left after every rollback, the current one last, each with its last memory."""
    stack: History = []
    for entry in log:
        if entry["action"] == "promote":
            stack.append(entry)
        elif entry["action"] == REMEMBER:
            stack[-1:] = [top | {"memory": entry["night"]} for top in stack[-1:]]
        elif stack:
            stack.pop()
    return stack
