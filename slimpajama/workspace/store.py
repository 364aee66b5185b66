"""The workspace on a local disk or under an `s3://` prefix: one small set of operations, the same promises.

- `write`   a file appears whole under its name or not at all (temporary file, fsync, rename; one put on S3);
- `create`  the same, but only the first writer succeeds;
- `swap`    compare-and-swap of a pointer: replaces what was read, or says that someone else was first;
- `lock`    at most one writer in a workspace;
- `write_listed`, `publish`, `give_up`  a file that a manifest will list, the manifest, a folder that goes: where a lock
            may outlive its holder's right to it (`is_fenced`), what others have published is safe all the same.

Paths are relative to the workspace, with `/`. Listings are sorted and never cached.
"""

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterable
from typing import Any, BinaryIO, Protocol, TypeVar

from slimpajama.core.errors import DamagedError
from slimpajama.core.logs import step_log

LOCK = ".lock"
T = TypeVar("T")
# In a class that has a method `list`, the type needs another name.
Paths = list[str]
CHECK = "Run `slimpajama verify`."
# The end of a file that has a digest of its own.
SEAL = b',\n "checksum": "sha256:%s"\n}\n'
SEAL_BYTES = len(SEAL % (b"0" * 64))
# How often a request is made that botocore gave up, or whose answer came incomplete or damaged.
TRIES = 3


def sha256(data: bytes) -> str:
    """Return the hex digest that manifests use."""
    return hashlib.sha256(data).hexdigest()


class Store(Protocol):
    """What a workspace can do, wherever it lies."""

    uri: str
    is_fenced: bool

    def __hash__(self) -> int: ...
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

    def name(self, path: str, digest: str = "") -> str:
        """Return the name under which a listed file lies; without the sha256 of its content, of what was read last."""
        ...

    def learn(self, manifest: str, digests: Iterable[tuple[str, str]]) -> None:
        """Take note of path and sha256 of files that a manifest or marker lists, so that they can be read."""
        ...

    def write_listed(self, path: str, data: bytes, digest: str) -> None:
        """Write a file that a manifest will list."""
        ...

    def publish(self, path: str, data: bytes) -> None:
        """Write a manifest where it is still as this run found it first; else raise LockedError."""
        ...

    def give_up(self, folder: str) -> None:
        """Delete a folder, its manifest first; raise LockedError where another run has published it meanwhile."""
        ...


def read_json(store: Store, path: str) -> Any:
    """Return a JSON file of the workspace."""
    return parsed_json(store.read(path), f"{store.uri}/{path}")


def sealed(record: bytes) -> bytes:
    """Return a JSON object with its own digest as the last key: manifests, pointers and records, which nothing lists.

    Args:
        record: It ends as `json_bytes` ends it.
    """
    return record.removesuffix(b"\n}\n") + SEAL % sha256(record).encode()


def is_sealed(data: bytes) -> bool:
    """Return whether a file ends in a digest, right or wrong: either part of one stays whatever bit is flipped."""
    end = data[-SEAL_BYTES:]
    return b'"checksum"' in end or b'"sha256:' in end


def parsed_json(data: bytes, where: str) -> Any:
    """Return the JSON value of a file that was read from `where`; earlier versions wrote no digest into it.

    Raises:
        DamagedError: It is no JSON, or is not what its own digest says.
    """
    if is_sealed(data):
        record = data[:-SEAL_BYTES] + b"\n}\n"
        if sealed(record) != data:
            raise DamagedError("damaged: its content and its own checksum differ", where=where, hint=CHECK)
        data = record
    try:
        value = json.loads(data)
        # Half of a surrogate pair cannot be written to any file; slimpajama itself writes no such escape.
        if b"\\ud" in data.lower():
            json.dumps(value, ensure_ascii=False).encode()
        return value
    except (ValueError, RecursionError) as error:
        # A ValueError may be about JSON or about its UTF-8.
        raise DamagedError(f"not readable as JSON: {error}", where=where, hint=CHECK) from error


# Workspaces that this process has locked, so that a flow inside a flow does not wait for itself.
held: set[str] = set()


def outside_errors(*more: type[Exception]) -> tuple[type[Exception], ...]:
    """Return the errors that reading a file may raise for reasons outside of this program, and `more`."""
    from aiohttp import ClientError
    from botocore.exceptions import BotoCoreError

    return OSError, BotoCoreError, ClientError, *more


def if_whole(read: Callable[[Store, str], T | None]) -> Callable[[Store, str], T | None]:
    """Let a reader return None for a file between two steps that is damaged: what it stands for is made again."""

    def reading(store: Store, path: str) -> T | None:
        try:
            return read(store, path)
        except DamagedError as error:
            step_log("resume").warning(f"made again: {error}")
            return None

    return reading
