"""Listed arrays that are not read but mapped: the system loads what is touched, and many processes share it.

Such a file is hashed once on each machine. A cache in the user's own folder remembers which files those were, by their
place, size and times, and holds those of a workspace on S3, named by their digests. What nobody used for a month goes.
"""

import contextlib
import functools
import hashlib
import io
import mmap
import os
import tempfile
import time
import tokenize
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt

from slimpajama.core.temporary import temporary_files
from slimpajama.workspace.manifest import FileEntry
from slimpajama.workspace.parquet import not_as_listed
from slimpajama.workspace.store import Store, sha256

CACHE_VARIABLE = "SLIMPAJAMA_CACHE"
UNUSED_DAYS = 30
# numpy's header of an array of one dimension takes 128.
HEADER_BYTES = 4096
CHUNK = 8 << 20
DAY_S = 86_400


def array_bytes(array: npt.NDArray[Any]) -> bytes:
    """Return an array as a `.npy` file of numpy's format 1.0, little-endian."""
    sink = io.BytesIO()
    stored = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    np.lib.format.write_array(sink, stored, version=(1, 0), allow_pickle=False)
    return sink.getvalue()


def mapped_array(store: Store, entry: FileEntry) -> npt.NDArray[Any]:
    """Return a listed `.npy` file of one dimension as an array that cannot be written to.

    Raises:
        StorageError: It is missing, or not what its manifest says.
    """
    try:
        with _checked_file(store, entry) as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        head = io.BytesIO(data[:HEADER_BYTES])
        version = np.lib.format.read_magic(head)
        shape, _, dtype = np.lib.format.read_array_header_1_0(head, max_header_size=HEADER_BYTES)
        if version != (1, 0) or len(shape) != 1 or dtype.kind not in "iu":
            raise ValueError(f"version {version}, shape {shape}, {dtype}")
        return np.frombuffer(data, dtype, shape[0], head.tell())
    except (ValueError, TypeError, SyntaxError, tokenize.TokenError) as error:
        # A head that somebody made up meets all of them.
        raise not_as_listed(store, entry.path, "an array of integers", str(error)) from error


def holds(mark: str, check: Callable[[], bool]) -> bool:
    """Return whether a check of some content holds; of what it held for on this machine it is not made again.

    Args:
        mark: Name for the cache: a sha256 of the content, a hyphen and the name of the check.
    """
    cache = _cache()
    if cache and (cache / mark).exists():
        _use(cache / mark)
        return True
    found = check()
    if found and cache:
        (cache / mark).touch()
    return found


def _checked_file(store: Store, entry: FileEntry) -> BinaryIO:
    """Open a listed file of this machine's disk, or its copy, whose content is as listed."""
    cache, is_remote = _cache(), "://" in store.uri
    for last in (False, True):
        file = _copy(store, entry, cache) if is_remote else store.open(entry.path)
        stamp = _stamp(file, entry, cache)
        if stamp and stamp.exists():
            _use(stamp)
            return file
        size = os.fstat(file.fileno()).st_size
        found = hashlib.file_digest(cast(io.BufferedReader, file), "sha256").hexdigest()
        if (size, found) == (entry.bytes, entry.sha256):
            if stamp:
                stamp.touch()
            return file
        file.close()
        if last or not is_remote:
            break
        # The copy is damaged, or the answer was: another one is made.
        if cache:
            (cache / entry.sha256).unlink(missing_ok=True)
    expected, found = (
        f"{n} bytes, sha256 {digest[:16]}…" for n, digest in ((entry.bytes, entry.sha256), (size, found))
    )
    raise not_as_listed(store, entry.path, expected, found)


def _copy(store: Store, entry: FileEntry, cache: Path | None) -> BinaryIO:
    """Open a copy of a file from elsewhere: the cache's, or where there is no cache a temporary one."""
    path = cache / entry.sha256 if cache else None
    with temporary_files():
        if path and path.exists():
            return path.open("rb")
        number, name = tempfile.mkstemp(dir=cache)
    made = os.fdopen(number, "w+b")
    try:
        with store.open(entry.path) as source:
            while data := source.read(CHUNK):
                with temporary_files():
                    made.write(data)
        with temporary_files():
            made.flush()
            if path:
                # Whoever else makes it makes the same.
                Path(name).rename(path)
    except BaseException:
        made.close()
        raise
    finally:
        Path(name).unlink(missing_ok=True)
    made.seek(0)
    return made


def _stamp(file: BinaryIO, entry: FileEntry, cache: Path | None) -> Path | None:
    """Return the empty file that says that this one was found whole, as it is now; None without a cache."""
    of = os.fstat(file.fileno())
    now = sha256(f"{of.st_dev} {of.st_ino} {of.st_size} {of.st_mtime_ns} {of.st_ctime_ns}".encode())
    return cache / f"{entry.sha256}-{now[:16]}" if cache else None


def _use(stamp: Path) -> None:
    """Note that it is used, about once a day."""
    with contextlib.suppress(OSError):
        if time.time() - stamp.stat().st_mtime > DAY_S:
            stamp.touch()


@functools.cache
def _cache() -> Path | None:
    """Return the folder of the cache, made and swept; None where there can be none."""
    named = os.environ.get(CACHE_VARIABLE)
    folder = Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "slimpajama"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        old = time.time() - UNUSED_DAYS * DAY_S
        files = {path.name: path.stat().st_mtime for path in folder.iterdir()}
        used = {name.partition("-")[0] for name, at in files.items() if at > old}
        for name in files:
            if name.partition("-")[0] not in used:
                (folder / name).unlink(missing_ok=True)
        # Someone else's would be believed.
        return folder if os.access(folder, os.W_OK) and folder.stat().st_uid == os.geteuid() else None
    except (OSError, RuntimeError):
        return None
