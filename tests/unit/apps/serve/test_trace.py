"""Where a text comes from, over HTTP and on the page."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import pytest
from nights_to_forget import FIRST, first_night, prepare, rows, settings, write_raw
from starlette.testclient import TestClient

from slimpajama.apps.serve import worker as worker_module
from slimpajama.apps.serve.app import PAGE, Application
from slimpajama.apps.serve.worker import Worker
from slimpajama.core.config import GenerateConfig
from slimpajama.corpus.index import index_nights
from slimpajama.corpus.trace import trace
from slimpajama.model.loading import load_model
from slimpajama.workspace.local import LocalStore
from slimpajama.workspace.open import Workspace

TOKEN = "correct-horse-battery"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    folder = tmp_path_factory.mktemp("serve-trace")
    store = LocalStore(str(folder / "workspace"))
    write_raw(folder, FIRST, first_night())
    prepare(store, settings(folder), FIRST)
    index_nights(Workspace(store), settings(folder))
    return Workspace(store)


@pytest.fixture
def worker(corpus: Workspace, one_model: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> Worker:
    """Serves a model of elsewhere beside the corpus."""
    loaded = load_model(Workspace(LocalStore(str(one_model[0]))), one_model[1])
    monkeypatch.setattr(worker_module, "load_model", lambda *_: loaded)
    return Worker(corpus, loaded.id)


@pytest.mark.parametrize("lang", ["zh", "en"])
def test_the_answer_is_what_the_library_says(worker: Worker, corpus: Workspace, lang: str):
    document = next(row for row in rows(corpus.store, "shards/train") if row["source"] == lang)
    asked = "".join(document["words"])[4:90]
    with TestClient(Application(worker, GenerateConfig())) as client:
        answer = client.post("/v1/trace", json={"text": asked, "documents": 1}).json()
        limits = answer.pop("limits")
        assert limits["seconds"] > 0
        assert answer == trace(corpus, asked, max_documents=1).as_dict()
        assert answer["spans"][0]["documents"][0]["id"] == document["id"]


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({}, "text"),
        ({"text": 1}, "text"),
        ({"text": "x" * 20_001}, "20000"),
        ({"text": "x", "documents": 21}, "documents"),
        ({"text": "x", "min_tokens": 0}, "min_tokens"),
        ({"text": "x", "more": 1}, "unknown"),
    ],
)
def test_what_cannot_be_answered_is_refused(worker: Worker, body: Any, word: str):
    with TestClient(Application(worker, GenerateConfig())) as client:
        answer = client.post("/v1/trace", json=body)
        assert answer.status_code == 400
        assert word in answer.json()["error"]["message"]


def test_the_token_is_asked_for(worker: Worker):
    with TestClient(Application(worker, GenerateConfig(), token=TOKEN)) as client:
        assert client.post("/v1/trace", json={"text": "x"}).status_code == 401
        headers = {"Authorization": f"Bearer {TOKEN}"}
        assert client.post("/v1/trace", json={"text": "x"}, headers=headers).status_code == 200


def test_a_corpus_that_cannot_be_searched_is_said_so_and_the_log_says_why(
    trained: Any, caplog: pytest.LogCaptureFixture
):
    space, model = trained
    with (
        caplog.at_level(logging.WARNING),
        TestClient(Application(Worker(Workspace(space.store), model), GenerateConfig())) as client,
    ):
        answer = client.post("/v1/trace", json={"text": "a private text"})
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "index_unavailable"
        assert space.store.uri not in answer.text
        assert client.post("/v1/completions", json={"prompt": "今天", "max_tokens": 2}).status_code == 200
    assert "has no index" in caplog.text
    assert "a private text" not in caplog.text


def test_the_page_puts_no_text_into_html():
    script = re.findall(r"<script>(.*?)</script>", PAGE.read_text(encoding="utf-8"), re.DOTALL)[0]
    assert "v1/trace" in script
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", script)
