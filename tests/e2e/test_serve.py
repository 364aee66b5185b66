"""The real server: started by its command on a free port, spoken to over HTTP, stopped by its pid."""

import http.client
import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict

import pytest
from safetensors.torch import save
from servers import free_ports, started, until

from benchmarks.attacks import requests
from slimpajama.core.config import ModelConfig, TextConfig, TokenizerConfig
from slimpajama.model.architectures import build
from slimpajama.text.tokenizer import Tokenizer, train_tokenizer
from slimpajama.workspace.local import LocalStore
from slimpajama.workspace.manifest import FileEntry, Manifest, json_bytes
from slimpajama.workspace.registry import Models
from slimpajama.workspace.store import sha256

TOKEN = "a-token-for-this-test"


def publish(store, name, seed):
    """Publish a tiny model with random weights."""
    tokenizer = train_tokenizer(
        ["今天\x1f天气\x1f很\x1f好\x1f。", "The\x1f weather\x1f is\x1f fine."], TokenizerConfig(vocab_size=300)
    )
    cfg = ModelConfig(preset="tiny")
    files = {
        "config.json": json_bytes({"model": asdict(cfg), "text": asdict(TextConfig())}),
        "tokenizer.json": tokenizer,
        "model.safetensors": save(build(cfg, Tokenizer.load(tokenizer).vocab_size, seed).state_dict()),
    }
    entries = []
    for file, data in files.items():
        path = f"models/{name}/{file}"
        store.write(path, data)
        entries.append(FileEntry(path, sha256(data), len(data)))
    store.write(
        f"models/{name}/manifest.json", json_bytes(Manifest("train", name, tuple(entries), {}, {"night": name}))
    )


@pytest.fixture
def workspace(tmp_path):
    store = LocalStore(str(tmp_path / "workspace"))
    publish(store, "first", seed=1)
    Models(store).promote("first", "first")
    return store


@pytest.fixture
def server(workspace, tmp_path):
    (tmp_path / "token").write_text(TOKEN)
    (port,) = free_ports(1)
    command = [
        sys.executable,
        "-m",
        "slimpajama",
        "serve",
        "--port",
        port,
        "--workspace",
        workspace.uri,
        "--token-file",
        tmp_path / "token",
    ]
    with started(command, tmp_path / "log", os.environ | {"OMP_NUM_THREADS": "1"}) as process:
        until(lambda: ask(port, "GET", "/health").read(), 300, "the server")
        yield process, port, tmp_path / "log"


def ask(port, method, path, body=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}"}
    connection.request(method, path, json.dumps(body) if body else None, headers)
    return connection.getresponse()


def complete(port, **body):
    answer = ask(port, "POST", "/v1/completions", body)
    assert answer.status == 200
    return json.loads(answer.read())


def test_the_server_answers_follows_the_champion_and_finishes_what_runs_before_it_ends(server, workspace):
    process, port, log = server
    asked = {"prompt": "今天", "max_tokens": 20, "seed": 1}
    first = complete(port, **asked)
    assert first["model"] == "first"
    stream = ask(port, "POST", "/v1/completions", asked | {"stream": True}).read().decode()
    chunks = [json.loads(line[6:]) for line in stream.split("\n\n") if line.startswith("data: {")]
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == first["choices"][0]["text"]
    assert stream.endswith("data: [DONE]\n\n")

    publish(workspace, "second", seed=2)
    Models(workspace).promote("second", "better")
    until(lambda: {"second": 1}[complete(port, **asked)["model"]], 120, "the new champion")

    running = ask(
        port, "POST", "/v1/completions", {"prompt": "秘密 secret", "max_tokens": 60, "seed": 3, "stream": True}
    )
    begun = running.read(10)
    process.send_signal(signal.SIGTERM)
    rest = running.read().decode()
    assert begun
    assert rest.endswith("data: [DONE]\n\n")
    assert process.wait(60) == 0
    said = log.read_text()
    assert "now serving second" in said
    for secret in (TOKEN, "秘密", "secret", "Traceback"):
        assert secret not in said


def test_a_host_that_others_reach_needs_a_token(workspace):
    done = subprocess.run(
        [sys.executable, "-m", "slimpajama", "serve", "--host", "0.0.0.0", "--port", "0", "--workspace", workspace.uri],
        env={key: value for key, value in os.environ.items() if key != "SLIMPAJAMA_TOKEN"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 2
    assert "without-token" in done.stderr


def test_requests_by_property_and_abandoned_and_endless_ones_are_all_ended_or_answered(tmp_path, monkeypatch):
    # Less than four requests that go on would hold others, and more than a machine that runs other tests is late.
    monkeypatch.setattr(requests, "SLACK", 5.0)
    rows = requests.attack(tmp_path, 60, 20261201)
    assert sum(row.tries for row in rows) > 150
    assert [wrong for row in rows for wrong in row.broken] == []
