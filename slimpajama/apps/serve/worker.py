"""The one thread that computes: it takes jobs from a bounded queue, and between two of them follows the champion.

A job carries the model that was being served when it was accepted, so a change of champion touches no request: what
was accepted before is answered by the old model, what comes after by the new one. Whatever a job or a model meets ends
that job alone. Nothing here logs a text.
"""

import contextlib
import logging
import math
import threading
import time
import traceback
from dataclasses import replace

import torch

from slimpajama.apps.serve.schemas import ApiError
from slimpajama.apps.serve.waiting import Event, Job, SpentError, StoppedError, Waiting, bounded
from slimpajama.apps.tune.inference import Tuned
from slimpajama.apps.tune.loading import load_tuned
from slimpajama.core.config import GenerateConfig
from slimpajama.core.errors import ModelError, SlimpajamaError
from slimpajama.model.generate.text import Tally, stream_text
from slimpajama.model.loading import Loaded, load_model
from slimpajama.workspace import layout
from slimpajama.workspace.open import Workspace

LOG = logging.getLogger(__name__)
STOP_S = 5.0
# Of a request, read and written together: what the preset `small` does in a minute of one core.
MAX_TOKENS = 65_536
# In the queue: as long as four of the longest requests.
WAIT_S = 240.0
# Between two attempts to load a model that could not be loaded: it may have been repaired.
AGAIN_S = 60.0


