"""The workspace on a local disk or under an `s3://` prefix: one small set of operations, the same promises.

- `write`   a file appears whole under its name or not at all (temporary file, fsync, rename; one put on S3);
- `create`  the same, but only the first writer wins;
- `swap`    compare-and-swap of a pointer: replaces what was read, or says that someone else was first;
- `lock`    one writer a workspace.

Paths are relative to the workspace, with `/`. Listings are sorted and never cached.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import json
import os
import shutil
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

import pyarrow as pa
import pyarrow.parquet as pq

from slimpajama.errors import LockedError, StorageError

__all__ = [
    "CHECK", "Store", "open_store", "parquet_bytes", "parsed_json", "read_json", "read_table", "reading", "sha256"
]  # fmt: skip

REPETITIVE = ["lang", "source", "night", "stage", "rule", "threshold"]
TMP = ".tmp"  # on the workspace's own file system, so that a rename stays atomic
LOCK = ".lock"
Paths = list[str]  # inside a class that has a method `list`, the type needs another name
WHOLE = 8 << 20  # bytes up to which S3 is asked for a file at once: they cost less than a second and a third request
CHECK = "Run `slimpajama verify`."
LEASE_S = 60.0  # S3 has no lock that dies with its process; a lease that is not renewed does


def sha256(data: bytes) -> str:
    """Return the hex digest that manifests use."""
    return hashlib.sha256(data).hexdigest()


class Store(Protocol):
    """What a workspace can do, wherever it lies."""

    uri: str

    def read(self, path: str, start: int = 0, end: int | None = None) -> bytes: ...
    def open(self, path: str) -> BinaryIO: ...
    def exists(self, path: str) -> bool: ...
    def list(self, prefix: str = "") -> Paths: ...
    def size(self, prefix: str = "") -> int: ...
    def write(self, path: str, data: bytes) -> None: ...
    def create(self, path: str, data: bytes) -> bool: ...
    def read_versioned(self, path: str) -> tuple[bytes | None, str]: ...
    def swap(self, path: str, data: bytes, version: str) -> bool: ...
    def delete(self, path: str) -> None: ...
    def delete_tree(self, prefix: str) -> None: ...
    def lock(self, owner: str) -> contextlib.AbstractContextManager[None]: ...


def open_store(uri: str) -> Store:
    """Return the store of a local folder (made where it is missing) or of an `s3://bucket/prefix`."""
    if uri.startswith("s3://"):
        return S3Store(uri)
    if "://" in uri:
        raise StorageError("unknown kind of workspace", where=uri, expected="a folder or s3://bucket/prefix")
    return LocalStore(uri)


def parquet_bytes(table: pa.Table, row_group_rows: int = 10_000, *, passing: bool = False) -> bytes:
    """Return `table` as one Parquet file; the same table gives the same bytes.

    Args:
        table: What to write. Dictionaries are only for columns that repeat themselves: trying one costs as much as
            packing. Of texts no least and greatest are noted.
        row_group_rows: Rows that are read at once.
        passing: Whether the file is read once and dropped: half as long to write, half as large again.
    """
    sink = io.BytesIO()
    short = [field.name for field in table.schema if field.type not in (pa.large_string(), pa.binary())]
    pq.write_table(
        table, sink, compression="lz4" if passing else "zstd", compression_level=None if passing else 1,
        row_group_size=row_group_rows, use_dictionary=REPETITIVE, write_statistics=short,
    )  # fmt: skip
    return sink.getvalue()


@contextlib.contextmanager
def reading(store: Store, path: str, size: int | None = None) -> Iterator[BinaryIO]:
    """Open a Parquet or Arrow file of which a part is read; what is wrong with it becomes one error that names it.

    Args:
        store: The workspace.
        path: The file.
        size: Bytes that its manifest lists; None not to look. To hash a file would cost more than to read a column of
            it, so `slimpajama verify` does that; another file in its place shows by its size.

    Raises:
        StorageError: It is missing, of another size, or not readable.
    """
    try:
        with store.open(path) as file:
            if size is not None and (found := file.seek(0, io.SEEK_END)) != size:
                raise StorageError(
                    "the file is not what its manifest says", where=f"{store.uri}/{path}",
                    expected=f"{size} bytes", found=f"{found} bytes", hint=CHECK,
                )  # fmt: skip
            yield file
    except (pa.ArrowException, OSError) as error:
        raise StorageError(f"not readable as Parquet: {error}", where=f"{store.uri}/{path}", hint=CHECK) from error


def read_table(store: Store, path: str, columns: list[str] | None = None, size: int | None = None) -> pa.Table:
    """Return a Parquet file of the workspace, or those of its columns that are named; `size` as in `reading`."""
    with reading(store, path, size) as file:
        return pq.ParquetFile(file).read(columns=columns)


def read_json(store: Store, path: str) -> Any:
    """Return a JSON file of the workspace."""
    return parsed_json(store.read(path), f"{store.uri}/{path}")


def parsed_json(data: bytes, where: str) -> Any:
    """Return the JSON value of a file that was read from `where`."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:  # of JSON, or of the UTF-8 that it is written in
        raise StorageError(f"not readable as JSON: {error}", where=where, hint=CHECK) from error


