"""Completions over HTTP: answers, streams, refusals, and a champion that changes, on a tiny model in a workspace."""

from __future__ import annotations

import asyncio
import json
import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from slimpajama.apps.serve import worker as worker_module
from slimpajama.apps.serve.app import HEADERS, MAX_BODY, Application
from slimpajama.apps.serve.schemas import CompletionRequest
from slimpajama.apps.serve.waiting import Job
from slimpajama.apps.serve.worker import MAX_TOKENS, Worker
from slimpajama.core.config import GenerateConfig
from slimpajama.model.generate.text import generate_texts
from slimpajama.model.loading import Loaded, load_model
from slimpajama.workspace.local import LocalStore
from slimpajama.workspace.open import Workspace

HOSTS = frozenset({"127.0.0.1", "localhost", "::1"})
TOKEN = "correct-horse-battery"
CFG = GenerateConfig(max_tokens=12)


@pytest.fixture(scope="module")
def worker_of(one_model: tuple[Path, str]) -> Callable[..., Worker]:
    """Makes workers of the tiny model, which is loaded once."""
    store = LocalStore(str(one_model[0]))
    loaded = load_model(Workspace(store), one_model[1])

    def make(**settings: Any) -> Worker:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(worker_module, "load_model", lambda *_: loaded)
            return Worker(Workspace(store), loaded.id, **settings)

    return make


@pytest.fixture
def client(worker_of: Callable[..., Worker]) -> Iterator[TestClient]:
    """A client of a server that this machine alone can reach."""
    with TestClient(Application(worker_of(), CFG, hosts=HOSTS), "http://127.0.0.1:8000") as client:
        yield client


@pytest.fixture
def loaded(worker_of: Callable[..., Worker]) -> Loaded:
    """The model that is served."""
    return worker_of().loaded


def complete(client: TestClient, **body: Any) -> Any:
    return client.post("/v1/completions", json=body)


def events(answer: Any) -> list[dict[str, Any]]:
    """Return the events of a stream, which must end with `[DONE]`."""
    assert answer.headers["content-type"].startswith("text/event-stream")
    lines = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def joined(chunks: list[dict[str, Any]], index: int = 0) -> str:
    return "".join(c["text"] for chunk in chunks for c in chunk["choices"] if c["index"] == index)


def test_metrics_name_the_model_and_the_queue_and_want_the_token_too(worker_of: Callable[..., Worker], loaded: Loaded):
    with TestClient(Application(worker_of(max_queue=3), CFG, token=TOKEN)) as client:
        assert client.get("/metrics").status_code == 401
        answer = client.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
    samples = [sample for family in text_string_to_metric_families(answer.text) for sample in family.samples]
    values = {sample.name.removeprefix("slimpajama_serve_"): sample.value for sample in samples}
    assert values | {"model_loaded_timestamp_seconds": 0.0} == {
        "requests_waiting": 0.0,
        "requests_waiting_max": 3.0,
        "model_loaded_timestamp_seconds": 0.0,
        "model_info": 1.0,
    }
    assert samples[-1].labels == {"model": loaded.id}


@pytest.mark.parametrize("prompt", ["", "今天", "The model ", "\x00\x1b[2J"])
def test_an_answer_is_what_the_command_line_gives_for_the_same_seed(client: TestClient, loaded: Loaded, prompt: str):
    answer = complete(client, prompt=prompt, seed=3, n=2, temperature=1.0, top_k=50)
    cfg = replace(CFG, seed=3, temperature=1.0, top_k=50)
    assert answer.status_code == 200
    body = answer.json()
    assert [choice["text"] for choice in body["choices"]] == generate_texts(
        loaded.model, loaded.tokenizer, prompt, cfg, 2
    )
    assert [choice["index"] for choice in body["choices"]] == [0, 1]
    assert body["model"] == loaded.id
    assert body["object"] == "text_completion"
    usage = body["usage"]
    assert usage["prompt_tokens"] == 1 + len(loaded.tokenizer.encode(prompt.removesuffix(" ")))
    assert 0 < usage["completion_tokens"] <= 24
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


