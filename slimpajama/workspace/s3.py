"""The workspace under an `s3://` prefix, where a writer may stall for any time and then go on.

A lease keeps two runs apart while both are well (`slimpajama.workspace.lease`). It cannot stop one that stalls between
looking at its lease and its next request. What does is that such a request meets nothing of others:

- A listed file lies under a name with a hash of its content: `documents/part-00000-00000.1a2b3c4d5e6f7a8b.parquet`.
  Manifests keep the path without the hash, so they are the same bytes as on a disk.
- A manifest is written by one conditional put: it must be as this run found it first. Whoever loses it stops.
- Before that put is won nothing is deleted that a manifest might list, and then only what was there before it.
- A folder that is given up leaves an empty manifest. How often it was is counted in line ends behind the manifest, and
  is part of the hash, so whoever still deletes the old files meets no new ones.
"""

import contextlib
import errno
import io
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import PurePosixPath
from typing import Any, BinaryIO, NamedTuple, TypeVar, cast

from slimpajama.core.errors import AGAIN, LockedError, StorageError
from slimpajama.workspace import layout
from slimpajama.workspace.lease import Lease
from slimpajama.workspace.store import CHECK, LOCK, TRIES, Paths, held, outside_errors, sha256

T = TypeVar("T")

# So many bytes are requested at once: that costs less than a second and a third request.
WHOLE = 8 << 20
# How long S3 may take to accept a connection, and to send the next byte.
CONNECT_S, ANSWER_S = 10, 60
# How often botocore makes a request that is refused or not answered; it waits up to 20 s in between.
ATTEMPTS = 8
REFUSED = ("PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey", "412", "409")
# What S3 answers where the credentials are wrong; the answer to a HEAD request is a number.
NO_ENTRY = ("400", "403", "ExpiredToken", "InvalidToken", "TokenRefreshRequired")


class _Seen(NamedTuple):
    """A manifest as this run found it first."""

    version: str
    times: int
    """How often its folder was given up before."""


