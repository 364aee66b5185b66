"""The models of a workspace and the pointer to the champion.

    models/MODEL/manifest.json    written last: only then the model exists
    models/champion.json          {"model", "night", "history"}, replaced by compare-and-swap
    tuned/MODEL/manifest.json     of a champion that was taught pairs
    tuned/current.json            {"tasks", "history"}: the tuned model that serves each task

`history` is a log that only grows: every promotion and every rollback with its reason. The champion is what is left
on top after playing it through, so a rollback can be followed by another one.
"""

from __future__ import annotations

from typing import Any

from slimpajama.core.errors import LockedError, ModelError, StorageError
from slimpajama.workspace.manifest import Manifest, json_bytes, load_manifest
from slimpajama.workspace.store import Store, parsed_json

CHAMPION = "models/champion.json"
TUNED = "tuned/current.json"
History = list[dict[str, str]]


def list_models(store: Store) -> list[str]:
    """Return the published models in order of their names, which start with the night."""
    paths = (path.split("/") for path in store.list("models"))
    return sorted(parts[1] for parts in paths if len(parts) == 3 and parts[2] == "manifest.json")


def model_manifest(store: Store, model_id: str) -> Manifest:
    """Return a published model's manifest.

    Raises:
        ModelError: If there is no such model, or its training has not finished.
    """
    manifest = load_manifest(store, f"models/{model_id}/manifest.json") if _is_name(model_id) else None
    if manifest is None:
        raise ModelError(
            "no such model",
            where=f"{store.uri}/models",
            found=model_id,
            hint="`slimpajama models` lists what there is; `slimpajama train` makes one.",
        )
    return manifest


def history(store: Store) -> History:
    """Return every promotion and rollback, oldest first: `action`, `model`, `night`, `reason`."""
    return _read(store)[0]


def champion(store: Store) -> str | None:
    """Return the id of the current champion, or None."""
    stack = _play(history(store))
    return stack[-1]["model"] if stack else None


def champion_before(store: Store, night: str) -> str | None:
    """Return the newest champion that `night` did not make: what the night's model is compared with.

    A night that is run again after its own model was promoted finds the same answer as before.
    """
    stack = [entry for entry in _play(history(store)) if entry["night"] != night]
    return stack[-1]["model"] if stack else None


def rollback_targets(store: Store) -> list[str]:
    """Return the current champion and all that rollbacks can reach, the newest first."""
    return [entry["model"] for entry in reversed(_play(history(store)))]


def tuned_manifest(store: Store, model_id: str) -> Manifest | None:
    """Return the manifest of a tuned model, or None where there is none of this name."""
    return load_manifest(store, f"tuned/{model_id}/manifest.json") if _is_name(model_id) else None


def tuned_models(store: Store) -> dict[str, Manifest]:
    """Return the manifests of the tuned models by their ids."""
    paths = (path.split("/") for path in store.list("tuned"))
    names = sorted(parts[1] for parts in paths if len(parts) == 3 and parts[2] == "manifest.json")
    return {name: manifest for name in names if (manifest := tuned_manifest(store, name))}


def tuned_tasks(store: Store) -> tuple[dict[str, str], History, str]:
    """Return which tuned model serves each task, how that came about, and the pointer's version."""
    data, version = store.read_versioned(TUNED)
    if data is None:
        return {}, [], version
    found = _pointer(store, TUNED, data)
    if not isinstance(found.get("tasks"), dict) or not all(isinstance(name, str) for name in found["tasks"].values()):
        raise _not_a_pointer(store, TUNED)
    return found["tasks"], found["history"], version


def serving(store: Store, task: str) -> str:
    """Return the tuned model that serves a task.

    Raises:
        ModelError: If there is none yet.
    """
    found = tuned_tasks(store)[0].get(task)
    if not found:
        raise ModelError(
            f"no model is tuned for {task} yet",
            where=store.uri,
            hint=f'Add a source with task = "{task}" to pairs.sources and run `slimpajama tune`.',
        )
    return found


def promote(store: Store, model_id: str, reason: str) -> bool:
    """Make a model the champion; return False where it is already.

    Raises:
        ModelError: If there is no such model.
        LockedError: If someone else replaced the pointer at the same time.
    """
    night = str(model_manifest(store, model_id).about["night"])
    log, version = _read(store)
    stack = _play(log)
    if stack and stack[-1]["model"] == model_id:
        return False
    _write(store, [*log, {"action": "promote", "model": model_id, "night": night, "reason": reason}], version)
    return True


