"""A store through which another one shows, for steps that read a workspace and must not write to it."""

from __future__ import annotations

from typing import BinaryIO

from slimpajama.workspace.store import Store


class Overlay:
    """Reads files of both stores; writes to, deletes from and lists the upper one alone.

    Args:
        upper: The store that is written to.
        base: The store that shows through; errors name it.
        hidden: Beginnings of paths that do not show through.
    """

    def __init__(self, upper: Store, base: Store, hidden: tuple[str, ...] = ()) -> None:
        self._upper, self._base, self._hidden = upper, base, hidden
        self.uri = base.uri
        self.list, self.size, self.lock = upper.list, upper.size, upper.lock
        self.write, self.create, self.swap = upper.write, upper.create, upper.swap
        self.delete, self.delete_tree = upper.delete, upper.delete_tree

    def _of(self, path: str) -> Store:
        return self._upper if path.startswith(self._hidden) or self._upper.exists(path) else self._base

    def exists(self, path: str) -> bool:
        """Return whether one of the two has it."""
        return self._of(path).exists(path)

    def read(self, path: str, start: int = 0, end: int | None = None) -> bytes:
        """Return the upper file or the base's, or bytes of it."""
        return self._of(path).read(path, start, end)

    def open(self, path: str) -> BinaryIO:
        """Open the upper file or the base's."""
        return self._of(path).open(path)

    def read_versioned(self, path: str) -> tuple[bytes | None, str]:
        """Return the upper file or the base's, with its version."""
        return self._of(path).read_versioned(path)