def test_a_stream_says_the_same_as_an_answer_at_once(client: TestClient):
    asked = {"prompt": ["今天", "The model"], "seed": 5, "n": 2, "echo": True, "max_tokens": 30}
    whole = complete(client, **asked).json()
    chunks = events(complete(client, **asked, stream=True, stream_options={"include_usage": True}))
    assert [joined(chunks, index) for index in range(4)] == [choice["text"] for choice in whole["choices"]]
    assert [choice["text"].startswith(("今天", "The model")[i // 2]) for i, choice in enumerate(whole["choices"])]
    assert chunks[-1]["usage"] == whole["usage"]
    ends = [c["finish_reason"] for chunk in chunks for c in chunk["choices"] if c["finish_reason"]]
    assert ends == [choice["finish_reason"] for choice in whole["choices"]]


@pytest.mark.parametrize("stream", [False, True])
def test_a_stop_string_over_the_border_of_tokens_ends_the_text_before_it(client: TestClient, stream: bool):
    asked = {"prompt": "今天", "seed": 5, "max_tokens": 40}
    free = complete(client, **asked).json()["choices"][0]["text"]
    pieces = [chunk["choices"][0]["text"] for chunk in events(complete(client, **asked, stream=True))]
    border = len(pieces[0] + pieces[1])
    stop = free[border - 1 : border + 1]
    answer = complete(client, **asked, stop=["不会有的", stop], stream=stream)
    said = joined(events(answer)) if stream else answer.json()["choices"][0]["text"]
    assert said == free[: free.index(stop)]


def test_without_a_seed_the_texts_differ(client: TestClient):
    assert len({complete(client, prompt="今天", max_tokens=30).json()["choices"][0]["text"] for _ in range(3)}) > 1


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"prompt": 5}, "prompt.str"),
        ({"prompt": []}, "prompt"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 9000}, "max_tokens"),
        ({"temperature": -1}, "temperature"),
        ({"top_p": 1.5}, "top_p"),
        ({"stop": ""}, "stop.0"),
        ({"n": 17}, "n"),
        # JSON's `true` is not 1, nor `false` 0.
        ({"n": True}, "n"),
        ({"best_of": True}, "best_of"),
        ({"presence_penalty": False}, "presence_penalty"),
        ({"temperature": True}, "temperature"),
        ({"seed": True}, "seed"),
        ({"max_tokens": "5"}, "max_tokens"),
        ({"stream": 1}, "stream"),
        ({"seed": -1}, "seed"),
        ({"logprobs": 5}, "logprobs"),
        ({"presence_penalty": 0.5}, "presence_penalty"),
        ({"messages": []}, "messages"),
    ],
)
def test_what_is_out_of_bounds_or_not_supported_is_refused_by_name(
    client: TestClient, body: dict[str, Any], param: str
):
    answer = complete(client, **body)
    error = answer.json()["error"]
    assert (answer.status_code, error["type"]) == (400, "invalid_request_error")
    assert error["param"].startswith(param)
    assert error["message"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'{"prompt": "\xff"}',
        b'{"prompt": "\\ud800"}',
        b"[" * 100_000,
        b'{"top_p": NaN}',
        b'{"temperature": Infinity}',
        b'{"temperature": 1e999}',
        b'{"seed": ' + b"1" * 100_000 + b"}",
        json.dumps({f"字段{number}": 1 for number in range(1000)}).encode(),
        json.dumps({"logit_bias": {f"{number}": "x" for number in range(1000)}}).encode(),
        json.dumps({"stop": [1] * 100_000}).encode(),
    ],
)
def test_what_is_no_request_is_refused_and_the_next_one_answered(client: TestClient, body: bytes):
    answer = client.post("/v1/completions", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert complete(client, prompt="今天").status_code == 200


def test_values_that_change_nothing_are_accepted(client: TestClient, loaded: Loaded):
    neutral = {"best_of": 1, "logprobs": None, "presence_penalty": 0, "frequency_penalty": 0.0, "logit_bias": {}}
    assert complete(client, prompt="今天", model=loaded.id, user="me", **neutral).status_code == 200


def test_bodies_are_bounded_and_a_megabyte_is_read_by_its_end(client: TestClient):
    assert complete(client, prompt="今天天气很好。" * 50_000, max_tokens=2).status_code == 200
    answer = complete(client, prompt="x" * MAX_BODY)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")


def test_other_pages_of_a_browser_reach_nothing(client: TestClient):
    """A form or a script elsewhere can send text/plain without asking; JSON it cannot. Nor can it choose the host."""
    plain = client.post("/v1/completions", content=b'{"prompt": "x"}', headers={"Content-Type": "text/plain"})
    assert plain.status_code == 415
    assert client.get("/v1/models", headers={"Host": "evil.example"}).status_code == 403
    assert client.get("/v1/models", headers={"Host": "[::1]:8000"}).status_code == 200


@pytest.mark.parametrize("path", ["/v1/models/", "/health/", "/v1/completions/"])
def test_nothing_leads_to_a_host_that_the_client_names(client: TestClient, path: str):
    answer = client.get(path, headers={"Host": "evil.example"}, follow_redirects=False)
    assert answer.status_code in (403, 404, 405)
    assert "location" not in answer.headers


def test_a_stream_has_no_line_end_of_any_kind_within_an_event(client: TestClient, monkeypatch: pytest.MonkeyPatch):
    said = "一\u2028二\u2029three\x85four\r\n\x0b\x0c\x1c"
    monkeypatch.setattr(worker_module, "stream_text", lambda *_: iter([said]))
    answer = complete(client, prompt=said, echo=True, stream=True)
    assert all(line.startswith("data: ") for line in answer.text.splitlines() if line)
    assert joined(events(answer)) == 2 * said


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_states_its_bound_and_ends_there(worker_of: Callable[..., Worker], stream: bool):
    worker = worker_of(max_seconds=0.3)
    with TestClient(Application(worker, CFG)) as client:
        answer = complete(client, prompt="今天", n=4, max_tokens=2000, seed=1, stream=stream)
    last = events(answer)[-1] if stream else answer.json()
    assert last["limits"] == {"tokens": MAX_TOKENS, "seconds": 0.3, "seconds_with_waiting": 240.3}
    assert last["choices"][-1]["finish_reason"] == "length"
    assert answer.elapsed.total_seconds() < 20


def test_no_request_reads_and_writes_more_tokens_than_it_may(
    worker_of: Callable[..., Worker], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(worker_module, "MAX_TOKENS", 10)
    with TestClient(Application(worker_of(), CFG)) as client:
        answer = complete(client, prompt="", max_tokens=50, seed=1, n=2).json()
    assert answer["usage"]["completion_tokens"] <= 10
    assert [choice["finish_reason"] for choice in answer["choices"]] == ["length", "length"]


def test_the_server_describes_every_path_and_the_bounds_of_every_setting(client: TestClient):
    document = client.get("/openapi.json").json()
    served = {route.path for route in client.app.routes if route.path.startswith("/v1")}  # type: ignore[attr-defined]
    assert served == {path for path in document["paths"] if path.startswith("/v1")}
    properties = document["components"]["schemas"]["CompletionRequest"]["properties"]
    assert set(properties) == set(CompletionRequest.model_fields)
    assert properties["repetition_penalty"]["anyOf"][0] == {"type": "number", "minimum": 1.0, "maximum": 10.0}
    assert properties["stop"]["anyOf"][1] == {"type": "string", "minLength": 1, "maxLength": 1000}


def test_unknown_models_paths_and_methods_are_told_in_the_same_form(client: TestClient):
    for answer, status in (
        (complete(client, model="gpt-9"), 404),
        (client.get("/v1/nothing"), 404),
        (client.get("/v1/completions"), 405),
    ):
        assert answer.status_code == status
        assert answer.json()["error"]["message"]


def test_a_token_is_asked_for_and_a_wrong_one_refused(worker_of: Callable[..., Worker]):
    with TestClient(Application(worker_of(), CFG, token=TOKEN)) as client:
        for value in ("", TOKEN, f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", "Bearer 错误".encode()):
            answer = client.get("/v1/models", headers={"Authorization": value})
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
        assert client.post("/v1/completions", json={"prompt": "x"}).status_code == 401
        assert client.get("/v1/models", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
        assert client.get("/health").status_code == 200


def test_the_page_runs_its_own_script_and_nothing_else(client: TestClient):
    answer = client.get("/")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "innerHTML" not in answer.text
    # Nothing is fetched from elsewhere.
    assert "://" not in answer.text
    assert "续写 · Continue" in answer.text


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/", 200),
        ("/health", 200),
        ("/v1/models", 200),
        ("/v1/..%2f..%2fetc%2fpasswd", 404),
        ("/模型/config.json", 404),
    ],
)
def test_a_browser_keeps_and_guesses_nothing_and_no_path_leads_to_a_file(client: TestClient, path: str, status: int):
    answer = client.get(path)
    assert answer.status_code == status
    assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS
    assert "access-control-allow-origin" not in answer.headers


class Gate:
    """Holds a model before each step until it is let through."""

    def __init__(self, loaded: Loaded) -> None:
        self.inner, self.steps, self.reached = loaded.model, threading.Semaphore(0), threading.Semaphore(0)
        self.row_tokens = loaded.model.row_tokens

    def start(self, tokens: Any) -> Any:
        return self.inner.start(tokens)

    def step(self, state: Any, token: int) -> Any:
        self.reached.release()
        assert self.steps.acquire(timeout=60)
        return self.inner.step(state, token)


def gated(worker: Worker) -> Gate:
    gate = Gate(worker.loaded)
    worker.loaded = replace(worker.loaded, model=gate)  # type: ignore[arg-type]
    return gate


def test_a_full_queue_says_when_to_come_back_and_those_inside_are_answered(worker_of: Callable[..., Worker]):
    worker = worker_of(max_queue=1)
    gate = gated(worker)
    with TestClient(Application(worker, CFG)) as client:
        answers: list[Any] = []

        def ask() -> None:
            answers.append(complete(client, prompt="今天", seed=1, max_tokens=4))

        first, second = threading.Thread(target=ask), threading.Thread(target=ask)
        first.start()
        assert gate.reached.acquire(timeout=60)  # one is computed
        second.start()
        while not worker.waiting:  # one waits
            threading.Event().wait(0.01)
        refused = complete(client, prompt="The")
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.json()["error"]["code"] == "queue_full"
        for _ in range(100):
            gate.steps.release()
        first.join(60)
        second.join(60)
        assert [answer.status_code for answer in answers] == [200, 200]


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_away_ends_its_generation(
    worker_of: Callable[..., Worker], stream: bool, monkeypatch: pytest.MonkeyPatch
):
    """Spoken in ASGI, since a test client cannot hang up."""
    worker = worker_of()
    gate = gated(worker)
    ended: queue.Queue[Job] = queue.Queue()
    finish = worker._finish
    monkeypatch.setattr(worker, "_finish", lambda job: (finish(job), ended.put(job)))
    app = Application(worker, CFG)
    body = json.dumps({"prompt": "今天", "max_tokens": 2000, "seed": 1, "stream": stream}).encode()

    async def talk() -> None:
        sent = asyncio.Event()
        gone = asyncio.Event()

        async def receive() -> dict[str, Any]:
            if not sent.is_set():
                sent.set()
                return {"type": "http.request", "body": body, "more_body": False}
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(_: Any) -> None: ...

        scope = {
            "type": "http",
            "method": "POST",
            "path": "/v1/completions",
            "query_string": b"",
            "http_version": "1.1",
            "headers": [(b"content-type", b"application/json")],
            "asgi": {"version": "3.0", "spec_version": "2.3"},
        }
        async with app.router.lifespan_context(app):
            request = asyncio.create_task(app(scope, receive, send))
            await asyncio.to_thread(gate.reached.acquire)
            gone.set()
            await asyncio.wait_for(request, 60)
            # Enough for every piece that may be under way, and by far not for the whole text.
            for _ in range(50):
                gate.steps.release()
            assert (await asyncio.to_thread(ended.get, True, 60)).cancelled.is_set()

    asyncio.run(talk())
    # It did not take them all.
    assert gate.steps.acquire(blocking=False)


def test_a_request_that_takes_too_long_is_ended_and_makes_room(
    worker_of: Callable[..., Worker], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(worker_module, "WAIT_S", 0.0)
    worker = worker_of(max_seconds=0.2)
    gate = gated(worker)
    with TestClient(Application(worker, CFG)) as client:
        for stream in (False, True):
            answer = complete(client, prompt="今天", stream=stream)
            assert (answer.status_code, "not answered within" in answer.text) == (200 if stream else 503, True)
        gate.steps.release(100)
        monkeypatch.setattr(worker_module, "WAIT_S", 60)
        assert complete(client, prompt="The model").status_code == 200


def test_a_defect_is_answered_and_logged_without_the_text(
    worker_of: Callable[..., Worker], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def broken(_: Any, __: Any, prompt: str, *___: Any) -> Any:
        raise RuntimeError(f"cannot read {prompt}")

    worker = worker_of()
    monkeypatch.setattr(worker_module, "stream_text", broken)
    with TestClient(Application(worker, CFG)) as client:
        answer = complete(client, prompt="秘密 secret")
        assert (answer.status_code, answer.json()["error"]["type"]) == (500, "server_error")
        assert answer.headers["cache-control"] == "no-store"
        assert events(complete(client, prompt="秘密 secret", stream=True))[0]["error"]["code"] == "internal"
        assert client.get("/health").status_code == 200
    assert "RuntimeError" in caplog.text
    assert "秘密" not in caplog.text + answer.text
    assert "secret" not in caplog.text + answer.text
