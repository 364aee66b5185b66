"""The applications over HTTP, by the tuned model that serves their task."""

from __future__ import annotations

import asyncio
import json
import math
import threading
import time
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.testclient import TestClient

from slimpajama.apps.serve import worker as worker_module
from slimpajama.apps.serve.app import Application
from slimpajama.apps.serve.worker import MAX_TOKENS, Worker
from slimpajama.core.config import ApplyConfig, GenerateConfig
from slimpajama.core.errors import InputError
from slimpajama.model.generate.sampling import Spend, without_bound
from slimpajama.workspace.manifest import json_bytes
from slimpajama.workspace.open import Workspace
from slimpajama.workspace.registry import Models

LIMITS = {"limits": {"tokens": MAX_TOKENS, "seconds": 60.0, "seconds_with_waiting": 300.0}}


@dataclass
class Echo:
    """A tuned model that says what it was asked."""

    name: str
    spend: Spend = without_bound

    def summarize(self, text: str, cfg: ApplyConfig) -> str:
        if not text.strip():
            raise InputError("the text is empty")
        return f"{self.name}: {text}, {cfg.beams} beams"

    def translate(self, text: str, to: str, cfg: ApplyConfig) -> Any:
        yield from (f"{to} {line}" for line in text.splitlines(keepends=True))

    def answer(self, question: str, context: str, cfg: ApplyConfig) -> Any:
        return SimpleNamespace(text=question, passage=context, score=-math.inf if context == "nothing" else -0.5)


