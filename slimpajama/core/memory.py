"""How this process holds memory: what is free goes back to the system, so that the stages' peaks do not add up.

Arrow's own pool keeps what it once had, and glibc grows an arena a thread and a threshold with each large array that
is freed. docs/decisions/0013 has what these settings save and cost.
"""

from __future__ import annotations

import ctypes
from functools import cache

import pyarrow as pa

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # malloc.h of glibc
# Bytes from which an array is a mapping of its own, gone when it is freed.
LARGE = 8 << 20
# Bytes at the heap's end that stay ours: pages given back and asked for again cost 3 us each.
KEPT = 64 << 20
ARENAS = 2


@cache
def configure_allocator() -> None:
    """Let Arrow use the system's allocator, and that one few arenas and mappings for what is large."""
    pa.set_memory_pool(pa.system_memory_pool())
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        mallopt(_M_MMAP_THRESHOLD, LARGE)
        mallopt(_M_TRIM_THRESHOLD, KEPT)
        mallopt(_M_ARENA_MAX, ARENAS)


def release_memory() -> None:
    """Return what is free to the system."""
    pa.default_memory_pool().release_unused()
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)