class Worker:
    """Serves one model of a workspace; the champion where none is named.

    A champion that cannot be loaded is not served: at the start the one before it is, later the one that serves stays.

    Args:
        model_id: A model that stays; None follows the champion.
        max_queue: Jobs that may wait while another one is computed.
        poll_s: How often the pointer to the champion is read: one small file.
        max_seconds: Most time that a job computes.

    Raises:
        ModelError: If there is no such model, no champion yet, or none that works.
        StorageError: If its files are not what was published.
    """

    def __init__(
        self,
        workspace: Workspace,
        model_id: str | None = None,
        max_queue: int = 16,
        poll_s: float = 5.0,
        max_seconds: float = 60.0,
    ) -> None:
        self._workspace, self._poll_s, self.max_queue = workspace, poll_s, max_queue
        self.max_seconds = max_seconds
        self.follows = model_id is None
        """Whether the model is the champion, whichever that is."""
        self._polled, self._refused, self._again, self._trouble = time.monotonic(), "", 0.0, ""
        self.loaded = _load(workspace, model_id) if model_id else self._first()
        self._remembered = self._remembers(self.loaded.id)
        self.loaded_at = time.time()
        self._jobs = Waiting(max_queue, self.full)
        self._last_s = 1.0
        self._tuned: dict[str, tuple[str, Tuned]] = {}
        """By task."""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="completions", daemon=True)

    def start(self) -> None:
        """Begin to compute."""
        self._thread.start()

    def stop(self) -> None:
        """End at the next token; what still waits is not computed."""
        self._stopping.set()
        self._thread.join(STOP_S)

    @property
    def alive(self) -> bool:
        """Whether jobs are being computed."""
        return self._thread.is_alive() and not self._stopping.is_set()

    @property
    def limits(self) -> dict[str, float]:
        """What a job may take, as its answer states it."""
        whole = WAIT_S + self.max_seconds
        return {"tokens": MAX_TOKENS, "seconds": self.max_seconds, "seconds_with_waiting": whole}

    @property
    def waiting(self) -> int:
        """Jobs in the queue."""
        return len(self._jobs)

    def full(self) -> ApiError:
        """Return what is said where there is no place: one can be expected after as long as the last job took."""
        again = {"Retry-After": str(max(1, math.ceil(self._last_s)))}
        return ApiError(429, "too many requests are waiting", "queue_full", headers=again)

    def submit(self, job: Job) -> None:
        """Put a job into the queue.

        Raises:
            ApiError: If there is no place.
        """
        self._jobs.put(job)

    def cancel(self, job: Job) -> None:
        """End a job for which nobody waits: at once where it has not begun, else at its next token."""
        job.cancelled.set()
        self._jobs.drop(job)

    def _run(self) -> None:
        # A step is too small to share: two threads took ten times the processor's time.
        torch.set_num_threads(1)
        while not self._stopping.is_set():
            if job := self._jobs.take(min(self._poll_s, 0.5)):
                begun = time.monotonic()
                self._finish(job)
                self._last_s = time.monotonic() - begun
            self._follow()

    def _finish(self, job: Job) -> None:
        end: Exception | None = None
        try:
            self._compute(job)
        except StoppedError:
            end = ApiError(503, "the server is stopping", "stopping")
        except (ApiError, SlimpajamaError) as error:
            end = error
        # Whatever a request meets, even a panic of a library in Rust, the next one is answered.
        except BaseException as error:
            end = RuntimeError(type(error).__name__)
            # Its message could quote the text, its lines cannot.
            with contextlib.suppress(Exception):
                LOG.error("%s\n%s", type(error).__name__, "".join(traceback.format_tb(error.__traceback__)))
        # The event loop is gone, and whoever waited with it.
        with contextlib.suppress(RuntimeError):
            job.send(end)

    def _compute(self, job: Job) -> None:
        def gone() -> bool:
            return job.cancelled.is_set() or self._stopping.is_set()

        spend = bounded(MAX_TOKENS, self.max_seconds, gone)
        if job.call:
            given = replace(self._tuned_for(job.task), spend=spend) if job.task else self._workspace
            job.send(Event(0, result=job.call(given)))
            return
        for index, (prompt, cfg) in enumerate(job.texts):
            tally = Tally()
            # As much as there was time for ends with `length`.
            with contextlib.suppress(SpentError):
                for text in stream_text(job.loaded.model, job.loaded.tokenizer, prompt, cfg, tally, spend):
                    job.send(Event(index, text))
            job.send(Event(index, tally=tally))

    def _tuned_for(self, task: str) -> Tuned:
        """Return the model that serves a task now, or the one before it where that cannot be loaded."""
        wanted = self._workspace.models.serving(task)
        if task not in self._tuned or self._tuned[task][0] != wanted:
            loaded = next((tuned for name, tuned in self._tuned.values() if name == wanted), None)
            try:
                self._tuned[task] = wanted, loaded or load_tuned(self._workspace, wanted)
            except Exception as error:
                LOG.warning("cannot serve %s: %s", wanted, error)
                if task not in self._tuned:
                    message = "the model that serves this cannot be loaded; the server's log says why"
                    raise ApiError(503, message, "model_unavailable") from None
        return self._tuned[task][1]

    def _first(self) -> Loaded:
        """Return the champion, or the newest one before it that can be loaded."""
        trouble: Exception | None = None
        models = self._workspace.models
        for model_id in dict.fromkeys([models.require_champion(), *models.rollback_targets()]):
            try:
                return _load(self._workspace, model_id)
            except (SlimpajamaError, OSError, MemoryError) as error:
                trouble = trouble or error
                self._refuse(model_id, error)
        assert trouble
        raise trouble

    def _follow(self) -> None:
        """Load the champion where it has changed; one that cannot be loaded leaves the model as it is."""
        now = time.monotonic()
        if not self.follows or self._stopping.is_set() or now < self._polled + self._poll_s:
            return
        wanted = self._refused
        try:
            wanted = self._workspace.models.champion() or self.loaded.id
            remembered = self._remembers(wanted)
            if (wanted, remembered) == (self.loaded.id, self._remembered):
                self._refused = self._trouble = ""
            elif wanted != self._refused or now > self._again:
                self.loaded, self.loaded_at = _load(self._workspace, wanted), time.time()
                self._remembered = remembered
                memory = f" with its memory of {self.loaded.memory}" if self.loaded.memory else ""
                LOG.warning("now serving %s%s", wanted, memory)
        except BaseException as error:
            self._refuse(wanted, error)
        self._polled = time.monotonic()

    def _remembers(self, model_id: str) -> tuple[str, str]:
        """Return what changes with the memory of a model: its night, and the list of forgotten documents."""
        memory = self._workspace.models.memory_of(model_id)
        return memory, self._workspace.store.read_versioned(layout.FORGOTTEN)[1] if memory else ""

    def _refuse(self, model_id: str, error: BaseException) -> None:
        """Note that a model cannot be served; say so once, not at every look."""
        self._refused, self._again = model_id, time.monotonic() + AGAIN_S
        if str(error) != self._trouble:
            self._trouble = str(error)
            LOG.warning("cannot serve %s: %s", model_id or "the champion", error)


def _load(workspace: Workspace, model_id: str) -> Loaded:
    """Return a model that has written its first token: the tokenizer's tables and kernels are made on first use.

    Raises:
        ModelError: There is no such model, or it cannot write.
    """
    loaded = load_model(workspace, model_id)
    try:
        list(stream_text(loaded.model, loaded.tokenizer, "今天 a", GenerateConfig(max_tokens=1)))
    except RuntimeError as error:
        hint = "`slimpajama models rollback` goes back to the champion before it."
        raise ModelError("cannot write a token", where=model_id, found=str(error), hint=hint) from error
    return loaded
