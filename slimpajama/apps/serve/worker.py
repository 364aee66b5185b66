"""The one thread that computes: it takes jobs from a bounded queue, and between two of them follows the champion.

A job carries the model that was being served when it was accepted, so a change of champion touches no request: what
was accepted before is answered by the old model, what comes after by the new one. Nothing here logs a text.
"""

from __future__ import annotations

import contextlib
import logging
import math
import queue
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from slimpajama.apps.tune.inference import Tuned
from slimpajama.apps.tune.loading import load_tuned
from slimpajama.core.config import GenerateConfig
from slimpajama.core.errors import SlimpajamaError
from slimpajama.model.generate.text import Tally, stream_text
from slimpajama.model.loading import Loaded, load_model
from slimpajama.workspace.open import Workspace

LOG = logging.getLogger(__name__)
STOP_S = 5.0

Texts = Sequence[tuple[str, GenerateConfig]]
"""Prompts, and how to continue each."""
Call = Callable[[Tuned, Callable[[], bool]], dict[str, Any]]
"""A call of an application: given a tuned model, and what tells that nobody waits any more."""


@dataclass(frozen=True, slots=True)
class Event:
    """A piece of a text, or with `tally` its end."""

    index: int
    """Of the text in its job."""
    text: str = ""
    tally: Tally | None = None
    result: dict[str, Any] | None = None
    """What an application came to."""


@dataclass(slots=True)
class Job:
    """Texts to write one after the other, or a call of an application."""

    loaded: Loaded
    texts: Texts
    send: Callable[[Event | Exception | None], object]
    """Called by the computing thread; the last call brings None, or the error that ended the job."""
    task: str = ""
    """What the tuned model of `call` has to serve."""
    call: Call | None = None
    cancelled: threading.Event = field(default_factory=threading.Event)
    """Set when nobody waits for it any more: it ends at the next piece."""


class Worker:
    """Serves one model of a workspace; the champion where none is named.

    Args:
        model_id: A model that stays; None follows the champion.
        max_queue: Jobs that may wait while another one is computed.
        poll_s: How often the pointer to the champion is read: one small file.

    Raises:
        ModelError: If there is no such model, or no champion yet.
    """

    def __init__(
        self, workspace: Workspace, model_id: str | None = None, max_queue: int = 16, poll_s: float = 5.0
    ) -> None:
        self._workspace, self._poll_s, self.max_queue = workspace, poll_s, max_queue
        self.follows = model_id is None
        """Whether the model is the champion, whichever that is."""
        self.loaded = _load(workspace, model_id)
        self.loaded_at = time.time()
        self._polled, self._trouble = time.monotonic(), ""
        self._jobs: queue.Queue[Job | None] = queue.Queue(max_queue)
        self._last_s = 1.0
        self._tuned: dict[str, Tuned] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="completions", daemon=True)

    def start(self) -> None:
        """Begin to compute."""
        self._thread.start()

    def stop(self) -> None:
        """End at the next piece; what still waits is not computed."""
        self._stopping.set()
        # Then it will look by itself after the job it is at.
        with contextlib.suppress(queue.Full):
            self._jobs.put_nowait(None)
        self._thread.join(STOP_S)

    @property
    def alive(self) -> bool:
        """Whether jobs are being computed."""
        return self._thread.is_alive() and not self._stopping.is_set()

    @property
    def waiting(self) -> int:
        """Jobs in the queue."""
        return self._jobs.qsize()

    @property
    def retry_after_s(self) -> int:
        """Seconds after which a place in the queue can be expected: as long as the last job took."""
        return max(1, math.ceil(self._last_s))

    def submit(self, job: Job) -> None:
        """Put a job into the queue.

        Raises:
            queue.Full: If there is no place.
        """
        self._jobs.put_nowait(job)

    def _run(self) -> None:
        # A step is too small to share: two threads took ten times the processor's time.
        torch.set_num_threads(1)
        while not self._stopping.is_set():
            with contextlib.suppress(queue.Empty):
                if job := self._jobs.get(timeout=self._poll_s):
                    begun = time.monotonic()
                    self._finish(job)
                    self._last_s = time.monotonic() - begun
            self._follow()

    def _finish(self, job: Job) -> None:
        end: Exception | None = None
        try:
            self._compute(job)
        except Exception as error:
            # Whatever a request meets, the next one is answered.
            end = error
            # Its message could quote the text, its lines cannot.
            if not isinstance(error, SlimpajamaError):
                LOG.error("%s\n%s", type(error).__name__, "".join(traceback.format_tb(error.__traceback__)))
        # The event loop is gone, and whoever waited with it.
        with contextlib.suppress(RuntimeError):
            job.send(end)

    def _compute(self, job: Job) -> None:
        if job.call:
            job.send(Event(0, result=job.call(self._tuned_for(job.task), job.cancelled.is_set)))
            return
        for index, (prompt, cfg) in enumerate(job.texts):
            if job.cancelled.is_set():
                return
            tally = Tally()
            for text in stream_text(job.loaded.model, job.loaded.tokenizer, prompt, cfg, tally):
                if job.cancelled.is_set() or self._stopping.is_set():
                    return
                job.send(Event(index, text))
            job.send(Event(index, tally=tally))

    def _tuned_for(self, task: str) -> Tuned:
        """Return the model that serves a task now; one that serves none any more is let go."""
        wanted = self._workspace.models.serving(task)
        if wanted not in self._tuned:
            current = set(self._workspace.models.tuned_tasks()[0].values())
            self._tuned = {name: tuned for name, tuned in self._tuned.items() if name in current}
            self._tuned[wanted] = load_tuned(self._workspace, wanted)
        return self._tuned[wanted]

    def _follow(self) -> None:
        """Load the champion where it has changed; one that cannot be loaded leaves the model as it is."""
        if not self.follows or self._stopping.is_set() or time.monotonic() < self._polled + self._poll_s:
            return
        try:
            wanted = self._workspace.models.champion()
            if wanted not in (None, self.loaded.id):
                self.loaded, self.loaded_at = _load(self._workspace, wanted), time.time()
                LOG.warning("now serving %s", wanted)
            self._trouble = ""
        except (SlimpajamaError, OSError) as error:
            # Once, not at every look.
            if str(error) != self._trouble:
                self._trouble = str(error)
                LOG.warning("still serving %s: %s", self.loaded.id, error)
        self._polled = time.monotonic()


def _load(workspace: Workspace, model_id: str | None) -> Loaded:
    """Return a model that has written its first token: the tokenizer's tables and kernels are made on first use."""
    loaded = load_model(workspace, model_id)
    list(stream_text(loaded.model, loaded.tokenizer, "今天 a", GenerateConfig(max_tokens=1)))
    return loaded