class S3Store:
    """A prefix of a bucket; needs a server that honours conditional puts, which `lock` checks before any write."""

    is_fenced = True

    def __init__(self, uri: str) -> None:
        import s3fs

        self.uri = uri.rstrip("/")
        self._base = self.uri.removeprefix("s3://")
        self._digests: dict[str, str] = {}
        self._seen: dict[str, _Seen] = {}
        self._lease: Lease | None = None
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
        if self._lease and doing != "read" and self._lease.lost:
            raise self._overtaken(path)
        try:
            yield
        except outside_errors(ValueError) as error:
            # Whoever took over has deleted what is read here.
            if self._lease and isinstance(error, FileNotFoundError) and not self._lease.is_held():
                raise self._overtaken(path) from error
            what = f"cannot be {doing}: {error}"
            raise StorageError(what, where=f"{self.uri}/{path}", hint=_s3_hint(error)) from error

    def _overtaken(self, path: str) -> LockedError:
        return LockedError(
            "another run was first while this one stood still",
            where=f"{self.uri}/{path}",
            hint="What it has published is as it left it. Run again.",
        )

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
            asked = {"Range": f"bytes={start}-{'' if end is None else end - 1}"} if part else {}
            return self._named(path, lambda name: self._get(name, **asked))[0]

    def open(self, path: str) -> BinaryIO:
        """Open a file; its size is not asked for first, so a small file is one request."""

        def opened(name: str) -> BinaryIO:
            end, _ = self._get(name, Range=f"bytes=-{WHOLE}")
            if len(end) < WHOLE:
                return io.BytesIO(end)
            return cast(BinaryIO, self._fs.open(self._key(name), "rb", block_size=WHOLE))

        with self._errors(path, "read"):
            return self._named(path, opened)

    def _head(self, path: str) -> dict[str, Any]:
        bucket, _, key = self._key(path).partition("/")
        # s3fs's `isfile` would list a prefix, too, where there is no file.
        return cast(dict[str, Any], self._fs.call_s3("head_object", Bucket=bucket, Key=key))

    def exists(self, path: str) -> bool:
        with self._errors(path, "read"):
            try:
                found = self._named(path, self._head)
            except FileNotFoundError:
                return False
        return not layout.may_be_given_up(path, found["ContentLength"])

    def list(self, prefix: str = "") -> Paths:
        with self._errors(prefix, "listed"):
            found = self._fs.find(self._key(prefix), detail=True)
        # For a prefix that was emptied, a store may return the prefix itself as a folder.
        keys = (key for key, info in found.items() if info["type"] == "file" and key.startswith(self._base + "/"))
        names = {key.removeprefix(self._base + "/"): found[key]["size"] for key in keys}
        ours = (name for name, size in names.items() if not layout.may_be_given_up(name, size))
        return sorted(name for name in ours if not name.startswith((LOCK, ".probe/")))

    def size(self, prefix: str = "") -> int:
        with self._errors(prefix, "listed"):
            return sum(info["size"] for info in self._fs.find(self._key(prefix), detail=True).values())

    def write(self, path: str, data: bytes) -> None:
        with self._errors(path, "written"):
            self._fs.pipe_file(self._key(path), data, Metadata={"sha256": sha256(data)})

    def _put(self, path: str, data: bytes, version: str) -> str:
        """Write a file that is still of this version, where empty means that there is none; return the new one."""
        condition = {"IfMatch": version} if version else {"IfNoneMatch": "*"}
        bucket, _, key = self._key(path).partition("/")
        ours = {"sha256": sha256(data), "put": uuid.uuid4().hex}
        with self._errors(path, "written"):
            try:
                made = self._fs.call_s3("put_object", Bucket=bucket, Key=key, Body=data, Metadata=ours, **condition)
            except OSError as error:
                if not isinstance(error, FileExistsError) and _code(error) not in REFUSED:
                    raise
                # The first try may have succeeded although its answer was lost: then the file is ours.
                with contextlib.suppress(FileNotFoundError):
                    there = self._head(path)
                    return str(there["ETag"]) if there["Metadata"].get("put") == ours["put"] else ""
                return ""
        return str(made["ETag"])

    def create(self, path: str, data: bytes) -> bool:
        return bool(self._put(path, data, ""))

    def read_versioned(self, path: str) -> tuple[bytes | None, str]:
        with self._errors(path, "read"):
            try:
                data, answer = self._get(path)
            except FileNotFoundError:
                data, answer = b"", {"ETag": ""}
        version = str(answer["ETag"])
        if layout.is_published_manifest(path) and not (self._lease and path in self._seen):
            self._seen[path] = _Seen(version, layout.times_given_up(data))
        return None if not version or (layout.is_given_up(data) and path in self._seen) else data, version

    def swap(self, path: str, data: bytes, version: str) -> bool:
        # What it is made of may be as old as the lease.
        if self._lease and path != LOCK and not self._lease.is_held():
            raise self._overtaken(path)
        return bool(self._put(path, data, version))

    def _first_seen(self, manifest: str) -> _Seen:
        if manifest not in self._seen:
            self.read_versioned(manifest)
        return self._seen[manifest]

    def name(self, path: str, digest: str = "") -> str:
        place = layout.place(path)
        if not (digest := digest or self._digests.get(path, "")):
            return path
        times = self._first_seen(place.folder.manifest).times if place.kind else 0
        return layout.listed_name(path, digest, times)

    def _named(self, path: str, ask: Callable[[str], T]) -> T:
        """Ask for a file by its name; versions before 0.2 gave it that of its path."""
        name = self.name(path)
        try:
            return ask(name)
        except FileNotFoundError:
            if name == path:
                raise
            return ask(path)

    def learn(self, manifest: str, digests: Iterable[tuple[str, str]]) -> None:
        self._digests.update(digests)

    def write_listed(self, path: str, data: bytes, digest: str) -> None:
        self.write(self.name(path, digest), data)
        self._digests[path] = digest

    def publish(self, path: str, data: bytes) -> None:
        if layout.is_published_manifest(path):
            seen = self._first_seen(path)
            self._replace(path, data + b"\n" * seen.times, seen, seen.times)
        else:
            self.write(path, data)

    def _replace(self, manifest: str, data: bytes, seen: _Seen, times: int) -> None:
        if not (version := self._put(manifest, data, seen.version)):
            raise self._overtaken(manifest)
        self._seen[manifest] = _Seen(version, times)

    def give_up(self, folder: str) -> None:
        manifest = layout.Folder(folder).manifest
        # What others write from the next line on is not in it.
        names = self.list(f"{folder}/")
        if layout.place(manifest).is_manifest:
            seen = self._first_seen(manifest)
            self._replace(manifest, b"\n" * (seen.times + 2), seen, seen.times + 1)
        else:
            self.delete(manifest)
        self._delete_all(folder, [name for name in names if name != manifest])

    def delete(self, path: str) -> None:
        with self._errors(path, "deleted"), contextlib.suppress(FileNotFoundError):
            self._fs.rm_file(self._key(path))

    def delete_tree(self, prefix: str) -> None:
        if not prefix.strip("/"):
            raise StorageError("refusing to delete the whole workspace", where=self.uri)
        self._delete_all(prefix, self.list(prefix.rstrip("/") + "/"))

    def _delete_all(self, prefix: str, names: Paths) -> None:
        bucket, _, base = self._base.partition("/")
        keys = [{"Key": f"{base}/{name}".lstrip("/")} for name in names]
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
        lease = Lease(self, owner)
        lease.acquire()
        self._seen.clear()
        held.add(self.uri)
        self._lease = lease
        try:
            yield
        finally:
            self._lease = None
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
