"""A workspace: opened once a process, by its address, and passed down."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

from slimpajama.core.errors import StorageError
from slimpajama.workspace import layout
from slimpajama.workspace.local import LocalStore
from slimpajama.workspace.nights import Nights
from slimpajama.workspace.registry import Models
from slimpajama.workspace.s3 import S3Store
from slimpajama.workspace.store import Paths, Store


@dataclass(frozen=True)
class Workspace:
    """Where everything lies: files by `store`, nights and models by their own words, paths by `layout`."""

    store: Store

    @property
    def uri(self) -> str:
        """The workspace's address."""
        return self.store.uri

    @cached_property
    def nights(self) -> Nights:
        """The nights that were begun or published."""
        return Nights(self.store)

    @cached_property
    def models(self) -> Models:
        """The trained and tuned models, and which of them serve."""
        return Models(self.store)


def open_workspace(uri: str) -> Workspace:
    """Open a workspace, see `open_store`."""
    return Workspace(open_store(uri))


def find_workspace(uri: str) -> Workspace | None:
    """Return the workspace at an address; None where a folder holds no published night, which is left as it is."""
    return open_workspace(uri) if "://" in uri or Path(uri, layout.NIGHTS_INDEX).is_file() else None


def scratch_workspace(uri: str, base: Workspace | None = None, hidden: tuple[str, ...] = ()) -> Workspace:
    """Return a workspace to work in and delete, through which another one shows that is not written to.

    Args:
        uri: Where it lies.
        base: What shows through; None for nothing.
        hidden: Beginnings of paths that do not show through.
    """
    upper = open_store(uri)
    return Workspace(Overlay(upper, base.store, hidden) if base else upper)


def open_store(uri: str) -> Store:
    """Return the store of a local folder (made where it is missing) or of an `s3://bucket/prefix`.

    Raises:
        StorageError: The address is of another kind, or the folder cannot be made.
    """
    if uri.startswith("s3://"):
        return S3Store(uri)
    if "://" in uri:
        raise StorageError("unknown kind of workspace", where=uri, expected="a folder or s3://bucket/prefix")
    return LocalStore(uri)


def listed_folder(folder: Path) -> Store:
    """Return the store of a folder that is no workspace, such as an exported model, to read what it lists."""
    return LocalStore(str(folder))


class Overlay:
    """A store through which another one shows, for steps that read a workspace and must not write to it.

    It reads and lists files of both; it writes to and deletes from the upper one alone.

    Args:
        upper: The store that is written to.
        base: The store that shows through; errors name it.
        hidden: Beginnings of paths that do not show through.
    """

    def __init__(self, upper: Store, base: Store, hidden: tuple[str, ...] = ()) -> None:
        self._upper, self._base, self._hidden = upper, base, hidden
        self.uri = base.uri
        self.size, self.lock = upper.size, upper.lock
        self.write, self.create, self.swap = upper.write, upper.create, upper.swap
        self.delete, self.delete_tree, self.give_up = upper.delete, upper.delete_tree, upper.give_up
        self.name, self.write_listed, self.publish = upper.name, upper.write_listed, upper.publish
        self.is_fenced = upper.is_fenced

    def _of(self, path: str) -> Store:
        return self._upper if path.startswith(self._hidden) or self._upper.exists(path) else self._base

    def learn(self, manifest: str, digests: Iterable[tuple[str, str]]) -> None:
        """Let the one that has the manifest take note of what it lists."""
        self._of(manifest).learn(manifest, digests)

    def list(self, prefix: str = "") -> Paths:
        """Return the paths of both."""
        shown = (path for path in self._base.list(prefix) if not path.startswith(self._hidden))
        return sorted({*self._upper.list(prefix), *shown})

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