class LocalStore:
    """A folder on a disk."""

    def __init__(self, root: str) -> None:
        self.root = Path(root).resolve()
        self.uri = str(self.root)
        self._mutex = threading.RLock()
        try:
            (self.root / TMP).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"cannot make the workspace: {error.strerror}", where=self.uri) from error

    def _path(self, path: str) -> Path:
        full = self.root / path
        if ".." in Path(path).parts or Path(path).is_absolute() or "\0" in path:
            raise StorageError("path leaves the workspace", where=path)
        return full

    def read(self, path: str, start: int = 0, end: int | None = None) -> bytes:
        try:
            with self._path(path).open("rb") as file:
                file.seek(start)
                return file.read(-1 if end is None else end - start)
        except OSError as error:
            raise StorageError(f"cannot be read: {error.strerror}", where=str(self._path(path)), hint=CHECK) from error

    def open(self, path: str) -> BinaryIO:
        try:
            return self._path(path).open("rb")
        except OSError as error:
            raise StorageError(f"cannot be read: {error.strerror}", where=str(self._path(path)), hint=CHECK) from error

    def exists(self, path: str) -> bool:
        return self._path(path).exists()

    def list(self, prefix: str = "") -> Paths:
        top = self._path(prefix) if prefix else self.root
        found = []
        for folder, _, names in os.walk(top):
            relative = Path(folder).relative_to(self.root).as_posix()
            base = "" if relative == "." else relative + "/"
            found += [base + name for name in names]
        return sorted(path for path in found if not path.startswith((TMP + "/", LOCK)))

    def size(self, prefix: str = "") -> int:
        return sum(self._path(path).stat().st_size for path in self.list(prefix))

    def _temporary(self, data: bytes) -> Path:
        temporary = self.root / TMP / uuid.uuid4().hex
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        return temporary

    def _publish(self, path: str, data: bytes, *, only_first: bool) -> bool:
        target = self._path(path)
        try:
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
        except OSError as error:
            hint = "Free some space and run again: it continues where it stopped." if error.errno == 28 else ""
            raise StorageError(f"cannot be written: {error.strerror}", where=str(target), hint=hint) from error
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

    def swap(self, path: str, data: bytes, version: str) -> bool:
        with self._mutex, (self.root / (LOCK + ".swap")).open("ab") as guard:
            fcntl.flock(guard, fcntl.LOCK_EX)  # between processes; the mutex is for threads
            if self.read_versioned(path)[1] != version:
                return False
            self.write(path, data)
            return True

    def delete(self, path: str) -> None:
        self._path(path).unlink(missing_ok=True)

    def delete_tree(self, prefix: str) -> None:
        if not prefix.strip("/"):
            raise StorageError("refusing to delete the whole workspace", where=self.uri)
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self._path(prefix))

    @contextlib.contextmanager
    def lock(self, owner: str) -> Iterator[None]:
        """Hold the workspace; the kernel lets go of it when the process dies, however it dies."""
        if self.uri in _held:
            yield
            return
        with (self.root / LOCK).open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                file.seek(0)
                raise LockedError(
                    "another run holds the workspace", where=self.uri, found=file.read().strip(),
                    hint="Wait for it to end, or stop it.",
                ) from None  # fmt: skip
            file.truncate(0)
            file.write(f"{owner}, process {os.getpid()} on {socket.gethostname()}\n")
            file.flush()
            for leftover in (self.root / TMP).iterdir():  # of runs that were killed: we are alone now
                leftover.unlink(missing_ok=True)
            _held.add(self.uri)
            try:
                yield
            finally:
                _held.discard(self.uri)


