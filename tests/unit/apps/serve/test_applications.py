"""The applications over HTTP, by the tuned model that serves their task."""

from __future__ import annotations

from dataclasses import dataclass
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
        return SimpleNamespace(text=question, passage=context, score=-0.5)


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
