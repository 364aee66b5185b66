"""The attacks of docs/reliability.md: each module tries one kind and returns rows of the table."""

from __future__ import annotations

import importlib
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple


class Row(NamedTuple):
    """One row: what was measured, how often it was tried, what got through, and what may."""

    measure: str
    tries: int
    broken: list[str]
    """What got through, one sentence each; empty where the attack held."""
    figure: str = ""
    """A further figure, such as the longest time in seconds."""


def run(name: str, tries: int, seed: int) -> list[Row]:
    """Try one kind of attack in a folder of its own."""
    began = time.perf_counter()
    print(f"{name} ...", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(prefix=f"attack-{name}-") as folder:
        rows: list[Row] = importlib.import_module(f"benchmarks.attacks.{name}").attack(Path(folder), tries, seed)
    print(f"{name}: {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    return rows
