"""Pages of other origins, in Chromium, against what listens on this machine: `make up`, the temporary server, `serve`.

A page asks to read records and to start work in every way that a browser knows: with and without a preflight, as a
form, a beacon, a WebSocket, with the browser's own credentials; from another port, from a sandbox without an origin,
and from a name that points at 127.0.0.1 (DNS rebinding). It knows the ids that it needs.
"""

from __future__ import annotations

import contextlib
import functools
import http.server
import json
import random
import subprocess
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.attacks import Row
from benchmarks.machine import ROOT

sys.path += [str(ROOT / "tests" / "e2e")]
from browser import FLAGS, chromium, playwright
from servers import free_ports, installation, started, until

# A name that the browser is told to look for on this machine.
REBOUND = "rebound.example"
PLANTED = "planted"
ORIGINS = ("another port", "a sandbox", "a rebound name")
READS = ("fetch", "json", "plain", "credentials", "guess", "socket")
STARTS = ("json", "plain", "untyped", "form", "beacon", "csrf", "no-cors")

# What the page does; it returns what it could read, or nothing.
SCRIPT = """
async ([way, base, path, body]) => {
  const url = base + path, wait = ms => new Promise(done => setTimeout(done, ms));
  const read = async answer => answer.ok ? await answer.text() : "";
  const send = (type, more) => fetch(url, {method: "POST", body, headers: {"Content-Type": type}, ...more}).then(read);
  try {
    if (way === "fetch") return await fetch(url).then(read);
    if (way === "json") return await send("application/json", {});
    if (way === "untyped") return await fetch(url, {method: "POST", body: new Blob([body])}).then(read);
    if (way === "plain") return await send("text/plain", {});
    if (way === "credentials") return await send("text/plain", {credentials: "include"});
    if (way === "guess") return await send("application/json", {headers: {"Content-Type": "application/json",
      "Authorization": "Basic " + btoa("admin:pass")}});
    if (way === "no-cors") {
      await fetch(url, {method: "POST", body: new Blob([body]), mode: "no-cors"}); return "";
    }
    if (way === "beacon") {
      navigator.sendBeacon(url, new Blob([body])); await wait(200); return "";
    }
    if (way === "csrf") {
      const token = await fetch(base + "/api/csrf-token?client=page").then(answer => answer.json());
      return await send("application/json", {headers: {"Content-Type": "application/json",
        "Prefect-Csrf-Token": token.token, "Prefect-Csrf-Client": "page"}});
    }
    if (way === "form") {
      const form = document.createElement("form"), frame = document.createElement("iframe");
      frame.name = "away"; document.body.append(frame);
      Object.assign(form, {method: "POST", enctype: "text/plain", action: url, target: "away"});
      const input = document.createElement("input");
      input.name = body.slice(0, -1) + ',"ignored":"'; input.value = '"}';
      form.append(input); document.body.append(form); form.submit(); await wait(200); return "";
    }
    if (way === "socket") return await new Promise(done => {
      const socket = new WebSocket(url.replace("http", "ws"), ["prefect"]);
      socket.onopen = () => socket.send(JSON.stringify({type: "auth", token: null}));
      socket.onmessage = event => event.data.includes("auth_success") ? done(event.data) : null;
      socket.onclose = socket.onerror = () => done(""); setTimeout(() => done(""), 1000);
    });
  } catch (error) { return ""; }
}
"""


class Target(NamedTuple):
    """A server, what a page asks of it, and how its owner sees what came of that."""

    name: str
    base: str
    reads: Sequence[tuple[str, dict[str, Any]]]
    """Paths and bodies whose answer is nobody's business."""
    starts: Sequence[tuple[str, dict[str, Any]]]
    """Paths and bodies that begin work."""
    begun: Callable[[], int]
    """How much work was begun by pages so far."""


@contextlib.contextmanager
def visitor() -> Iterator[Any]:
    """Yield a browser that finds `REBOUND` on this machine."""
    with playwright.sync_playwright() as driver:
        flags = [*FLAGS, f"--host-resolver-rules=MAP {REBOUND} 127.0.0.1"]
        browser = driver.chromium.launch(executable_path=chromium(), args=flags)
        try:
            yield browser.new_context()
        finally:
            browser.close()


