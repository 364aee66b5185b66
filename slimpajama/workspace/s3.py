"""The workspace under an `s3://` prefix."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any, BinaryIO, cast

from slimpajama.core.errors import AGAIN, LockedError, StorageError
from slimpajama.workspace.store import CHECK, LOCK, TRIES, Paths, held, outside_errors, sha256

# So many bytes are requested at once: that costs less than a second and a third request.
WHOLE = 8 << 20
# S3 has no lock that ends with its process; a lease ends when it is not renewed.
LEASE_S = 60.0
# How long S3 may take to accept a connection, and to send the next byte.
CONNECT_S, ANSWER_S = 10, 60
# How often botocore makes a request that is refused or not answered; it waits up to 20 s in between.
ATTEMPTS = 8
REFUSED = ("PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey", "412", "409")
# What S3 answers where the credentials are wrong; the answer to a HEAD request is a number.
NO_ENTRY = ("400", "403", "ExpiredToken", "InvalidToken", "TokenRefreshRequired")


class S3Store:
    """A prefix of a bucket; needs a server that honours conditional puts, which `lock` checks before any write."""

    def __init__(self, uri: str) -> None:
        import s3fs

        self.uri = uri.rstrip("/")
        self._base = self.uri.removeprefix("s3://")
        # s3fs keeps one client in each process, forked ones too: to make one takes 0.1 s and more of processor time.
        self._fs = s3fs.S3FileSystem(
            # A cached listing is wrong as soon as anyone else writes.
            use_listings_cache=False,
            config_kwargs={
                "connect_timeout": CONNECT_S,
                "read_timeout": ANSWER_S,
                "retries": {"max_attempts": ATTEMPTS, "mode": "adaptive"},
            },
        )
        # These tries multiply botocore's: s3fs's own five would wait forty minutes for a store that does not answer.
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
        if ".." in PurePosixPath(path).parts:
            raise StorageError("path leaves the workspace", where=path)
        return f"{self._base}/{path}".rstrip("/")

    @contextlib.contextmanager
    def _errors(self, path: str, doing: str) -> Iterator[None]:
        try:
            yield
        except outside_errors(ValueError) as error:
            what = f"cannot be {doing}: {error}"
            raise StorageError(what, where=f"{self.uri}/{path}", hint=_s3_hint(error)) from error

    def _get(self, path: str, **asked: str) -> tuple[bytes, dict[str, Any]]:
        """Return an object, or a range of it, and the server's answer; after a damaged answer, ask again."""
        from fsspec.asyn import sync

        bucket, _, key = self._key(path).partition("/")
        problem: Exception = OSError(errno.EIO, "every answer came damaged")
        for _ in range(TRIES):
            answer = self._fs.call_s3("get_object", Bucket=bucket, Key=key, **asked)
            try:
                data: bytes = sync(self._fs.loop, answer["Body"].read)
            except outside_errors() as error:
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
            # No range is empty.
            if start == end:
                return b""
            part = start or end is not None
            return self._get(path, **({"Range": f"bytes={start}-{'' if end is None else end - 1}"} if part else {}))[0]

    def open(self, path: str) -> BinaryIO:
        """Open a file; its size is not asked for first, so a small file is one request."""
        with self._errors(path, "read"):
            end, _ = self._get(path, Range=f"bytes=-{WHOLE}")
            if len(end) < WHOLE:
                return io.BytesIO(end)
            return cast(BinaryIO, self._fs.open(self._key(path), "rb", block_size=WHOLE))

    def exists(self, path: str) -> bool:
        bucket, _, key = self._key(path).partition("/")
        with self._errors(path, "read"):
            try:
                # s3fs's `isfile` would list a prefix, too, where there is no file.
                self._fs.call_s3("head_object", Bucket=bucket, Key=key)
            except FileNotFoundError:
                return False
        return True

    def list(self, prefix: str = "") -> Paths:
        with self._errors(prefix, "listed"):
            found = self._fs.find(self._key(prefix), detail=True)
        # For a prefix that was emptied, a store may return the prefix itself as a folder.
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
                # The first try may have succeeded although its answer was lost: then the file is ours.
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
            # One request deletes at most 1000 files.
            for start in range(0, len(keys), 1000):
                some = {"Objects": keys[start : start + 1000], "Quiet": True}
                answer = self._fs.call_s3("delete_objects", Bucket=bucket, Delete=some)
                if refused := answer.get("Errors"):
                    raise OSError(f"{refused[0]['Key']}: {refused[0].get('Message', refused[0].get('Code'))}")

    @contextlib.contextmanager
    def lock(self, owner: str) -> Iterator[None]:
        """Hold a lease in the workspace, which a thread renews; it runs out when this process dies."""
        if self.uri in held:
            yield
            return
        self._check_conditional_puts()
        lease = _Lease(self, f"{owner}, process {os.getpid()} on {socket.gethostname()}")
        lease.acquire()
        held.add(self.uri)
        try:
            yield
        finally:
            held.discard(self.uri)
            lease.release()


def _code(error: Exception) -> str:
    """Return the error code in S3's answer, or nothing where there is none."""
    return str(getattr(error.__cause__, "response", {}).get("Error", {}).get("Code", ""))


def _s3_hint(error: Exception) -> str:
    if isinstance(error, FileNotFoundError) and _code(error) != "NoSuchBucket":
        return CHECK
    if isinstance(error, PermissionError) or _code(error) in NO_ENTRY or type(error).__name__ == "NoCredentialsError":
        return f"Renew the credentials: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN. {AGAIN}"
    return f"Is the store there, and well? {AGAIN}"


class _Lease:
    """A lock object that runs out at a given time; it is renewed after a third of that time."""

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
            # The store may answer again before the lease runs out.
            with contextlib.suppress(StorageError):
                ours, version = self._ours()
                if not ours:
                    # Another run has taken over. Our files never change, and pointers are swapped, so we do no harm.
                    return
                self.store.swap(LOCK, self._body(), version)

    def release(self) -> None:
        self.stop.set()
        self.thread.join()
        # An error here must not hide why the run ended; the lease runs out by itself.
        with contextlib.suppress(StorageError):
            if self._ours()[0]:
                self.store.delete(LOCK)
