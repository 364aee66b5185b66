"""Requests to `serve` that are wrong, abandoned, endless, or made while a model is damaged.

- by property: requests that its OpenAPI document allows, and ones that it forbids, are drawn by schemathesis;
- abandoned: a client closes, half-closes or resets its connection, behind it another request or not, while its own
  request runs or waits; then a small request of somebody else has to be answered within a second or so;
- long: texts of 200,000 characters that are one letter, combining marks or ideographic stops;
- another client that fills the queue; and a champion whose weights are not finite.

The server is the real one, with a model of random weights of the preset `small`.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import re
import socket
import struct
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import schemathesis
import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from safetensors.torch import load, save
from schemathesis.core.failures import Failure, FailureGroup
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from benchmarks.attacks import Row
from benchmarks.night import build
from slimpajama.apps.tune.inference import Tuned
from slimpajama.apps.tune.learn import model_files
from slimpajama.apps.tune.loading import fresh_model
from slimpajama.apps.tune.phrases import Dictionary
from slimpajama.core.config import IngestConfig, ModelConfig, SourceConfig, TextConfig, TokenizerConfig, load_config
from slimpajama.corpus.index import index_nights
from slimpajama.model.architectures import build as build_model
from slimpajama.model.loading import Loaded, weights_bytes
from slimpajama.text.tokenizer import Tokenizer, train_tokenizer
from slimpajama.workspace import layout
from slimpajama.workspace.catalogue import write_manifest
from slimpajama.workspace.local import LocalStore
from slimpajama.workspace.manifest import Manifest, entry_of, json_bytes
from slimpajama.workspace.open import open_workspace
from slimpajama.workspace.parquet import parquet_bytes
from slimpajama.workspace.registry import Models

SECONDS = 3.0
"""The bound that the server is started with."""
SLACK = 1.0
"""Seconds that an answer may take beyond its bound, and work after its client left."""
KINDS = ("answer", "summarize", "translate-en", "translate-zh")
TASKS = ("question-answering", "summarization", "translation")
SAMPLE = ["今天\x1f天气\x1f很\x1f好\x1f。", "The\x1f weather\x1f is\x1f fine."]
TEXT = "今天天气很好。The weather is fine today. " * 250
LONG = {
    "one letter": "a" * 200_000,
    "combining marks": "a" + "\u0301" * 199_999,
    "stops": "。" * 100_000 + "一。" * 50_000,
}
# A model of random weights soon comes to a text's end, but not to that of all of them.
MANY = {"prompt": ["今天"] * 16, "n": 4, "max_tokens": 128}
ASKED = ("completions", "summarize", "translate", "answer", "trace")
LEAVING = ("closes", "half-closes", "resets", "asks again and closes")


def publish(folder: Path, preset: str) -> LocalStore:
    """Publish a champion with random weights and a model that is tuned for every task; return the workspace."""
    store = LocalStore(str(folder))
    tokenizer = Tokenizer.load(train_tokenizer(SAMPLE, TokenizerConfig(vocab_size=300)))
    cfg = ModelConfig(preset=preset)
    model = build_model(cfg, tokenizer.vocab_size, seed=1)
    config = {"model": asdict(cfg), "text": asdict(TextConfig())}
    files = {
        "config.json": json_bytes(config),
        "tokenizer.json": tokenizer.json,
        "model.safetensors": weights_bytes(model.state_dict()),
    }
    _published(store, layout.model("first"), {layout.model("first").file(name): data for name, data in files.items()})
    Models(store).promote("first", "first")
    pair = fresh_model(config, tokenizer, KINDS, seed=1)
    tuned = Tuned(pair, tokenizer, Dictionary({}), {}, 512, 192)
    made = model_files(layout.tuned("tuned"), Loaded("first", model, tokenizer, config), tuned, {})
    _published(
        store,
        layout.tuned("tuned"),
        {path: data if isinstance(data, bytes) else parquet_bytes(data) for path, data in made.items()},
    )
    Models(store).tuned_pointer.write({"tasks": dict.fromkeys(TASKS, "tuned"), "history": []}, "")
    return store


def prepare_corpus(folder: Path, store: LocalStore) -> None:
    """Publish a night with its index, for `trace` to search; the models know nothing of it."""
    (folder / "some.txt").write_text("\n".join([TEXT, *SAMPLE, *LONG.values()]), encoding="utf-8")
    cfg = load_config(overrides=["clean.preset='none'", "tokenizer.vocab_size=300"])
    source = SourceConfig(name="some", uri=str(folder / "some.txt"))
    cfg = replace(cfg, workspace=store.uri, ingest=IngestConfig(sources=(source,)))
    build(cfg, "first")
    index_nights(open_workspace(store.uri), cfg)


def publish_broken(store: LocalStore, name: str) -> None:
    """Publish the first model once more, with a number in its weights that is none."""
    tensors = load(store.read(layout.model("first").file("model.safetensors")))
    next(iter(tensors.values())).view(-1)[0] = torch.nan
    files = {file: store.read(layout.model("first").file(file)) for file in ("config.json", "tokenizer.json")}
    files["model.safetensors"] = save(tensors)
    _published(store, layout.model(name), {layout.model(name).file(file): data for file, data in files.items()})


def _published(store: LocalStore, place: layout.Model, files: dict[str, bytes]) -> None:
    for path, data in files.items():
        store.write(path, data)
    entries = tuple(entry_of(path, data) for path, data in sorted(files.items()))
    name = place.path.rpartition("/")[2]
    write_manifest(store, place.manifest, Manifest("train", name, entries, {}, {"night": name, "nights": []}))


@dataclass
class Server:
    """A running server."""

    port: int
    log: Path
    slack: float = 0.0
    """`SLACK`, and more where the machine is so busy that a small request takes long."""

    def ask(self, path: str, body: Any = None, client: str = "127.0.0.1") -> tuple[int, Any]:
        """Return status and JSON of an answer; by default to GET."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120, source_address=(client, 0))
        with contextlib.closing(connection):
            headers = {"Content-Type": "application/json"}
            connection.request("GET" if body is None else "POST", path, body and json.dumps(body), headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())

    def send(self, path: str, body: Any, client: str = "127.0.0.1") -> socket.socket:
        """Return the connection to which a request was written."""
        data = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        head += f"Content-Length: {len(data)}\r\n\r\n"
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=120, source_address=(client, 0))
        connection.sendall(head.encode() + data)
        return connection

    def wait_for(self, waiting: int) -> None:
        """Return when so many requests wait in the queue."""
        end = time.monotonic() + 60
        while time.monotonic() < end:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=60) as answer:
                found = re.search(rb"^slimpajama_serve_requests_waiting ([0-9.]+)", answer.read(), re.MULTILINE)
            if found and float(found[1]) >= waiting:
                return
            time.sleep(0.05)
        raise AssertionError(f"{waiting} requests never waited")

    def small(self) -> float:
        """Return after how many seconds a small request is answered."""
        begun = time.monotonic()
        status, _ = self.ask("/v1/completions", {"prompt": "今天", "max_tokens": 1})
        assert status == 200, status
        return time.monotonic() - begun