@pytest.fixture
def client(trained: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A server whose first two tasks are served by one model; how often models are loaded is counted."""
    space, model = trained
    Models(space.store).promote(model, "test")
    serves(space.store, summarization="one", translation="one")
    loads: list[str] = []
    monkeypatch.setattr(worker_module, "load_tuned", lambda _, name: loads.append(name) or Echo(name))
    app = Application(Worker(Workspace(space.store)), GenerateConfig(), apply=ApplyConfig(beams=3))
    with TestClient(app) as client:
        yield client, space.store, loads


def serves(store: Any, **tasks: str) -> None:
    store.write(
        "tuned/current.json", json_bytes({"tasks": {k.replace("_", "-"): v for k, v in tasks.items()}, "history": []})
    )


def test_each_application_answers_with_its_model_and_settings(client: Any):
    http, store, loads = client
    summary = http.post("/v1/summarize", json={"text": "今天天气"}).json()
    assert summary == {"summary": "one: 今天天气, 3 beams"} | LIMITS
    translation = http.post("/v1/translate", json={"text": "a\nb", "to": "zh"}).json()
    assert translation == {"translation": "zh a\nzh b", "to": "zh"} | LIMITS
    assert loads == ["one"]
    serves(store, question_answering="two")
    answer = http.post("/v1/answer", json={"question": "谁？", "context": "They did."}).json()
    assert answer == {"answer": "谁？", "passage": "They did.", "score": -0.5} | LIMITS
    serves(store, summarization="three")
    assert http.post("/v1/summarize", json={"text": "x"}).json()["summary"].startswith("three")
    assert loads == ["one", "two", "three"]


@pytest.mark.parametrize(
    ("path", "body", "status", "word"),
    [
        ("summarize", {"text": " "}, 400, "the text is empty"),
        ("summarize", {"text": "x" * 200_001}, 400, "200000"),
        ("summarize", {}, 400, "text"),
        ("translate", {"text": "x", "to": "../zh"}, 400, "to"),
        ("translate", {"text": "x"}, 400, "to"),
        ("answer", {"question": "who", "context": "x", "more": 1}, 400, "unknown"),
        ("answer", {"question": "who", "context": "x"}, 400, "no model is tuned for question-answering yet"),
        ("sing", {"text": "x"}, 404, ""),
    ],
)
def test_a_request_that_cannot_be_answered_is_refused_clearly(
    client: Any, path: str, body: Any, status: int, word: str
):
    answer = client[0].post(f"/v1/{path}", json=body)
    assert answer.status_code == status
    assert word in answer.json()["error"]["message"]


def test_the_token_is_asked_for(trained: Any):
    space, model = trained
    Models(space.store).promote(model, "test")
    with TestClient(
        Application(Worker(Workspace(space.store)), GenerateConfig(), token="correct-horse-battery")
    ) as http:
        assert http.post("/v1/summarize", json={"text": "x"}).status_code == 401


@dataclass
class Endless:
    """A tuned model that never comes to an end by itself."""

    spend: Spend = without_bound
    begun: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def _work(self, *_: Any) -> Any:
        self.begun.release()
        while True:
            self.spend(1)
            time.sleep(0.001)

    summarize = translate = answer = _work


BODIES = {
    "summarize": {"text": "x"},
    "translate": {"text": "x", "to": "zh"},
    "answer": {"question": "q", "context": "x"},
}


@pytest.mark.parametrize("path", BODIES)
def test_a_client_that_goes_away_ends_its_work_whether_it_runs_or_waits(
    trained: Any, monkeypatch: pytest.MonkeyPatch, path: str
):
    """Spoken in ASGI, since a test client cannot hang up."""
    space, model = trained
    Models(space.store).promote(model, "test")
    serves(space.store, **dict.fromkeys(("summarization", "translation", "question_answering"), "one"))
    endless = Endless()
    monkeypatch.setattr(worker_module, "load_tuned", lambda *_: endless)
    worker = Worker(Workspace(space.store))
    app = Application(worker, GenerateConfig())

    async def ask(gone: asyncio.Event) -> None:
        said = iter([{"type": "http.request", "body": json.dumps(BODIES[path]).encode(), "more_body": False}])

        async def receive() -> Any:
            if (first := next(said, None)) is not None:
                return first
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(_: Any) -> None: ...

        headers = [(b"content-type", b"application/json")]
        scope = {"type": "http", "method": "POST", "path": f"/v1/{path}", "query_string": b"", "headers": headers}
        await app(scope | {"http_version": "1.1", "asgi": {"version": "3.0", "spec_version": "2.3"}}, receive, send)

    async def talk() -> None:
        async with app.router.lifespan_context(app):
            gone = [asyncio.Event() for _ in range(3)]
            asked = [asyncio.create_task(ask(one)) for one in gone]
            assert await asyncio.to_thread(endless.begun.acquire, True, 60)
            while worker.waiting < 2:
                await asyncio.sleep(0.01)
            # One that waits, and then the one that runs: the third begins.
            gone[2].set()
            await asyncio.wait_for(asked[2], 10)
            assert worker.waiting == 1
            gone[0].set()
            await asyncio.wait_for(asked[0], 10)
            assert await asyncio.to_thread(endless.begun.acquire, True, 10)
            gone[1].set()
            await asyncio.wait_for(asked[1], 10)

    asyncio.run(talk())
    assert not worker.waiting


@pytest.mark.parametrize("path", BODIES)
def test_an_application_ends_at_its_bound(trained: Any, monkeypatch: pytest.MonkeyPatch, path: str):
    space, model = trained
    Models(space.store).promote(model, "test")
    serves(space.store, **dict.fromkeys(("summarization", "translation", "question_answering"), "one"))
    monkeypatch.setattr(worker_module, "load_tuned", lambda *_: Endless())
    with TestClient(Application(Worker(Workspace(space.store), max_seconds=0.1), GenerateConfig())) as http:
        refused = http.post(f"/v1/{path}", json=BODIES[path])
    assert (refused.status_code, refused.json()["error"]["code"]) == (413, "too_large")
    assert "0.1 s of computing" in refused.json()["error"]["message"]


def test_an_answer_of_which_nothing_is_known_has_no_score(client: Any):
    http, store, _ = client
    serves(store, question_answering="one")
    assert http.post("/v1/answer", json={"question": "?", "context": "nothing"}).json()["score"] is None


def test_a_tuned_model_that_cannot_be_loaded_leaves_the_one_before_it_serving(
    client: Any, monkeypatch: pytest.MonkeyPatch
):
    http, store, _ = client
    assert http.post("/v1/summarize", json={"text": "x"}).json()["summary"].startswith("one")
    with monkeypatch.context() as patch:
        patch.setattr(worker_module, "load_tuned", lambda *_: (_ for _ in ()).throw(MemoryError()))
        serves(store, summarization="broken", question_answering="broken")
        assert http.post("/v1/summarize", json={"text": "x"}).json()["summary"].startswith("one")
        refused = http.post("/v1/answer", json={"question": "x", "context": "x"})
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "model_unavailable")
    assert http.post("/v1/answer", json={"question": "x", "context": "x"}).status_code == 200
    assert http.post("/v1/summarize", json={"text": "x"}).json()["summary"].startswith("broken")
