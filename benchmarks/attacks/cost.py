"""What the checks of bytes cost: a night of about 20 MB and a second one, `explain`, and the start of `serve`.

Each command runs in a process whose checking functions are timed by their thread's clock, so that the figure does not
depend on how two runs of one command differ.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

from benchmarks.attacks import Row
from benchmarks.machine import ROOT
from slimpajama.workspace.open import open_workspace
from slimpajama.workspace.parquet import read_table

sys.path += [str(ROOT / "tests" / "e2e")]
from servers import free_ports
from small_corpus import write_story, write_story_night

# Documents a language: 9 MB of text each, once the copies are gone.
DOCUMENTS = 10_000
NIGHT_SHARE, EXPLAIN_MS, SERVE_S = 0.02, 50, 1.0

# It writes the seconds in checks and those of the process to a file, since a server ends without a word.
PROGRAM = """
import functools, importlib, json, os, sys, threading, time
place, *sys.argv[1:] = sys.argv[1:]
spent = []
def timed(function):
    @functools.wraps(function)
    def wrapper(*args, **more):
        began = time.thread_time()
        try:
            return function(*args, **more)
        finally:
            spent.append(time.thread_time() - began)
    return wrapper
CHECKS = {
    "slimpajama.workspace.manifest": ["blocks_crc32"],
    "slimpajama.workspace.store": ["sealed"],
    "slimpajama.workspace.parquet": ["sha256", "_checksums"],
    "slimpajama.model.loading": ["sha256", "require_finite"],
}
for module, names in CHECKS.items():
    module = importlib.import_module(module)
    for name in names:
        setattr(module, name, timed(getattr(module, name)))
def note():
    with open(place + ".new", "w") as file:
        json.dump([sum(spent), time.process_time()], file)
    os.replace(place + ".new", place)
def notes():
    while not ended.wait(0.1):
        note()
ended = threading.Event()
writer = threading.Thread(target=notes, daemon=True)
writer.start()
from slimpajama.__main__ import main
try:
    main()
finally:
    ended.set()
    writer.join()
    note()
"""


def command(place: Path, *arguments: str | Path) -> subprocess.Popen[bytes]:
    """Start a command whose checks are timed into a file."""
    environment = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
    environment |= {"PREFECT_HOME": str(place.parent / "home")}
    line = [sys.executable, "-c", PROGRAM, str(place), *map(str, arguments)]
    return subprocess.Popen(line, env=environment, cwd=place.parent, stdout=subprocess.DEVNULL)


def timed(place: Path, *arguments: str | Path) -> tuple[float, float]:
    """Run a command to its end; return the seconds in its checks, and its processor seconds in all."""
    if code := command(place, *arguments).wait():
        raise RuntimeError(f"{arguments[0]} ended with {code}")
    checks, whole = json.loads(place.read_text())
    return checks, whole


def served(place: Path, workspace: Path) -> float:
    """Return the seconds that a server has checked when it is ready."""
    (port,) = free_ports(1)
    process = command(place, "serve", "--workspace", workspace, "--port", str(port))
    try:
        for _ in range(600):
            try:
                with urlopen(f"http://127.0.0.1:{port}/health") as answer:
                    if answer.status == 200:
                        break
            except OSError:
                time.sleep(0.1)
        time.sleep(0.5)
        return float(json.loads(place.read_text())[0])
    finally:
        process.terminate()
        process.wait()


def attack(folder: Path, tries: int, seed: int) -> list[Row]:
    """Measure two nights, an `explain` and a start of `serve`."""
    config, workspace = write_story(folder), folder / "workspace"
    shares = []
    for number in range(2):
        write_story_night(folder, number, DOCUMENTS)
        checks, whole = timed(folder / "night", "run", "--config", config, "--night", f"n{number}")
        shares.append(checks / whole)
    space = open_workspace(str(workspace))
    document = space.nights.load("n1").entries("nights/n1/documents/")[0]
    one = read_table(space.store, document, ["id"])["id"][0].as_py()
    explained, _ = timed(folder / "explain", "explain", one, "--workspace", workspace)
    started = served(folder / "serve", workspace)
    found = [
        ("the checks' share of a night", max(shares) <= NIGHT_SHARE, ", ".join(f"{share:.1%}" for share in shares)),
        ("the checks in `explain`", 1000 * explained <= EXPLAIN_MS, f"{1000 * explained:.1f} ms"),
        ("the checks at the start of `serve`", started <= SERVE_S, f"{started:.2f} s"),
    ]
    return [Row(f"cost: {name}", 1, [] if good else [f"{name}: {text}"], text) for name, good, text in found]
