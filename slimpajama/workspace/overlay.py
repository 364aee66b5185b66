"""A store through which another one shows: for stages that read a workspace and must not write to it."""

from __future__ import annotations

from typing import BinaryIO

from slimpajama.workspace.store import Store


class Overlay:
    """Reads find what lies in either store; writes, removals and listings are of the upper one alone.

    Args:
        upper: Where everything is written to.
        base: What shows through; errors name it.
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
        """Whether either has it."""
        return self._of(path).exists(path)

    def read(self, path: str, start: int = 0, end: int | None = None) -> bytes:
        """Return it, or bytes of it, from above or from below."""
        return self._of(path).read(path, start, end)

    def open(self, path: str) -> BinaryIO:
        """Open it above or below."""
        return self._of(path).open(path)

    def read_versioned(self, path: str) -> tuple[bytes | None, str]:
        """Return it with its version, from above or from below."""
        return self._of(path).read_versioned(path)
