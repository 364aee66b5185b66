"""A champion that changes while requests run."""

from __future__ import annotations

import queue
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slimpajama.apps.serve.worker import Job, Worker
from slimpajama.core.config import GenerateConfig
from slimpajama.core.errors import ModelError
from slimpajama.workspace.manifest import json_bytes, load_manifest
from slimpajama.workspace.open import Workspace
from slimpajama.workspace.registry import Models


def copied(space: Any, model: str, name: str) -> str:
    """Publish a model once more under another name."""
    models = Path(space.store.uri) / "models"
    shutil.copytree(models / model, models / name)
    found = load_manifest(space.store, f"models/{model}/manifest.json")
    assert found is not None
    files = tuple(replace(entry, path=entry.path.replace(f"/{model}/", f"/{name}/")) for entry in found.files)
    space.store.write(f"models/{name}/manifest.json", json_bytes(replace(found, files=files)))
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
    return Job(worker.loaded, [("今天", GenerateConfig(max_tokens=max_tokens, seed=1))], inbox.put), inbox


def answer(inbox: queue.Queue[Any]) -> str:
    """Return the text of a job, once it is whole."""
    text = ""
    while (event := inbox.get(timeout=60)) is not None:
        text += event.text
    return text


def until_serving(worker: Worker, model: str) -> None:
    for _ in range(6000):
        if worker.loaded.id == model:
            return
        worker._stopping.wait(0.01)
    raise AssertionError(f"still serving {worker.loaded.id}")


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
    for _ in range(6000):
        if "still serving" in caplog.text:
            break
        worker._stopping.wait(0.01)
    worker._stopping.wait(0.2)  # several looks later
    assert caplog.text.count(f"still serving {model}") == 1
    job, inbox = asked(worker)
    worker.submit(job)
    assert answer(inbox)
    Models(space.store).promote(copied(space, model, "repaired"), "better")
    until_serving(worker, "repaired")


def test_a_job_that_was_cancelled_while_it_waited_costs_nothing(worker: Worker):
    job, inbox = asked(worker)
    job.cancelled.set()
    worker.submit(job)
    assert inbox.get(timeout=60) is None


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
