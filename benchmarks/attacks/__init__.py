"""The attacks of docs/reliability.md: each module tries one kind and returns rows of the table."""

from __future__ import annotations

from typing import NamedTuple


class Row(NamedTuple):
    """One row: what was measured, how often it was tried, what got through, and what may."""

    measure: str
    tries: int
    broken: list[str]
    """What got through, one sentence each; empty where the attack held."""
    figure: str = ""
    """A further figure, such as the longest time in seconds."""
