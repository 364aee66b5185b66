"""What kernels share: how they are compiled, how UTF-8 is read, and how things are hashed and looked up."""

import contextlib
import functools
import hashlib
from functools import partial
from typing import Any

import numba
import numpy as np
from numba.core.caching import FunctionCache, IndexDataCacheFile
from numba.core.dispatcher import Dispatcher

from slimpajama.core.logs import log

# The seed and the prime of FNV-1a, here over code points.
HASH_SEED, _PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)
# 2^64 divided by the golden ratio: multiplying by it spreads any bits over all bits (Knuth, "Fibonacci hashing").
GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def compiled(function: Any = None, *, allocates: bool = False, inline: bool = False) -> Any:
    """Compile a kernel; it releases the interpreter's lock and is cached on disk.

    numba compiles the kernels that a kernel calls into it, but its cache notices changes of the kernel's own file
    only: after a change of another file it would go on running the old code. So the stamp of a kernel's cache holds
    the stamps of all kernels that its module imports, which hold the stamps of what those import.

    Args:
        function: The kernel.
        allocates: Whether it makes arrays. One that makes none is compiled without the counting of references, which
            can cost a call 50 ns; it must not return an array either.
        inline: Whether it is always put into its callers. A call costs 5 ns, since an array is seven arguments.
    """
    if function is None:
        return partial(compiled, allocates=allocates, inline=inline)
    options: Any = {"nogil": True, "_nrt": allocates, "forceinline": inline}
    kernel = numba.njit(**options)(function)
    try:
        # numba has no public name for it; a test sees that the stamp still decides what is compiled again.
        make: Any = _Cache
        kernel._cache = make(function)
    except RuntimeError:
        _warn()
        return kernel
    imported = [value for value in function.__globals__.values() if isinstance(value, Dispatcher)]
    stamps = {repr(_cache_file(value)._source_stamp) for value in imported if value.__module__ != function.__module__}
    _cache_file(kernel)._source_stamp = (_cache_file(kernel)._source_stamp, *sorted(stamps))
    return kernel


def _cache_file(kernel: Any) -> Any:
    return kernel._cache._cache_file


class _CacheFile(IndexDataCacheFile):
    """numba's files of a kernel, but for their names.

    numba numbers them: of two processes that compile for different types at once, both take the first free number, and
    one goes on to run the other's code, for other types.
    """

    def save(self, key: Any, data: Any) -> None:
        named: Any = self
        digest = hashlib.blake2b(repr((named._source_stamp, key)).encode(), digest_size=8).hexdigest()
        name = named._data_name(int(digest, 16))
        named._save_data(name, data)
        # An entry that another process writes meanwhile may get lost: it is compiled once more.
        named._save_index(named._load_index() | {key: name})


class _Cache(FunctionCache):
    """numba's cache, to which a file that cannot be written, or that is damaged, is one that is not there."""

    def __init__(self, function: Any) -> None:
        own: Any = super()
        own.__init__(function)
        make: Any = _CacheFile
        self._cache_file = make(self._cache_path, self._impl.filename_base, self._cache_file._source_stamp)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        numbas: Any = super()
        try:
            return numbas.load_overload(sig, target_context)
        except Exception:
            with contextlib.suppress(OSError):
                numbas.flush()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        numbas: Any = super()
        try:
            numbas.save_overload(sig, data)
        except OSError:
            _warn()


@functools.cache
def _warn() -> None:
    """Say, once in a process, that kernels are not kept."""
    log.warning(
        "compiled code cannot be kept, so every start takes half a minute longer: set NUMBA_CACHE_DIR to a folder"
    )


@compiled(inline=True)
def decode(data: Any, i: Any) -> Any:
    """Return the code point that begins at byte `i` of well-formed UTF-8, and its length in bytes."""
    b = np.uint32(data[i])
    if b < 0x80:
        return b, 1
    c = np.uint32(data[i + 1] & 0x3F)
    if b < 0xE0:
        return np.uint32(((b & 0x1F) << 6) | c), 2
    c = np.uint32((c << 6) | (data[i + 2] & 0x3F))
    if b < 0xF0:
        return np.uint32(((b & 0x0F) << 12) | c), 3
    return np.uint32(((b & 0x07) << 18) | (c << 6) | (data[i + 3] & 0x3F)), 4


@compiled(inline=True)
def add_to_hash(value: Any, code: Any) -> Any:
    """Return the hash of what `value` is the hash of, followed by `code`; it begins with HASH_SEED."""
    return (value ^ np.uint64(code)) * _PRIME


@compiled(inline=True)
def find_slot(keys: Any, key: Any) -> Any:
    """Return the slot of a hash table that holds `key`, or the free slot (0) where the search ended.

    Args:
        keys: uint64 [power of two], at least one of them free.
        key: uint64, not 0.
    """
    last = len(keys) - 1
    slot = np.int64((key * GOLDEN) >> np.uint64(32)) & last
    while keys[slot] != key and keys[slot]:
        slot = (slot + 1) & last
    return slot
