"""Stages beyond one process: who makes some of a stage's units elsewhere, and what of a stage this process makes.

A stage's units are idempotent and their markers lie in the workspace, so that is where processes meet: another one
enters the same stage with some of its keys, commits these units and leaves; the stage's own process finds the markers
as if an earlier run had left them. Whatever others do not make, because they died or could not, it makes itself.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar

Hands = Callable[[str, list[str]], Iterator[list[str]]]
"""Stage and keys of units that are to be made -> groups of keys, each when its units are made."""


class ShareDone(Exception):  # noqa: N818
    """Leaves a stage whose share is made; no error: the rest is for the stage's own process."""


_hands: Hands | None = None
# A worker has several threads.
_mine: ContextVar[frozenset[str] | None] = ContextVar("mine", default=None)


def hands() -> Hands | None:
    """Return who helps with the stages of this process."""
    return _hands


def mine() -> frozenset[str] | None:
    """Return the keys of the share that this thread makes, or None where it runs whole stages."""
    return _mine.get()


@contextlib.contextmanager
def helped_by(others: Hands) -> Iterator[None]:
    """Let others make units of the stages that run in the block."""
    global _hands
    _hands = others
    try:
        yield
    finally:
        _hands = None


@contextlib.contextmanager
def share_of(keys: list[str]) -> Iterator[None]:
    """Make only these units of the stage that runs in the block."""
    token = _mine.set(frozenset(keys))
    try:
        yield
    except ShareDone:
        pass
    finally:
        _mine.reset(token)