def rollback(store: Store, reason: str = "rolled back by hand") -> str:
    """Go back to the champion before the current one and return its id.

    Raises:
        ModelError: If there is none, or it is no longer published.
        LockedError: If someone else replaced the pointer at the same time.
    """
    log, version = _read(store)
    stack = _play(log)
    if len(stack) < 2:
        raise ModelError(
            "no champion to go back to",
            where=CHAMPION,
            found=f"{len(stack)} champion(s) in its history",
            hint="`slimpajama models promote ID` chooses any published model.",
        )
    model_manifest(store, stack[-2]["model"])
    gone = stack[-1]
    entry = {"action": "rollback", "model": gone["model"], "night": gone["night"], "reason": reason}
    _write(store, [*log, entry], version)
    return stack[-2]["model"]


def require_champion(store: Store) -> str:
    """Return the id of the current champion.

    Raises:
        ModelError: If there is none yet.
    """
    found = champion(store)
    if found is None:
        raise ModelError(
            "no champion yet",
            where=store.uri,
            hint="Train one with `slimpajama run`, or name a model: `slimpajama models` lists them.",
        )
    return found


def _is_name(model_id: str) -> bool:
    return bool(model_id) and "\0" not in model_id and "/" not in model_id and not model_id.startswith(".")


def _play(log: History) -> History:
    """Return the champions that are left after every rollback, the current one last."""
    stack: History = []
    for entry in log:
        if entry["action"] == "promote":
            stack.append(entry)
        elif stack:
            stack.pop()
    return stack


def _read(store: Store) -> tuple[History, str]:
    data, version = store.read_versioned(CHAMPION)
    if data is None:
        return [], version
    log = _pointer(store, CHAMPION, data)["history"]
    if not all(isinstance(entry.get(name), str) for entry in log for name in ("action", "model", "night")):
        raise _not_a_pointer(store, CHAMPION)
    return log, version


def _pointer(store: Store, path: str, data: bytes) -> dict[str, Any]:
    """Return what a pointer's file holds; its `history` is a list of objects."""
    found = parsed_json(data, f"{store.uri}/{path}")
    log = found.get("history") if isinstance(found, dict) else None
    if not isinstance(log, list) or not all(isinstance(entry, dict) for entry in log):
        raise _not_a_pointer(store, path)
    return dict(found)


def _not_a_pointer(store: Store, path: str) -> StorageError:
    hint = "Restore it from a copy of the workspace; or delete it, which forgets all promotions."
    return StorageError("not a pointer that slimpajama wrote", where=f"{store.uri}/{path}", hint=hint)


def _write(store: Store, log: History, version: str) -> None:
    top = _play(log)[-1]
    pointer = {"model": top["model"], "night": top["night"], "history": log}
    if not store.swap(CHAMPION, json_bytes(pointer), version):
        raise LockedError(
            "another run replaced the champion first",
            where=f"{store.uri}/{CHAMPION}",
            hint="Nothing is lost: look at `slimpajama models`, then run again.",
        )


def promote_once(store: Store, model_id: str, reason: str) -> bool:
    """Promote a model unless it was promoted before; return whether it was done now.

    A night that is run again must not undo a later promotion or a rollback by hand.
    """
    done = any(entry["action"] == "promote" and entry["model"] == model_id for entry in history(store))
    return not done and promote(store, model_id, reason)


def model_of_night(store: Store, night: str, wanted: str = "") -> str:
    """Return the model asked for, or the one that was trained for `night`.

    Raises:
        ModelError: If there is none, or if there are several and none was asked for.
    """
    if wanted:
        # Raises where there is none.
        model_manifest(store, wanted)
        return wanted
    found = [model_id for model_id in list_models(store) if model_manifest(store, model_id).about["night"] == night]
    if len(found) != 1:
        raise ModelError(
            "no model of this night" if not found else "several models of this night",
            where=f"night {night}",
            found=", ".join(found),
            hint="Name one with --model." if found else "Run `slimpajama train`.",
        )
    return found[0]
