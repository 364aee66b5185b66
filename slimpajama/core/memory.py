"""How this process holds memory: what is free goes back to the system, so that the steps' peaks do not add up.

Left alone, Arrow's own pool keeps what it once had, and glibc makes an arena for each thread and raises its threshold
whenever a large array is freed. docs/decisions/what-makes-preparation-fast.md has what these settings save and cost.
"""

import contextlib
import ctypes
import os
import resource
from functools import cache
from pathlib import Path

import pyarrow as pa

# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
# An array of so many bytes or more has a mapping of its own, which goes when the array is freed.
LARGE = 8 << 20
# So many free bytes at the heap's end stay ours: to return a page and ask for it again costs 3 us.
KEPT = 64 << 20
ARENAS = 2
CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


@cache
def configure_allocator() -> None:
    """Let Arrow use the system's allocator, and let that one use few arenas, and mappings for large arrays."""
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


def usable_memory() -> int:
    """Return how many bytes this process could take at most: of the machine, its control group and its own limit."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    with contextlib.suppress(OSError, ValueError):
        # "max", where there is none, is no number.
        limits.append(int(CGROUP_LIMIT.read_text(encoding="ascii")))
    own = resource.getrlimit(resource.RLIMIT_AS)[0]
    return min(limits if own == resource.RLIM_INFINITY else [*limits, own])
