"""Jobs that wait for the computing thread: bounded, and fair by client."""

import ipaddress
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from slimpajama.apps.serve.schemas import ApiError
from slimpajama.core.config import GenerateConfig
from slimpajama.model.generate.sampling import Spend
from slimpajama.model.generate.text import Tally
from slimpajama.model.loading import Loaded

# Of an IPv6 address: a household has at least so many that begin alike.
IPV6_CLIENT = "/64"

Texts = Sequence[tuple[str, GenerateConfig]]
"""Prompts, and how to continue each."""
Call = Callable[[Any], dict[str, Any]]
"""A call of an application by a tuned model, or one that needs none and is given the workspace."""


class StoppedError(Exception):
    """Nobody waits for the job any more, or the server ends."""


class SpentError(ApiError):
    """A job has read, written or computed as much as it may."""


@dataclass(frozen=True, slots=True)
class Event:
    """A piece of a text, or with `tally` its end."""

    index: int
    """Of the text in its job."""
    text: str = ""
    tally: Tally | None = None
    result: dict[str, Any] | None = None
    """What an application came to."""


@dataclass(slots=True, eq=False)
class Job:
    """Texts to write one after the other, or a call."""

    loaded: Loaded
    texts: Texts
    send: Callable[[Event | Exception | None], object]
    """Called by the computing thread; the last call brings None, or the error that ended the job."""
    task: str = ""
    """What the tuned model of `call` has to serve; empty where it needs none."""
    call: Call | None = None
    client: str = ""
    """Who asks: clients take turns."""
    cancelled: threading.Event = field(default_factory=threading.Event)
    """Set when nobody waits for it any more: it ends at the next token."""


def client_of(address: str) -> str:
    """Return who asks from an address: it, or the network of an IPv6 address."""
    try:
        return str(ipaddress.ip_network(address + IPV6_CLIENT, strict=False)) if ":" in address else address
    except ValueError:
        return address


def bounded(tokens: int, seconds: float, gone: Callable[[], bool]) -> Spend:
    """Return what counts tokens that are read or written, from now on, and raises when the work has to end.

    Args:
        tokens: Most of them.
        seconds: After which no more may be.
        gone: Tells that nobody waits any more.
    """
    left, end = tokens, time.monotonic() + seconds

    def spend(some: int) -> None:
        nonlocal left
        if gone():
            raise StoppedError
        left -= some
        if left < 0 or time.monotonic() > end:
            message = f"takes more than {tokens} tokens, read and written, or {seconds:g} s of computing: send less"
            raise SpentError(413, message, "too_large")

    return spend


class Waiting:
    """A queue in which clients take turns.

    Where it is full, the last job of a client with most of them makes room for one of a client with fewer: so nobody
    can keep the others out.

    Args:
        most: Jobs that may wait.
        refusal: Makes what a job is told for which there is no place.
    """

    def __init__(self, most: int, refusal: Callable[[], ApiError]) -> None:
        self.most, self._refusal = most, refusal
        self._jobs: dict[str, deque[Job]] = {}
        self._changed, self._last = threading.Condition(), ""

    def __len__(self) -> int:
        return sum(map(len, self._jobs.copy().values()))

    def put(self, job: Job) -> None:
        """Add a job.

        Raises:
            ApiError: There is no place, and nobody has more of them.
        """
        with self._changed:
            if len(self) >= self.most:
                longest = max(self._jobs.values(), key=len)
                if len(longest) <= len(self._jobs.get(job.client, ())) + 1:
                    raise self._refusal()
                longest.pop().send(self._refusal())
            self._jobs.setdefault(job.client, deque()).append(job)
            self._changed.notify()

    def take(self, timeout_s: float) -> Job | None:
        """Return the next job, or None where none came in time."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._jobs, timeout_s):
                return None
            # Also behind those who came while its last job ran.
            self._last = next((client for client in self._jobs if client != self._last), self._last)
            jobs = self._jobs.pop(self._last)
            job = jobs.popleft()
            if jobs:
                # Behind all others.
                self._jobs[self._last] = jobs
            return job

    def drop(self, job: Job) -> None:
        """Take a job out, if it still waits."""
        with self._changed:
            jobs = self._jobs.get(job.client, deque())
            if job in jobs:
                jobs.remove(job)
            if not jobs:
                self._jobs.pop(job.client, None)
