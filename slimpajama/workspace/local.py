"""The workspace as a folder on a disk.

Below the folders of the first level a workspace holds no links. Paths are opened name by name, each within the folder
before it, so that none leads out, whatever is exchanged meanwhile. A folder of the first level may be a link: it then
lies where the workspace's owner put it, on another disk for one.
"""

import contextlib
import errno
import fcntl
import os
import shutil
import socket
import stat
import threading
import uuid
from collections.abc import Iterable, Iterator, Sequence
from io import FileIO
from pathlib import Path
from typing import BinaryIO

from slimpajama.core.errors import AGAIN, LockedError, StorageError
from slimpajama.workspace import layout
from slimpajama.workspace.store import CHECK, LOCK, Paths, held, sha256

# Where files are written before they get their names; a folder on another disk has one of its own.
TMP = ".tmp"
SWAP = f"{LOCK}.swap"
FOLDER = os.O_RDONLY | os.O_DIRECTORY
GONE = (FileNotFoundError, NotADirectoryError)
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
        # Folders of the first level that were found to lie on another disk.
        self._apart: set[str] = set()
        self._digests: dict[str, str] = {}
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"cannot make the workspace: {error.strerror}", where=self.uri) from error

    @contextlib.contextmanager
    def _folder(self, names: Sequence[str], *, make: bool = False) -> Iterator[int]:
        """Open a folder of the workspace, name by name, so that no link leads elsewhere."""
        here = os.open(self.root, FOLDER)
        try:
            for depth, name in enumerate(names, 1):
                if make:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(name, dir_fd=here)
                inner = self._enter(here, names[:depth])
                os.close(here)
                here = inner
            yield here
        finally:
            os.close(here)

    def _enter(self, folder: int, names: Sequence[str]) -> int:
        """Open the folder of the last name, which lies in an open one; a link only of the first level."""
        link = _link_at(folder, names[-1]) if len(names) == 1 else None
        if link is None:
            return self._open(FOLDER, folder, names)
        owners = {0, os.geteuid(), os.fstat(folder).st_uid}
        if names[0] not in layout.ROOTS or names[0] == layout.SCRATCH or link.st_uid not in owners:
            raise self._link(names)
        try:
            inner = os.open(names[0], FOLDER, dir_fd=folder)
        except OSError as error:
            hint = "Is its disk mounted?"
            raise StorageError("a link that leads to no folder", where=f"{self.uri}/{names[0]}", hint=hint) from error
        again = _link_at(folder, names[0])
        if again is None or (again.st_ino, again.st_ctime_ns) != (link.st_ino, link.st_ctime_ns):
            # Someone put another one in its place meanwhile.
            os.close(inner)
            raise self._link(names)
        return inner

    def _open(self, flags: int, folder: int, names: Sequence[str]) -> int:
        """Open the last name, which lies in an open folder, unless it is a link."""
        try:
            return os.open(names[-1], flags | os.O_NOFOLLOW, 0o666, dir_fd=folder)
        except OSError:
            self._refuse_link(folder, names)
            raise

    def _refuse_link(self, folder: int, names: Sequence[str]) -> None:
        if _link_at(folder, names[-1]):
            raise self._link(names)

    def _link(self, names: Sequence[str]) -> StorageError:
        hint = (
            "Put what it leads to in its place. Only a whole folder of the first level, such as models, may lie"
            " elsewhere, by a link that the workspace's owner made."
        )
        return StorageError(
            "a link, which may lead out of the workspace", where="/".join([self.uri, *names]), hint=hint
        )

    @contextlib.contextmanager
    def _at(self, path: str, *, make: bool = False) -> Iterator[tuple[int, Sequence[str]]]:
        """Give the open folder that a path lies in, and the path's names."""
        if not (names := _names(path)):
            raise StorageError("path leaves the workspace", where=path)
        with self._folder(names[:-1], make=make) as folder:
            yield folder, names

    @contextlib.contextmanager
    def _told(self, path: str, doing: str) -> Iterator[None]:
        """Make of what the operating system says of a path an error that says what to do."""
        try:
            yield
        except OSError as error:
            where = str(self.root / path)
            hint = HINTS.get(error.errno or 0, CHECK if doing == "read" else "")
            raise StorageError(f"cannot be {doing}: {error.strerror or error}", where=where, hint=hint) from error

    def read(self, path: str, start: int = 0, end: int | None = None) -> bytes:
        with self._told(path, "read"), self.open(path) as file:
            file.seek(start)
            return file.read(-1 if end is None else end - start)

    def open(self, path: str) -> BinaryIO:
        path = self.name(path)
        with self._told(path, "read"), self._at(path) as (folder, names):
            # A pipe would wait for someone to write into it.
            return open(
                self.root / path, "rb", opener=lambda _, flags: self._open(flags | os.O_NONBLOCK, folder, names)
            )

    def exists(self, path: str) -> bool:
        return self._is_there(self.name(path))

    def _is_there(self, path: str) -> bool:
        with self._told(path, "read"), contextlib.suppress(*GONE), self._at(path) as (folder, names):
            self._refuse_link(folder, names)
            os.stat(names[-1], dir_fd=folder)
            return True
        return False

    def list(self, prefix: str = "") -> Paths:
        files = sorted(self._files(prefix))
        return [p for p, size in files if not (layout.may_be_given_up(p, size) and layout.is_given_up(self.read(p)))]

    def size(self, prefix: str = "") -> int:
        return sum(size for _, size in self._files(prefix))

    def _files(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Yield path and size of every file below a folder."""
        names = _names(prefix)
        with self._told(prefix, "listed"), contextlib.suppress(*GONE), self._folder(names) as folder:
            yield from self._walk(folder, names)

    def _walk(self, folder: int, names: Sequence[str]) -> Iterator[tuple[str, int]]:
        with os.scandir(folder) as entries:
            for entry in entries:
                path = (*names, entry.name)
                is_ours = path[0] in layout.ROOTS
                if entry.name == TMP or path[0].startswith("."):
                    continue
                if entry.is_symlink() and (names or not is_ours):
                    if is_ours:
                        raise self._link(path)
                    # Whoever keeps other folders in the workspace may keep links in them.
                    continue
                with contextlib.suppress(*GONE):
                    if not entry.is_dir() and not entry.is_symlink():
                        yield "/".join(path), entry.stat().st_size
                        continue
                    inner = self._enter(folder, path)
                    try:
                        yield from self._walk(inner, path)
                    finally:
                        os.close(inner)

    def _temporary(self, folder: int, data: bytes) -> str:
        name = uuid.uuid4().hex
        try:
            with open(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666, dir_fd=folder), "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            # Otherwise the incomplete file would keep the disk full.
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=folder)
            raise
        return name

    def _publish(self, path: str, data: bytes, *, only_first: bool) -> bool:
        with self._told(path, "written"), self._at(path, make=True) as (folder, names):
            self._refuse_link(folder, names)
            try:
                return self._name(folder, names, data, only_first=only_first)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
            self._apart.add(names[0])
            return self._name(folder, names, data, only_first=only_first)

    def _name(self, folder: int, names: Sequence[str], data: bytes, *, only_first: bool) -> bool:
        """Write a file on the disk of an open folder, and give it its name there."""
        disk = names[:1] if names[0] in self._apart else ()
        with self._folder([*disk, TMP], make=True) as beside:
            temporary = self._temporary(beside, data)
            give_name = os.link if only_first else os.replace
            try:
                give_name(temporary, names[-1], src_dir_fd=beside, dst_dir_fd=folder)
            except FileExistsError:
                if not only_first:
                    raise
                return False
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(temporary, dir_fd=beside)
        # The name must survive a power loss, not only the bytes.
        os.fsync(folder)
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
    def _guard(self, name: str) -> Iterator[FileIO]:
        """Open one of the files that processes wait at."""
        with (
            self._at(name) as (folder, names),
            open(
                self.root / name, "ab+", buffering=0, opener=lambda _, flags: self._open(flags, folder, names)
            ) as file,
        ):
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
                raise self._link(names)
            yield file

    @contextlib.contextmanager
    def _swapping(self) -> Iterator[None]:
        with self._mutex, self._told(SWAP, "written"), self._guard(SWAP) as guard:
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
        with self._told(path, "deleted"), contextlib.suppress(FileNotFoundError), self._at(path) as (folder, names):
            os.unlink(names[-1], dir_fd=folder)

    def delete_tree(self, prefix: str) -> None:
        if not prefix.strip("/"):
            raise StorageError("refusing to delete the whole workspace", where=self.uri)
        with self._told(prefix, "deleted"), contextlib.suppress(FileNotFoundError), self._at(prefix) as (folder, names):
            self._refuse_link(folder, names)
            # It removes links inside as such.
            shutil.rmtree(names[-1], dir_fd=folder)

    def _clear(self) -> None:
        """Delete what killed runs left."""
        for disk in ([], *([root] for root in layout.ROOTS)):
            with contextlib.suppress(FileNotFoundError), self._folder([*disk, TMP]) as folder:
                for name in os.listdir(folder):
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(name, dir_fd=folder)

    def name(self, path: str, digest: str = "") -> str:
        digest = digest or self._digests.get(path, "")
        if digest and not self._is_there(path):
            # A copy of a workspace on S3 has the names that files have there.
            manifest = layout.place(path).folder.manifest
            times = layout.times_given_up(self.read(manifest)) if self._is_there(manifest) else 0
            if self._is_there(other := layout.listed_name(path, digest, times)):
                return other
        return path

    def learn(self, manifest: str, digests: Iterable[tuple[str, str]]) -> None:
        self._digests.update(digests)

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
        # Pointers are swapped without the workspace's lock, so this waits for the swap.
        with self._swapping():
            self._clear()
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
            with self._told(LOCK, "written"):
                self._take(stack.enter_context(self._guard(LOCK)), owner)
            held.add(self.uri)
            try:
                yield
            finally:
                held.discard(self.uri)


def _names(path: str) -> tuple[str, ...]:
    names = Path(path).parts
    if ".." in names or Path(path).is_absolute() or "\0" in path:
        raise StorageError("path leaves the workspace", where=path)
    return names


def _link_at(folder: int, name: str) -> os.stat_result | None:
    """Return what the disk says of a link in an open folder; None where the name is none."""
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
    return found if stat.S_ISLNK(found.st_mode) else None
