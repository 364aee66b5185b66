"""A small JSON file that is replaced by compare-and-swap and carries its own history: who serves, and how it came."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from slimpajama.core.errors import LockedError, StorageError
from slimpajama.workspace.manifest import json_bytes
from slimpajama.workspace.store import Store, parsed_json

History = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Pointer:
    """A file `{..., "history": [...]}` whose history only grows.

    Args:
        store: The workspace.
        path: The file.
        what: What it points to, for messages.
    """

    store: Store
    path: str
    what: str

    def read(self) -> tuple[dict[str, Any], str]:
        """Return what the file holds, an empty history where there is none yet, and its version.

        Raises:
            StorageError: If it is no pointer.
        """
        data, version = self.store.read_versioned(self.path)
        if data is None:
            return {"history": []}, version
        found = parsed_json(data, f"{self.store.uri}/{self.path}")
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
        if not self.store.swap(self.path, json_bytes(value), version):
            raise LockedError(
                f"another run replaced {self.what} first",
                where=f"{self.store.uri}/{self.path}",
                hint="Nothing is lost: look at `slimpajama models`, then run again.",
            )

    def damaged(self) -> StorageError:
        """Return what to raise where the content is not what slimpajama writes."""
        hint = "Restore it from a copy of the workspace; or delete it, which forgets all promotions."
        return StorageError("not a pointer that slimpajama wrote", where=f"{self.store.uri}/{self.path}", hint=hint)