_held: set[str] = set()  # workspaces this process holds, so that a flow inside a flow does not lock itself out


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)  # the name itself must survive a power loss, not just the bytes
    finally:
        os.close(descriptor)


class S3Store:
    """A prefix of a bucket; needs a server that honours conditional puts, which `lock` checks before any write."""

    def __init__(self, uri: str) -> None:
        import s3fs

        self.uri = uri.rstrip("/")
        self._base = self.uri.removeprefix("s3://")
        # One client a process, which a fork makes anew: making one takes 0.1 s and more of the processor's time.
        self._fs = s3fs.S3FileSystem(
            use_listings_cache=False,  # a cached listing is wrong as soon as anyone else writes
            config_kwargs={
                "connect_timeout": 10,
                "read_timeout": 60,
                "retries": {"max_attempts": 8, "mode": "adaptive"},
            },
        )

    def _check_conditional_puts(self) -> None:
        probe = f".probe/{uuid.uuid4().hex}"
        try:
            refused = self.create(probe, b"1") and not self.create(probe, b"2")
        finally:
            with contextlib.suppress(OSError, StorageError):
                self.delete(probe)
        if not refused:
            raise StorageError(
                "the store ignores conditional puts", where=self.uri, expected="If-None-Match to be honoured",
                hint="Two runs could overwrite each other here; use a store that honours them.",
            )  # fmt: skip

    def _key(self, path: str) -> str:
        if ".." in path.split("/"):
            raise StorageError("path leaves the workspace", where=path)
        return f"{self._base}/{path}".rstrip("/")

    @contextlib.contextmanager
    def _errors(self, path: str, doing: str) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:
            hint = CHECK if doing == "read" else ""
            raise StorageError(f"cannot be {doing}: {error}", where=f"{self.uri}/{path}", hint=hint) from error

    def read(self, path: str, start: int = 0, end: int | None = None) -> bytes:
        with self._errors(path, "read"):
            if start == end:
                return b""  # which no range can ask for
            return cast(bytes, self._fs.cat_file(self._key(path), start=start or None, end=end))

    def open(self, path: str) -> BinaryIO:
        """Open a file; its size is not asked for first, so one of our parts is a single request."""
        with self._errors(path, "read"):
            end = self._fs.cat_file(self._key(path), start=-WHOLE)
            if len(end) < WHOLE:
                return io.BytesIO(end)
            return cast(BinaryIO, self._fs.open(self._key(path), "rb", block_size=WHOLE))

    def exists(self, path: str) -> bool:
        bucket, _, key = self._key(path).partition("/")
        with self._errors(path, "read"):
            try:
                self._fs.call_s3("head_object", Bucket=bucket, Key=key)  # `isfile` lists a prefix, too, on a miss
            except FileNotFoundError:
                return False
        return True

    def list(self, prefix: str = "") -> Paths:
        with self._errors(prefix, "listed"):
            found = self._fs.find(self._key(prefix), detail=True)
        # An emptied prefix may answer with itself, as a folder.
        keys = (key for key, info in found.items() if info["type"] == "file" and key.startswith(self._base + "/"))
        names = (key.removeprefix(self._base + "/") for key in keys)
        return sorted(name for name in names if not name.startswith((LOCK, ".probe/")))

    def size(self, prefix: str = "") -> int:
        with self._errors(prefix, "listed"):
            return sum(info["size"] for info in self._fs.find(self._key(prefix), detail=True).values())

    def write(self, path: str, data: bytes) -> None:
        with self._errors(path, "written"):
            self._fs.pipe_file(self._key(path), data)

    def _put(self, path: str, data: bytes, **condition: str) -> bool:
        bucket, _, key = self._key(path).partition("/")
        try:
            self._fs.call_s3("put_object", Bucket=bucket, Key=key, Body=data, **condition)
        except FileExistsError:
            return False
        except OSError as error:
            if "PreconditionFailed" in str(error) or "condition" in str(error).lower() or error.errno == 412:
                return False
            raise StorageError(f"cannot be written: {error}", where=f"{self.uri}/{path}") from error
        return True

    def create(self, path: str, data: bytes) -> bool:
        return self._put(path, data, IfNoneMatch="*")

    def read_versioned(self, path: str) -> tuple[bytes | None, str]:
        if not self.exists(path):
            return None, ""
        with self._errors(path, "read"):
            etag = str(self._fs.info(self._key(path))["ETag"])
            return self._fs.cat_file(self._key(path)), etag

    def swap(self, path: str, data: bytes, version: str) -> bool:
        return self._put(path, data, IfMatch=version) if version else self.create(path, data)

    def delete(self, path: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._fs.rm_file(self._key(path))

    def delete_tree(self, prefix: str) -> None:
        if not prefix.strip("/"):
            raise StorageError("refusing to delete the whole workspace", where=self.uri)
        bucket, _, base = self._base.partition("/")
        keys = [{"Key": f"{base}/{path}".lstrip("/")} for path in self.list(prefix.rstrip("/") + "/")]
        with self._errors(prefix, "deleted"):
            for start in range(0, len(keys), 1000):  # as many as a request takes
                some = {"Objects": keys[start : start + 1000], "Quiet": True}
                answer = self._fs.call_s3("delete_objects", Bucket=bucket, Delete=some)
                if refused := answer.get("Errors"):
                    raise OSError(f"{refused[0]['Key']}: {refused[0].get('Message', refused[0].get('Code'))}")

    @contextlib.contextmanager
    def lock(self, owner: str) -> Iterator[None]:
        """Hold a lease in the workspace, renewed by a thread; it runs out when this process dies."""
        if self.uri in _held:
            yield
            return
        self._check_conditional_puts()
        lease = _Lease(self, f"{owner}, process {os.getpid()} on {socket.gethostname()}")
        lease.acquire()
        _held.add(self.uri)
        try:
            yield
        finally:
            _held.discard(self.uri)
            lease.release()


class _Lease:
    """A lock object with an end, renewed at a third of its life."""

    def __init__(self, store: S3Store, owner: str) -> None:
        self.store, self.owner, self.token = store, owner, uuid.uuid4().hex
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._renew, daemon=True, name="workspace-lease")

    def _body(self) -> bytes:
        return json.dumps({"owner": self.owner, "token": self.token, "until": time.time() + LEASE_S}).encode()

    def acquire(self) -> None:
        data, version = self.store.read_versioned(LOCK)
        holder: dict[str, Any] = json.loads(data) if data else {"until": 0.0, "owner": ""}
        if holder["until"] > time.time() or not self.store.swap(LOCK, self._body(), version):
            raise LockedError(
                "another run holds the workspace", where=self.store.uri, found=str(holder["owner"]),
                hint=f"Wait for it to end; after a kill its lease runs out within {LEASE_S:.0f} s.",
            )  # fmt: skip
        self.thread.start()

    def _renew(self) -> None:
        while not self.stop.wait(LEASE_S / 3):
            data, version = self.store.read_versioned(LOCK)
            if data is None or json.loads(data)["token"] != self.token:
                return  # taken over: our puts of immutable files do no harm, pointers are compare-and-swap
            self.store.swap(LOCK, self._body(), version)

    def release(self) -> None:
        self.stop.set()
        self.thread.join()
        self.store.delete(LOCK)
