"""slimpajama: a growing pile of Chinese and English text in, a small language model out, every night.

The library half: pure stages on plain files. It imports third-party libraries only, never Prefect. From Python, a
workspace is asked by `open_workspace`, `load_champion`, `score`, `generate`, `trace` and `dedup`, which are imported
when they are first used.

Example:
    >>> import slimpajama
    >>> champion = slimpajama.load_champion("demo/workspace")  # doctest: +SKIP
    >>> slimpajama.generate(champion, "今天", max_tokens=60, seed=1)  # doctest: +SKIP
"""

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from slimpajama.apps.api import dedup, generate, load_champion, open_workspace, score, trace

__all__ = ["dedup", "generate", "load_champion", "open_workspace", "score", "trace"]

# Before torch loads OpenMP: its threads wait by spinning, and one that waits for a core which another process has
# burns the other core meanwhile: docs/decisions/how-is-work-shared-among-cores-and-machines.md. Set it to ACTIVE where
# nothing else runs.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.2.0"


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from slimpajama.apps import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
