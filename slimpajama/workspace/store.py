"""The workspace on a local disk or under an `s3://` prefix: one small set of operations, the same promises.

- `write`   a file appears whole under its name or not at all (temporary file, fsync, rename; one put on S3);
- `create`  the same, but only the first writer wins;
- `swap`    compare-and-swap of a pointer: replaces what was read, or says that someone else was first;
- `lock`    one writer a workspace.

Paths are relative to the workspace, with `/`. Listings are sorted and never cached.
"""

from __future__ import annotations

import contextlib
import errno
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
import zlib
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

import pyarrow as pa
import pyarrow.parquet as pq

from slimpajama.core.errors import LockedError, StorageError

REPETITIVE = ["lang", "source", "night", "stage", "rule", "threshold"]
# On the workspace's own file system, so that a rename stays atomic.
TMP = ".tmp"
LOCK = ".lock"
# Inside a class that has a method `list`, the type needs another name.
Paths = list[str]
# Bytes up to which S3 is asked for a file at once: they cost less than a second and a third request.
WHOLE = 8 << 20
CHECK = "Run `slimpajama verify`."
# S3 has no lock that dies with its process; a lease that is not renewed does.
LEASE_S = 60.0
# How long S3 may take to be reached, and to send the next byte.
CONNECT_S, ANSWER_S = 10, 60
# Of botocore, for a request that was refused or not answered; it waits up to 20 s between two.
ATTEMPTS = 8
# Of a request that botocore has given up, or whose answer came cut or damaged.
TRIES = 3
AGAIN = "Run again: it goes on where it stopped."
HINTS = {
    errno.ENOSPC: f"Free some space. {AGAIN}",
    errno.EDQUOT: f"Free some space, or ask for a larger quota. {AGAIN}",
    errno.EROFS: f"Mount it writable. {AGAIN}",
    errno.EIO: "The disk may be failing: see the kernel's log, then run `slimpajama verify`.",
}
REFUSED = ("PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey", "412", "409")
# HEAD's answer is a number.
NO_ENTRY = ("400", "403", "ExpiredToken", "InvalidToken", "TokenRefreshRequired")


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
        table,
        sink,
        compression="lz4" if passing else "zstd",
        compression_level=None if passing else 1,
        row_group_size=row_group_rows,
        use_dictionary=REPETITIVE,
        write_statistics=short,
    )
    return sink.getvalue()


def sealed(data: bytes) -> bytes:
    """Return a piece of a file with its checksum behind it, for pieces that are read without the rest."""
    return data + zlib.crc32(data).to_bytes(4, "little")


def read_sealed(store: Store, path: str, start: int, end: int, again: str) -> bytes:
    """Return a piece that was written `sealed`, without its checksum; `again` says what to do if it is damaged."""
    for _ in range(TRIES):
        data = store.read(path, start, end)
        if data == sealed(data[:-4]):
            return data[:-4]
    raise StorageError("damaged", where=f"{store.uri}/{path}", found=f"bytes {start} to {end}", hint=again)


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
                    "the file is not what its manifest says",
                    where=f"{store.uri}/{path}",
                    expected=f"{size} bytes",
                    found=f"{found} bytes",
                    hint=CHECK,
                )
            yield file
    except faults(pa.ArrowException) as error:
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
        value = json.loads(data)
        # Our own files hold no escape of this kind; half a pair can be written nowhere.
        if b"\\ud" in data.lower():
            json.dumps(value, ensure_ascii=False).encode()
        return value
    except (ValueError, RecursionError) as error:
        # Of JSON, or of the UTF-8 that it is written in.
        raise StorageError(f"not readable as JSON: {error}", where=where, hint=CHECK) from error


