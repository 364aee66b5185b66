"""Steps beyond one process: who makes some of a step's units elsewhere, and what of a step this process makes.

A step's units are idempotent and their markers lie in the workspace, so that is where processes meet: another one
enters the same step with some of its keys, commits these units and leaves; the step's own process finds the markers
as if an earlier run had left them. Whatever others do not make, because they died or could not, it makes itself.
"""

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar

Executor = Callable[[str, list[str]], Iterator[list[str]]]
"""Step and keys of units that are to be made -> groups of keys, each when its units are made."""


class ShareDone(Exception):  # noqa: N818
    """Leaves a step whose assigned keys are made; no error: the rest is for the step's own process."""


_executor: Executor | None = None
# A worker has several threads.
_keys: ContextVar[frozenset[str] | None] = ContextVar("assigned_keys", default=None)


def executor() -> Executor | None:
    """Return who helps with the steps of this process."""
    return _executor


def assigned_keys() -> frozenset[str] | None:
    """Return the keys that this thread makes, or None where it runs whole steps."""
    return _keys.get()


@contextlib.contextmanager
def use_executor(others: Executor) -> Iterator[None]:
    """Let others make units of the steps that run in the block."""
    global _executor
    _executor = others
    try:
        yield
    finally:
        _executor = None


@contextlib.contextmanager
def only_keys(keys: list[str]) -> Iterator[None]:
    """Make only these units of the step that runs in the block."""
    token = _keys.set(frozenset(keys))
    try:
        yield
    except ShareDone:
        pass
    finally:
        _keys.reset(token)
