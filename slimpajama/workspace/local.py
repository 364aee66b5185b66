"""The workspace as a folder on a disk."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import socket
import threading
import uuid
from collections.abc import Iterable, Iterator
from io import FileIO
from pathlib import Path
from typing import BinaryIO

from slimpajama.core.errors import AGAIN, LockedError, StorageError
from slimpajama.workspace import layout
from slimpajama.workspace.store import CHECK, LOCK, Paths, held, sha256

# It lies on the workspace's own file system, so that a rename is atomic.
TMP = ".tmp"
HINTS = {
    errno.ENOSPC: f"Free some space. {AGAIN}",
    errno.EDQUOT: f"Free some space, or ask for a larger quota. {AGAIN}",
    errno.EROFS: f"Mount it writable. {AGAIN}",
    errno.EIO: "The disk may be failing: see the kernel's log, then run `slimpajama verify`.",
}


class LocalStore:
    """A folder on a disk."""

    # The kernel's lock lets nobody in while its holder lives.
    is_fenced = False

    def __init__(self, root: str) -> None:
        self.root = Path(root).resolve()
        self.uri = str(self.root)
        self._mutex = threading.RLock()
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"cannot make the workspace: {error.strerror}", where=self.uri) from error

    def _path(self, path: str) -> Path:
        full = self.root / path
        if ".." in Path(path).parts or Path(path).is_absolute() or "\0" in path:
            raise StorageError("path leaves the workspace", where=path)
        return full

    @contextlib.contextmanager
    def _at(self, path: str, doing: str) -> Iterator[Path]:
        """Give a path on the disk; what the operating system says of it becomes an error that says what to do."""
        full = self._path(path)
        try:
            yield full
        except OSError as error:
            hint = HINTS.get(error.errno or 0, CHECK if doing == "read" else "")
            raise StorageError(f"cannot be {doing}: {error.strerror or error}", where=str(full), hint=hint) from error

    def read(self, path: str, start: int = 0, end: int | None = None) -> bytes:
        with self._at(path, "read") as full, full.open("rb") as file:
            file.seek(start)
            return file.read(-1 if end is None else end - start)

    def open(self, path: str) -> BinaryIO:
        with self._at(path, "read") as full:
            return full.open("rb")

    def exists(self, path: str) -> bool:
        with self._at(path, "read") as full:
            return full.exists()

    def list(self, prefix: str = "") -> Paths:
        found = []
        with self._at(prefix, "listed") as top:
            for folder, _, names in os.walk(top, onerror=_unless_gone):
                relative = Path(folder).relative_to(self.root).as_posix()
                base = "" if relative == "." else relative + "/"
                found += [base + name for name in names]
        return sorted(path for path in found if not path.startswith((TMP + "/", LOCK)))

    def size(self, prefix: str = "") -> int:
        with self._at(prefix, "listed"):
            return sum(self._path(path).stat().st_size for path in self.list(prefix))

    def _temporary(self, data: bytes) -> Path:
        temporary = self.root / TMP / uuid.uuid4().hex
        temporary.parent.mkdir(exist_ok=True)
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            # Otherwise the incomplete file would keep the disk full.
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        return temporary

    def _publish(self, path: str, data: bytes, *, only_first: bool) -> bool:
        with self._at(path, "written") as target:
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary = self._temporary(data)
            if only_first:
                try:
                    os.link(temporary, target)
                except FileExistsError:
                    return False
                finally:
                    temporary.unlink()
            else:
                os.replace(temporary, target)
            _sync_folder(target.parent)
        return True

    def write(self, path: str, data: bytes) -> None:
        self._publish(path, data, only_first=False)

    def create(self, path: str, data: bytes) -> bool:
        return self._publish(path, data, only_first=True)

    def read_versioned(self, path: str) -> tuple[bytes | None, str]:
        if not self.exists(path):
            return None, ""
        data = self.read(path)
        return data, sha256(data)

    @contextlib.contextmanager
    def _swapping(self) -> Iterator[None]:
        with self._mutex, self._at(f"{LOCK}.swap", "written") as guarded, guarded.open("ab") as guard:
            # This lock is for processes; the mutex is for threads.
            fcntl.flock(guard, fcntl.LOCK_EX)
            yield

    def swap(self, path: str, data: bytes, version: str) -> bool:
        with self._swapping():
            if self.read_versioned(path)[1] != version:
                return False
            self.write(path, data)
            return True

    def delete(self, path: str) -> None:
        with self._at(path, "deleted") as full:
            full.unlink(missing_ok=True)

    def delete_tree(self, prefix: str) -> None:
        if not prefix.strip("/"):
            raise StorageError("refusing to delete the whole workspace", where=self.uri)
        with self._at(prefix, "deleted") as top, contextlib.suppress(FileNotFoundError):
            shutil.rmtree(top)

    def name(self, path: str, digest: str = "") -> str:
        return path

    def learn(self, manifest: str, digests: Iterable[tuple[str, str]]) -> None:
        pass

    def write_listed(self, path: str, data: bytes, digest: str) -> None:
        self.write(path, data)

    def publish(self, path: str, data: bytes) -> None:
        self.write(path, data)

    def give_up(self, folder: str) -> None:
        # After a kill in between nothing reads what is left.
        self.delete(layout.Folder(folder).manifest)
        self.delete_tree(folder)

    def _take(self, file: FileIO, owner: str) -> None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise LockedError(
                "another run holds the workspace",
                where=self.uri,
                found=file.read().decode(errors="replace").strip(),
                hint="Wait for it to end, or stop it.",
            ) from None
        # Delete what killed runs left. Pointers are swapped without the workspace's lock, so this waits for the swap.
        with self._swapping():
            for leftover in (self.root / TMP).glob("*"):
                leftover.unlink(missing_ok=True)
        file.truncate(0)
        # On a full disk the lock is held without a name, so that `clean-up` can run.
        with contextlib.suppress(OSError):
            file.write(f"{owner}, process {os.getpid()} on {socket.gethostname()}\n".encode())

    @contextlib.contextmanager
    def lock(self, owner: str) -> Iterator[None]:
        """Hold the workspace; the kernel releases it when the process dies, however it dies."""
        if self.uri in held:
            yield
            return
        with contextlib.ExitStack() as stack:
            with self._at(LOCK, "written") as lock:
                self._take(stack.enter_context(lock.open("ab+", buffering=0)), owner)
            held.add(self.uri)
            try:
                yield
            finally:
                held.discard(self.uri)


def _unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        # `os.walk` would skip the folder, as if nothing were in it.
        raise error


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        # The name must survive a power loss, not only the bytes.
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