@contextlib.contextmanager
def serving(store: LocalStore, log: Path, seconds: float = SECONDS) -> Iterator[Server]:
    """Start the server on a free port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = ["--port", str(port), "--workspace", store.uri, "--max-seconds", str(seconds)]
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "slimpajama", "serve", *options],
            stdout=file,
            stderr=file,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
    server = Server(port, log)
    try:
        end = time.monotonic() + 300
        while True:
            try:
                server.small()
                # Compiles the kernels and loads the tuned model.
                server.ask("/v1/translate", {"text": "warm", "to": "zh"})
                server.slack = SLACK + 10 * sorted(server.small() for _ in range(5))[2]
                break
            except OSError:
                if time.monotonic() > end or process.poll() is not None:
                    raise RuntimeError(log.read_text(encoding="utf-8")) from None
                time.sleep(0.3)
        yield server
    finally:
        process.terminate()
        process.wait(60)


def by_property(server: Server, tries: int, number: int) -> Row:
    """Send drawn requests; each has an answer that the document describes, none a 5xx, all within the bound."""
    schema = schemathesis.openapi.from_url(f"http://127.0.0.1:{server.port}/openapi.json")
    operations = [found.ok() for found in schema.get_all_operations()]
    posts = [one for one in operations if one.method == "post"]
    drawn = [(one, mode) for one in posts for mode in GenerationMode] + [
        (one, GenerationMode.POSITIVE) for one in operations if one not in posts
    ]
    # What has no body has nothing to draw.
    budget = {one.label: 5 for one in operations if one not in posts}
    each = max(1, -(-(tries - sum(budget.values())) // (2 * len(posts))))
    broken: list[str] = []
    longest, sent = 0.0, 0

    def check(case: schemathesis.Case) -> None:
        nonlocal longest, sent
        begun = time.monotonic()
        sent += 1
        try:
            response = case.call(timeout=120)
            longest = max(longest, time.monotonic() - begun)
            if time.monotonic() - begun > SECONDS + server.slack:
                broken.append(f"{case.operation.label}: held {time.monotonic() - begun:.1f} s: {str(case.body)[:300]}")
            # A schema cannot say which texts have a letter, nor what a model was tuned for.
            case.validate_response(response, excluded_checks=[positive_data_acceptance])
        except (Failure, FailureGroup) as error:
            found = error.exceptions if isinstance(error, FailureGroup) else [error]
            broken.extend(f"{case.operation.label}: {one!r}: {str(case.body)[:300]}" for one in found)
        except OSError as error:
            broken.append(f"{case.operation.label}: hung or closed, {type(error).__name__}: {str(case.body)[:300]}")

    for operation, mode in drawn:
        quiet = settings(
            max_examples=budget.get(operation.label, each),
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=[*HealthCheck],
        )
        seed(number)(quiet(given(operation.as_strategy(generation_mode=mode))(check)))()
    return Row(
        "requests by property over OpenAPI: 5xx, hung, held, other than described", sent, broken, f"{longest:.1f} s"
    )


def leave(connection: socket.socket, how: str, again: bytes) -> None:
    """Go away from a connection."""
    if how == "half-closes":
        connection.shutdown(socket.SHUT_WR)
        return
    if how == "asks again and closes":
        connection.sendall(again)
    if how == "resets":
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def abandoned(server: Server) -> Row:
    """Leave requests in every way, four at once: one runs, the others wait."""
    bodies: dict[str, tuple[str, Any]] = {
        "completion": ("/v1/completions", MANY),
        "stream": ("/v1/completions", MANY | {"stream": True}),
        "held back": ("/v1/completions", MANY | {"stop": ["天" * size for size in range(985, 1001)]}),
        "summarize": ("/v1/summarize", {"text": TEXT}),
        "translate": ("/v1/translate", {"text": TEXT, "to": "zh"}),
        "answer": ("/v1/answer", {"question": "weather 天气?", "context": TEXT}),
    }
    again = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n"
    broken, longest, tries = [], 0.0, 0
    for (name, (path, body)), how in itertools.product(bodies.items(), LEAVING):
        connections = [server.send(path, body) for _ in range(4)]
        server.wait_for(3)
        for connection in connections:
            leave(connection, how, again)
        took = server.small()
        tries += len(connections)
        longest = max(longest, took)
        if took > server.slack:
            broken.append(f"{name}, client {how}: others waited {took:.1f} s")
        for connection in connections:
            connection.close()
    return Row("abandoned requests (running, waiting): work that went on", tries, broken, f"{longest:.1f} s")


def endless(server: Server) -> Row:
    """Send texts that are long, and not made of words."""
    broken, longest, tries = [], 0.0, 0
    for (name, text), path in itertools.product(
        LONG.items(), ("completions", "summarize", "translate", "answer", "trace")
    ):
        asked = {
            "completions": {"prompt": text * 5},
            "summarize": {"text": text},
            "translate": {"text": text, "to": "en" if "一" in text else "zh"},
            "answer": {"question": text[:2000], "context": text},
            "trace": {"text": text[:20_000]},
        }
        begun = time.monotonic()
        status, answer = server.ask(f"/v1/{path}", asked[path])
        took = time.monotonic() - begun
        tries, longest = tries + 1, max(longest, took)
        if status >= 500 or took > SECONDS + server.slack:
            broken.append(f"{path}, {name}: {status} after {took:.1f} s")
        if status == 200 and answer["limits"]["seconds"] != SECONDS:
            broken.append(f"{path}, {name}: the answer states no bound")
    for name, heavy in {"fields": {f"k{n}": 1 for n in range(250_000)}, "stops": {"stop": [1] * 1_000_000}}.items():
        begun = time.monotonic()
        status, _ = server.ask("/v1/completions", heavy)
        took = time.monotonic() - begun
        tries += 1
        if status != 400 or took > SECONDS + server.slack:
            broken.append(f"a body of many wrong {name}: {status} after {took:.1f} s")
    return Row(
        "texts of 200,000 to 1,000,000 characters: held longer than the bound", tries, broken, f"{longest:.1f} s"
    )


def crowded(server: Server) -> Row:
    """Fill the queue from one address; somebody at another one is answered in turn."""
    hogs = [server.send("/v1/summarize", {"text": TEXT}, client="127.0.0.2") for _ in range(24)]
    server.wait_for(16)
    took = server.small()
    for connection in hogs:
        connection.close()
    wrong = [f"waited {took:.1f} s behind another client's queue"] if took > SECONDS + server.slack else []
    return Row("a queue filled by one client: another one's wait", 1, wrong, f"{took:.1f} s")


def damaged(store: LocalStore, server: Server) -> Row:
    """Make a champion of a model whose weights are not finite, and go back."""
    publish_broken(store, "broken")
    models, broken = Models(store), []
    models.promote("broken", "attack")
    steps: dict[str, Callable[[], object]] = {"promoted": lambda: None, "rolled back": models.rollback}
    for name, step in steps.items():
        step()
        # Longer than the server looks away.
        time.sleep(7)
        server.small()
        if server.ask("/health")[0] != 200 or server.ask("/v1/models")[1]["data"][-1]["id"] != "first":
            broken.append(f"a champion with NaN, {name}: not served by the one before it")
    return Row("a champion whose weights are not finite: requests that hung or failed", len(steps), broken)


def attack(folder: Path, tries: int, seed: int) -> list[Row]:
    """Try it all on one server; `tries` requests by property."""
    store = publish(folder / "workspace", "small")
    prepare_corpus(folder, store)
    with serving(store, folder / "log") as server:
        return [
            by_property(server, tries, seed),
            abandoned(server),
            endless(server),
            crowded(server),
            damaged(store, server),
        ]