class LocalStore:
    """A folder on a disk."""

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

    def read(self, path: str, start: int = 0, end: int | None = None) -> bytes:
        with _disk(self._path(path), "read"), self._path(path).open("rb") as file:
            file.seek(start)
            return file.read(-1 if end is None else end - start)

    def open(self, path: str) -> BinaryIO:
        with _disk(self._path(path), "read"):
            return self._path(path).open("rb")

    def exists(self, path: str) -> bool:
        with _disk(self._path(path), "read"):
            return self._path(path).exists()

    def list(self, prefix: str = "") -> Paths:
        top = self._path(prefix) if prefix else self.root
        found = []
        with _disk(top, "listed"):
            for folder, _, names in os.walk(top, onerror=_unless_gone):
                relative = Path(folder).relative_to(self.root).as_posix()
                base = "" if relative == "." else relative + "/"
                found += [base + name for name in names]
        return sorted(path for path in found if not path.startswith((TMP + "/", LOCK)))

    def size(self, prefix: str = "") -> int:
        with _disk(self._path(prefix), "listed"):
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
            with contextlib.suppress(OSError):
                # What is there of it would keep the disk full.
                temporary.unlink()
            raise
        return temporary

    def _publish(self, path: str, data: bytes, *, only_first: bool) -> bool:
        target = self._path(path)
        with _disk(target, "written"):
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
        guarded = self.root / (LOCK + ".swap")
        with self._mutex, _disk(guarded, "written"), guarded.open("ab") as guard:
            # Between processes; the mutex is for threads.
            fcntl.flock(guard, fcntl.LOCK_EX)
            yield

    def swap(self, path: str, data: bytes, version: str) -> bool:
        with self._swapping():
            if self.read_versioned(path)[1] != version:
                return False
            self.write(path, data)
            return True

    def delete(self, path: str) -> None:
        with _disk(self._path(path), "deleted"):
            self._path(path).unlink(missing_ok=True)

    def delete_tree(self, prefix: str) -> None:
        if not prefix.strip("/"):
            raise StorageError("refusing to delete the whole workspace", where=self.uri)
        with _disk(self._path(prefix), "deleted"), contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self._path(prefix))

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
        # Which needs no lock, so a pointer's temporary file may be there, and in use.
        with self._swapping():
            # Of runs that were killed.
            for leftover in (self.root / TMP).glob("*"):
                leftover.unlink(missing_ok=True)
        file.truncate(0)
        # On a full disk it is held without a name: `clean-up` must get in.
        with contextlib.suppress(OSError):
            file.write(f"{owner}, process {os.getpid()} on {socket.gethostname()}\n".encode())

    @contextlib.contextmanager
    def lock(self, owner: str) -> Iterator[None]:
        """Hold the workspace; the kernel lets go of it when the process dies, however it dies."""
        if self.uri in _held:
            yield
            return
        with contextlib.ExitStack() as stack:
            with _disk(self.root / LOCK, "written"):
                self._take(stack.enter_context((self.root / LOCK).open("ab+", buffering=0)), owner)
            _held.add(self.uri)
            try:
                yield
            finally:
                _held.discard(self.uri)


@contextlib.contextmanager
def _disk(path: Path, doing: str) -> Iterator[None]:
    """Turn what the operating system says into an error that names the place and says what next."""
    try:
        yield
    except OSError as error:
        hint = HINTS.get(error.errno or 0, CHECK if doing == "read" else "")
        raise StorageError(f"cannot be {doing}: {error.strerror or error}", where=str(path), hint=hint) from error


def _unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        # `os.walk` would leave the folder out, and what is in it would pass for not there.
        raise error