@contextlib.contextmanager
def site() -> Iterator[str]:
    """Serve an empty page on a port of its own; yield its address."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "index.html").write_text("<!doctype html><iframe sandbox=allow-scripts srcdoc='<p>'></iframe>")
        handler = functools.partial(QuietHandler, directory=folder)
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            yield f"http://127.0.0.1:{server.server_port}/"
            server.shutdown()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    """A file server that logs nothing."""

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def visit(context: Any, target: Target, elsewhere: str, tries: Sequence[tuple[str, bool, str]]) -> list[str]:
    """Try what is listed, as origin, whether to start something, and the way; return what got through."""
    broken, begun = [], target.begun()
    rebound = target.base.replace("127.0.0.1", REBOUND)
    for origin in ORIGINS:
        base, place = (rebound, rebound) if origin == "a rebound name" else (target.base, elsewhere)
        page = context.new_page()
        page.goto(place)
        frame = page.frames[1] if origin == "a sandbox" else page
        for starts, way in [(starts, way) for one, starts, way in tries if one == origin]:
            for path, body in target.starts if starts else target.reads:
                # Where a name exists, nothing would be made anew.
                text = json.dumps(body).replace(PLANTED, f"{PLANTED} from {origin} by {way}")
                got = frame.evaluate(SCRIPT, [way, base, path, text])
                if got and not starts:
                    broken.append(f"{target.name}: {origin} read {path} by {way}: {got[:60]}")
            if starts and (now := target.begun()) > begun:
                broken.append(f"{target.name}: {origin} started {now - begun} by {way}")
                begun = now
        page.close()
    return broken


def every_try() -> list[tuple[str, bool, str]]:
    """Return all combinations of origin and way, reads and starts."""
    return [(o, starts, way) for o in ORIGINS for starts in (False, True) for way in (STARTS if starts else READS)]


def prefect_target(
    name: str, base: str, ask: Callable[[str, Any], Any], deployment: str = "", trace: str = ""
) -> Target:
    """Return a server of Prefect's as a target.

    Args:
        name: What it is called in a row.
        base: Its origin.
        ask: Sends a path below `/api` and a body as its owner, and returns the answer.
        deployment: Id of one of its deployments; empty where it has none.
        trace: File that a command of the page would make.
    """
    run = {"name": PLANTED, "job_variables": {"command": f"touch {trace}"}}
    starts: list[tuple[str, dict[str, Any]]] = [("/api/flows/", {"name": PLANTED})]
    if deployment:
        starts.append((f"/api/deployments/{deployment}/create_flow_run", run))
    reads: list[tuple[str, dict[str, Any]]] = [
        (f"/api/{kind}/filter", {}) for kind in ("deployments", "flow_runs", "logs")
    ]
    reads += [("/api/admin/version", {}), ("/api/csrf-token?client=page", {}), ("/api/events/out", {})]
    named = {"name": {"like_": PLANTED}}

    def begun() -> int:
        flows = len(ask("/flows/filter", {"flows": named}))
        runs = len(ask("/flow_runs/filter", {"flow_runs": named}))
        return flows + runs + Path(trace or "/nowhere").exists()

    return Target(name, base, reads, starts, begun)


@contextlib.contextmanager
def temporary(folder: Path) -> Iterator[Target]:
    """Yield the temporary server of a process that stands in the middle of a run."""
    program = """
import json, sys, time
from slimpajama.cli.lifecycle import flow_session
from slimpajama.core.config import Config
with flow_session(Config()) as ready:
    ready()
    import os
    print(json.dumps({name: os.environ[name] for name in ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING")}), flush=True)
    sys.stdin.read()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=folder, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        known = json.loads(process.stdout.readline())

        def ask(path: str, body: Any) -> Any:
            from prefect.client.orchestration import get_client
            from prefect.settings import temporary_settings

            settings = {"api.url": known["PREFECT_API_URL"], "api.auth_string": known["PREFECT_API_AUTH_STRING"]}
            with temporary_settings(settings), get_client(sync_client=True) as client:
                return client.request("POST", path, json=body).json()  # type: ignore[arg-type]

        yield prefect_target("temporary server", known["PREFECT_API_URL"].removesuffix("/api"), ask)
    finally:
        process.stdin.close()
        process.wait(60)


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[Target]:
    """Yield `slimpajama serve` over a tiny model."""
    from test_serve import publish

    from slimpajama.workspace.local import LocalStore
    from slimpajama.workspace.registry import Models

    store = LocalStore(str(folder / "served"))
    publish(store, "first", seed=1)
    Models(store).promote("first", "first")
    (port,) = free_ports(1)
    base = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "slimpajama", "serve", "--port", port, "--workspace", store.uri]
    with started(command, folder / "serve.log"):
        until(lambda: urllib.request.urlopen(f"{base}/health", timeout=5), 120, "serve")
        asked = ("/v1/completions", {"prompt": PLANTED, "max_tokens": 1})
        yield Target("serve", base, [("/v1/models", {}), asked], [], lambda: 0)


@contextlib.contextmanager
def lasting(folder: Path) -> Iterator[Target]:
    """Yield the server of `make up`."""
    config = folder / "up.toml"
    config.write_text('workspace = "up"\n[[ingest.sources]]\nname = "mine"\nuri = "raw/*.txt"\n', encoding="utf-8")
    root = folder / "root"
    root.mkdir()
    with installation(config, root) as up:
        named = {"deployments": {"name": {"any_": ["generate-text"]}}}
        (deployment,) = up.ask("/deployments/filter", named)
        yield prefect_target("make up", up.origin, up.ask, deployment["id"], str(folder / "trace"))


def attack(folder: Path, tries: int, seed: int) -> list[Row]:
    """Let pages try at most so many ways, drawn by the seed, on each of the three servers; 0 tries all."""
    chosen = every_try()
    random.Random(seed).shuffle(chosen)
    chosen = chosen[: tries or None]
    broken, count = [], 0
    with visitor() as context, site() as elsewhere:
        for target in (lasting, temporary, serving):
            with target(folder) as there:
                broken += visit(context, there, elsewhere, chosen)
                count += sum(len(there.starts if starts else there.reads) for _, starts, _ in chosen)
    return [
        Row(
            "pages of other origins against `make up`, the temporary server and `serve`: read or started", count, broken
        )
    ]
