"""Ctrl-C, SIGTERM, SIGHUP and SIGKILL in each step of a night: how long it takes to end, and what is left of it.

The signal comes from the run itself when it writes a file of the step, or at a moment drawn by the seed; Ctrl-C and a
closed terminal reach all processes of the group, as a terminal's do. Three first nights at once, with a new home of
Prefect, are tried besides.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.attacks import Row
from benchmarks.machine import ROOT
from slimpajama.core.stopping import INTERRUPTED, STOPPED

sys.path += [str(ROOT / "tests" / "e2e")]
from small_corpus import arguments, write_corpus

# Steps, by a part of a path that they write.
STEPS = {
    "ingest": "work/ingest/",
    "clean": "work/clean/",
    "compare": "work/compare/",
    "decontaminate": "work/decontaminate/",
    "dedup": "documents/",
    "segment": "work/segment/",
    "tokenizer": "work/tokenizer/",
    "shards": "shards/train/",
    "publish": "nights/index.json",
    "train": "model.safetensors",
    "evaluate": "scores.parquet",
    "gate": "gate/",
    "generate": "samples.json",
    "report": "report.html",
}
SIGNALS = {"INT": signal.SIGINT, "TERM": signal.SIGTERM, "HUP": signal.SIGHUP, "KILL": signal.SIGKILL}
# Seconds from Ctrl-C to the prompt; from any other end to that of the last process.
PROMPT_S, GONE_S = 5.0, 3.0

# It sends the signal at the first change of a file whose path has `step` in it.
PROGRAM = """
import os, sys, threading, time
sys.path.insert(0, sys.argv[1])
from dying import arm
step, number, group, mark = sys.argv[2], int(sys.argv[3]), sys.argv[4] == "group", sys.argv[5]
def struck():
    with open(mark, "w") as file:
        file.write(f"{time.time()} {os.fstat(2).st_size}")
    (os.killpg if group else os.kill)(os.getpid(), number)
    time.sleep(0.2)
arm("before", 1, step, struck)
sys.argv[1:] = sys.argv[6:]
from slimpajama.__main__ import main
main()
"""


class Try(NamedTuple):
    """One night and the signal that it gets."""

    signal: str
    step: str
    """Its name; empty for a moment that `after` gives."""
    after: float = 0.0
    """Seconds after the start, or after `text`."""
    text: str = ""
    """What the night has said by then."""


class End(NamedTuple):
    """What came of a try."""

    code: int
    seconds: float
    """From the signal to the end of the process; 0 where it ended before."""
    said: str
    """What it wrote to stderr from then on."""
    left: list[str]
    """Command lines of processes that did not end with it."""


def others(home: Path) -> list[str]:
    """Return the command lines of the processes that use this home of Prefect."""
    found = []
    for process in filter(str.isdigit, os.listdir("/proc")):
        try:
            if str(home).encode() in Path(f"/proc/{process}/environ").read_bytes():
                found.append(Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode()[:120])
        except OSError:  # not ours, or gone
            continue
    return found


def one(folder: Path, corpus: Path, planned: Try, workspace: str = "", more: Mapping[str, str] | None = None) -> End:
    """Begin a night below `folder` and give it the signal."""
    home, mark = folder / "home", folder / "mark"
    number = SIGNALS[planned.signal]
    group = planned.signal in ("INT", "HUP")
    environment = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
    environment |= {"PREFECT_HOME": str(home), "OMP_NUM_THREADS": "1"} | dict(more or {})
    night = [str(part) for part in arguments(corpus, workspace or folder / "w")]
    struck = [
        str(ROOT / "tests" / "e2e"),
        STEPS.get(planned.step, "never/"),
        str(int(number)),
        "group" if group else "",
    ]
    command = [sys.executable, "-c", PROGRAM, *struck, str(mark), *night]
    if not planned.step:
        command = [sys.executable, "-m", "slimpajama", *night]
    with (folder / "said").open("wb") as said:
        process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=said,
            start_new_session=True,
            cwd=folder,
        )
        if not planned.step:
            while planned.text not in (folder / "said").read_text() and process.poll() is None:
                time.sleep(0.1)
            time.sleep(planned.after)
            mark.write_text(f"{time.time()} {os.fstat(said.fileno()).st_size}")
            (os.killpg if group else os.kill)(process.pid, number)
        try:
            code = process.wait(300)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            code = process.wait()
    ended = time.time()
    when, size = mark.read_text().split() if mark.exists() else (ended, 0)
    until = time.monotonic() + (0.2 if planned.signal == "INT" else GONE_S)
    while (left := others(home)) and time.monotonic() < until:
        time.sleep(0.1)
    return End(code, ended - float(when), (folder / "said").read_bytes()[int(size) :].decode(errors="replace"), left)


def broken_by(planned: Try, end: End) -> list[str]:
    """Return what a try's end has against it."""
    name = f"{planned.signal} in {planned.step or f'{planned.after:.1f} s'}"
    problems = [f"{name}: left {command}" for command in end.left]
    if planned.signal != "INT" or end.code == 0:
        return problems
    if end.code != INTERRUPTED:
        problems.append(f"{name}: exit {end.code}")
    if end.seconds > PROMPT_S:
        problems.append(f"{name}: {end.seconds:.1f} s to the prompt")
    lines = end.said.strip().splitlines()
    # A thread may end its step's line meanwhile.
    if len(lines) > 3 or not lines or STOPPED not in lines[-1]:
        problems.append(f"{name}: {len(lines)} lines: {end.said[-300:]}")
    return problems


def at_once(folder: Path, corpus: Path, count: int = 3) -> list[str]:
    """Start first nights in workspaces of their own with one new home of Prefect; return what went wrong."""
    environment = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
    environment |= {"PREFECT_HOME": str(folder / "new home"), "OMP_NUM_THREADS": "1"}
    nights: list[Any] = []
    for number in range(count):
        command = [sys.executable, "-m", "slimpajama", *map(str, arguments(corpus, folder / f"w{number}"))]
        file = (folder / f"said{number}").open("wb")
        nights.append(subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=file))
    codes = [night.wait(900) for night in nights]
    return [
        f"night {number} of {count} at once: exit {code}: {(folder / f'said{number}').read_text()[-400:]}"
        for number, code in enumerate(codes)
        if code
    ]


def attack(folder: Path, tries: int, seed: int) -> list[Row]:
    """Send so many signals: each kind in each step, then at moments drawn by the seed; 0 sends 80."""
    tries = tries or 80
    draw = random.Random(seed)
    corpus = write_corpus(folder / "corpus")
    planned = [Try(kind, step) for kind in SIGNALS for step in STEPS]
    draw.shuffle(planned)
    planned += [Try(draw.choice([*SIGNALS]), "", draw.uniform(0.2, 25)) for _ in range(tries - len(planned))]
    broken, slowest = [], 0.0
    for number, one_try in enumerate(planned[:tries]):
        place = folder / f"try{number}"
        place.mkdir()
        end = one(place, corpus, one_try)
        broken += broken_by(one_try, end)
        if one_try.signal == "INT":
            slowest = max(slowest, end.seconds)
    rows = [Row("signals in each step: left processes, other ends", tries, broken, f"{slowest:.1f} s to the prompt")]
    rounds = max(1, tries // 20)
    failed: list[str] = []
    for number in range(rounds):
        place = folder / f"round{number}"
        place.mkdir()
        failed += at_once(place, corpus)
    return [*rows, Row("three first nights at once, with a new home of Prefect: failed", 3 * rounds, failed)]
