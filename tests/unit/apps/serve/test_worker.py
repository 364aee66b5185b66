"""A champion that changes while requests run."""

from __future__ import annotations

import queue
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from broken_models import replace_in, with_nan

from slimpajama.apps.serve import worker as worker_module
from slimpajama.apps.serve.schemas import ApiError
from slimpajama.apps.serve.waiting import Job
from slimpajama.apps.serve.worker import Worker
from slimpajama.core.config import GenerateConfig
from slimpajama.core.errors import ModelError
from slimpajama.corpus.index import index_nights
from slimpajama.model.memory.stage import remember
from slimpajama.workspace import layout
from slimpajama.workspace.catalogue import swap_pointer
from slimpajama.workspace.manifest import load_manifest
from slimpajama.workspace.open import Workspace
from slimpajama.workspace.registry import Models


def copied(space: Any, model: str, name: str) -> str:
    """Publish a model once more under another name."""
    models = Path(space.store.uri) / "models"
    shutil.copytree(models / model, models / name)
    replace_in(models / name / "manifest.json", f"models/{model}/", f"models/{name}/")
    assert load_manifest(space.store, f"models/{name}/manifest.json") is not None
    return name


@pytest.fixture
def worker(trained: Any) -> Any:
    """A worker that follows the champion closely, and a way to give it something to do."""
    space, model = trained
    Models(space.store).promote(model, "first")
    worker = Worker(Workspace(space.store), poll_s=0.01)
    worker.start()
    yield worker
    worker.stop()
    assert not worker.alive


def asked(worker: Worker, max_tokens: int = 4) -> tuple[Job, queue.Queue[Any]]:
    inbox: queue.Queue[Any] = queue.Queue()
    return Job(worker.loaded, [("今天", GenerateConfig(max_tokens=max_tokens, seed=4))], inbox.put), inbox


def answer(inbox: queue.Queue[Any]) -> str:
    """Return the text of a job, once it is whole."""
    text = ""
    while (event := inbox.get(timeout=60)) is not None:
        text += event.text
    return text


def until(probe: Callable[[], bool]) -> None:
    """Wait until something is so, at most a minute."""
    for _ in range(6000):
        if probe():
            return
        time.sleep(0.01)
    raise AssertionError("it never was so")


def until_serving(worker: Worker, model: str) -> None:
    until(lambda: worker.loaded.id == model)


def test_a_request_keeps_the_model_it_began_with_and_the_next_one_gets_the_new_champion(trained: Any, worker: Worker):
    space, model = trained
    job, inbox = asked(worker)
    worker.submit(job)
    expected = answer(inbox)

    accepted, kept = asked(worker)
    Models(space.store).promote(copied(space, model, "better"), "better")
    until_serving(worker, "better")
    worker.submit(accepted)
    assert accepted.loaded.id == model
    assert answer(kept) == expected
    assert asked(worker)[0].loaded.id == "better"
    assert asked(worker)[0].loaded.model is not accepted.loaded.model


def test_a_champion_that_is_damaged_leaves_the_old_one_serving_and_says_so_once(
    trained: Any, worker: Worker, caplog: pytest.LogCaptureFixture
):
    space, model = trained
    copied(space, model, "broken")
    (Path(space.store.uri) / "models" / "broken" / "model.safetensors").write_bytes(b"cut")
    Models(space.store).promote("broken", "by mistake")
    until(lambda: "cannot serve broken" in caplog.text)
    worker._stopping.wait(0.2)  # several looks later
    assert caplog.text.count("cannot serve broken") == 1
    assert worker.loaded.id == model
    job, inbox = asked(worker)
    worker.submit(job)
    assert answer(inbox)
    Models(space.store).promote(copied(space, model, "repaired"), "better")
    until_serving(worker, "repaired")