# Workspaces this process holds, so that a flow inside a flow does not lock itself out.
_held: set[str] = set()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        # The name itself must survive a power loss, not just the bytes.
        os.fsync(descriptor)
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
            # A cached listing is wrong as soon as anyone else writes.
            use_listings_cache=False,
            config_kwargs={
                "connect_timeout": CONNECT_S,
                "read_timeout": ANSWER_S,
                "retries": {"max_attempts": ATTEMPTS, "mode": "adaptive"},
            },
        )
        # Times botocore's: with s3fs's own five a silent store is waited for forty minutes.
        self._fs.retries = TRIES

    def _check_conditional_puts(self) -> None:
        probe = f".probe/{uuid.uuid4().hex}"
        try:
            refused = self.create(probe, b"1") and not self.create(probe, b"2")
        finally:
            with contextlib.suppress(OSError, StorageError):
                self.delete(probe)
        if not refused:
            raise StorageError(
                "the store ignores conditional puts",
                where=self.uri,
                expected="If-None-Match to be honoured",
                hint="Two runs could overwrite each other here; use a store that honours them.",
            )

    def _key(self, path: str) -> str:
        if ".." in path.split("/"):
            raise StorageError("path leaves the workspace", where=path)
        return f"{self._base}/{path}".rstrip("/")

    @contextlib.contextmanager
    def _errors(self, path: str, doing: str) -> Iterator[None]:
        try:
            yield
        except faults(ValueError) as error:
            what = f"cannot be {doing}: {error}"
            raise StorageError(what, where=f"{self.uri}/{path}", hint=_s3_hint(error)) from error

    def _get(self, path: str, **asked: str) -> tuple[bytes, dict[str, Any]]:
        """Return an object, or a range of it, and what the server says of it; a bad answer is asked for again."""
        from fsspec.asyn import sync

        bucket, _, key = self._key(path).partition("/")
        problem: Exception = OSError(errno.EIO, "every answer came damaged")
        for _ in range(TRIES):
            answer = self._fs.call_s3("get_object", Bucket=bucket, Key=key, **asked)
            try:
                data: bytes = sync(self._fs.loop, answer["Body"].read)
            except faults() as error:
                problem = error
                continue
            finally:
                answer["Body"].close()
            whole = int(answer.get("ContentRange", f"/{len(data)}").rpartition("/")[2]) == len(data)
            if not whole or answer["Metadata"].get("sha256", "") in ("", sha256(data)):
                return data, answer
        raise problem

    def read(self, path: str, start: int = 0, end: int | None = None) -> bytes:
        with self._errors(path, "read"):
            if start == end:
                # Which no range can ask for.
                return b""
            part = start or end is not None
            return self._get(path, **({"Range": f"bytes={start}-{'' if end is None else end - 1}"} if part else {}))[0]

    def open(self, path: str) -> BinaryIO:
        """Open a file; its size is not asked for first, so one of our parts is a single request."""
        with self._errors(path, "read"):
            end, _ = self._get(path, Range=f"bytes=-{WHOLE}")
            if len(end) < WHOLE:
                return io.BytesIO(end)
            return cast(BinaryIO, self._fs.open(self._key(path), "rb", block_size=WHOLE))

    def exists(self, path: str) -> bool:
        bucket, _, key = self._key(path).partition("/")
        with self._errors(path, "read"):
            try:
                # `isfile` lists a prefix, too, on a miss.
                self._fs.call_s3("head_object", Bucket=bucket, Key=key)
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
            self._fs.pipe_file(self._key(path), data, Metadata={"sha256": sha256(data)})

    def _put(self, path: str, data: bytes, **condition: str) -> bool:
        bucket, _, key = self._key(path).partition("/")
        ours = {"sha256": sha256(data), "put": uuid.uuid4().hex}
        with self._errors(path, "written"):
            try:
                self._fs.call_s3("put_object", Bucket=bucket, Key=key, Body=data, Metadata=ours, **condition)
            except OSError as error:
                if not isinstance(error, FileExistsError) and _code(error) not in REFUSED:
                    raise
                # Or the first try did it, its answer was lost, and the second found the first.
                with contextlib.suppress(FileNotFoundError):
                    there = self._fs.call_s3("head_object", Bucket=bucket, Key=key)
                    return bool(there["Metadata"].get("put") == ours["put"])
                return False
        return True

    def create(self, path: str, data: bytes) -> bool:
        return self._put(path, data, IfNoneMatch="*")

    def read_versioned(self, path: str) -> tuple[bytes | None, str]:
        with self._errors(path, "read"):
            try:
                data, answer = self._get(path)
            except FileNotFoundError:
                return None, ""
        return data, str(answer["ETag"])

    def swap(self, path: str, data: bytes, version: str) -> bool:
        return self._put(path, data, IfMatch=version) if version else self.create(path, data)

    def delete(self, path: str) -> None:
        with self._errors(path, "deleted"), contextlib.suppress(FileNotFoundError):
            self._fs.rm_file(self._key(path))

    def delete_tree(self, prefix: str) -> None:
        if not prefix.strip("/"):
            raise StorageError("refusing to delete the whole workspace", where=self.uri)
        bucket, _, base = self._base.partition("/")
        keys = [{"Key": f"{base}/{path}".lstrip("/")} for path in self.list(prefix.rstrip("/") + "/")]
        with self._errors(prefix, "deleted"):
            # As many as a request takes.
            for start in range(0, len(keys), 1000):
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


def faults(*more: type[Exception]) -> tuple[type[Exception], ...]:
    """Return what an open file of the workspace may raise for reasons that lie outside of this program, and `more`."""
    from aiohttp import ClientError
    from botocore.exceptions import BotoCoreError

    return OSError, BotoCoreError, ClientError, *more


def _code(error: Exception) -> str:
    """Return the code of S3's answer, or nothing where there was none."""
    return str(getattr(error.__cause__, "response", {}).get("Error", {}).get("Code", ""))


def _s3_hint(error: Exception) -> str:
    if isinstance(error, FileNotFoundError) and _code(error) != "NoSuchBucket":
        return CHECK
    if isinstance(error, PermissionError) or _code(error) in NO_ENTRY or type(error).__name__ == "NoCredentialsError":
        return f"Renew the credentials: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN. {AGAIN}"
    return f"Is the store there, and well? {AGAIN}"


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
                "another run holds the workspace",
                where=self.store.uri,
                found=str(holder["owner"]),
                hint=f"Wait for it to end; after a kill its lease runs out within {LEASE_S:.0f} s.",
            )
        self.thread.start()

    def _ours(self) -> tuple[bool, str]:
        """Return whether the lock is still this lease's, and its version."""
        data, version = self.store.read_versioned(LOCK)
        return data is not None and json.loads(data)["token"] == self.token, version

    def _renew(self) -> None:
        while not self.stop.wait(LEASE_S / 3):
            # The store may be well again in time.
            with contextlib.suppress(StorageError):
                ours, version = self._ours()
                if not ours:
                    # Taken over: our puts of immutable files do no harm, pointers are compare-and-swap.
                    return
                self.store.swap(LOCK, self._body(), version)

    def release(self) -> None:
        self.stop.set()
        self.thread.join()
        # It runs out by itself, and must not hide why the run ended.
        with contextlib.suppress(StorageError):
            if self._ours()[0]:
                self.store.delete(LOCK)