def test_a_memory_that_the_champion_is_given_and_a_forgotten_document_reach_the_server(trained: Any, worker: Worker):
    space, model = trained
    workspace = Workspace(space.store)
    index_nights(workspace, space.cfg)
    remember(workspace, space.cfg, model, space.nights[0])
    assert not worker.loaded.memory
    workspace.models.admit_memory(model, space.nights[0], "more text")
    until(lambda: worker.loaded.memory == space.nights[0])
    job, inbox = asked(worker)
    worker.submit(job)
    assert answer(inbox)
    # Where a document was forgotten, its index was made again.
    before = worker.loaded
    assert swap_pointer(space.store, layout.FORGOTTEN, {"documents": []}, "")
    until(lambda: worker.loaded is not before)


def test_a_job_that_was_cancelled_while_it_waited_costs_nothing(worker: Worker):
    job, inbox = asked(worker)
    job.cancelled.set()
    worker.submit(job)
    assert isinstance(inbox.get(timeout=60), ApiError)
    assert inbox.empty()


def test_a_server_without_a_model_does_not_start(workspace: Any):
    with pytest.raises(ModelError, match="no champion yet"):
        Worker(Workspace(workspace.store))


def test_a_model_that_was_named_stays(trained: Any):
    space, model = trained
    worker = Worker(Workspace(space.store), model, poll_s=0.01)
    worker.start()
    Models(space.store).promote(copied(space, model, "better"), "better")
    job, inbox = asked(worker)
    worker.submit(replace(job))
    answer(inbox)
    assert worker.loaded.id == model
    worker.stop()


class PanicError(BaseException):
    """What a library in Rust raises, which is no `Exception`."""


@pytest.mark.parametrize("error", [MemoryError, RuntimeError, PanicError, SystemExit])
def test_whatever_a_request_meets_ends_that_request_alone(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
):
    def broken(*_: Any) -> Any:
        raise error("秘密")

    with monkeypatch.context() as patch:
        patch.setattr(worker_module, "stream_text", broken)
        job, inbox = asked(worker)
        worker.submit(job)
        told = inbox.get(timeout=60)
    assert isinstance(told, RuntimeError)
    assert "秘密" not in str(told)
    job, inbox = asked(worker)
    worker.submit(job)
    assert answer(inbox)
    assert worker.alive


@pytest.mark.parametrize("error", [MemoryError, RuntimeError, PanicError])
def test_whatever_loading_a_champion_meets_the_old_one_answers_and_a_rollback_heals(
    trained: Any,
    worker: Worker,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: type[BaseException],
):
    space, model = trained
    with monkeypatch.context() as patch:
        patch.setattr(worker_module, "load_model", lambda *_: (_ for _ in ()).throw(error("too much")))
        Models(space.store).promote(copied(space, model, "huge"), "by mistake")
        until(lambda: "cannot serve huge" in caplog.text)
    for _ in range(2):
        job, inbox = asked(worker)
        worker.submit(job)
        assert answer(inbox)
        assert (worker.alive, worker.loaded.id) == (True, model)
        if Models(space.store).champion() == "huge":
            Models(space.store).rollback()
    Models(space.store).promote(copied(space, model, "better"), "better")
    until_serving(worker, "better")


def test_a_champion_whose_weights_are_not_finite_is_refused_and_the_one_before_it_serves(
    trained: Any, worker: Worker, caplog: pytest.LogCaptureFixture
):
    space, model = trained
    with_nan(space.store, copied(space, model, "broken"))
    Models(space.store).promote("broken", "by mistake")
    until(lambda: "cannot serve broken: models/broken: weights are not finite" in caplog.text)
    assert (worker.alive, worker.loaded.id) == (True, model)
    # So does a server that starts now.
    assert Worker(Workspace(space.store)).loaded.id == model
    with pytest.raises(ModelError, match="weights are not finite"):
        Worker(Workspace(space.store), "broken")
    Models(space.store).rollback()
    assert Models(space.store).champion() == worker.loaded.id == model
