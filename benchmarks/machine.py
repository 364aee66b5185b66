"""What a figure depends on (hardware, versions, commit), and how a process is measured."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs" / "benchmarks"
ONE_THREAD = dict.fromkeys(
    (
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
        "ARROW_NUM_THREADS",
        "POLARS_MAX_THREADS",
        "NUMBA_NUM_THREADS",
        "RAYON_NUM_THREADS",
        "DAFT_NUM_THREADS",
    ),
    "1",
)

# A process of its own waits for the measured one: it is small, and Linux counts the memory of the process that a
# program was started from as the program's own peak.
_WAITER = """
import json, os, sys, time
began = time.perf_counter()
pid = os.posix_spawn(sys.argv[2], sys.argv[2:], os.environ)
_, status, used = os.wait4(pid, 0)
report = [os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime, time.perf_counter() - began, used.ru_maxrss]
open(sys.argv[1], "w").write(json.dumps(report))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What one run of a command took, its children included."""

    cpu_s: float
    wall_s: float
    peak_mb: float
    """Largest resident memory of any of its processes, in 10^6 bytes; mapped files count."""
    output: str


def measure(
    command: Sequence[object], environment: Mapping[str, str] | None = None, cwd: Path = ROOT, threads: int = 1
) -> Measured:
    """Run a command to its end and return what it took.

    Raises:
        RuntimeError: It failed; the message ends with what it said.
    """
    limits = dict.fromkeys(ONE_THREAD, str(threads))
    reading, writing = os.pipe()
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _WAITER, f"/dev/fd/{writing}", *map(str, command)],
            env={**os.environ, **limits, **(environment or {})},
            cwd=cwd,
            pass_fds=(writing,),
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        os.close(writing)
        report = os.read(reading, 1000)
        os.close(reading)
    if done.returncode or (code := json.loads(report)[0]):
        raise RuntimeError(f"{' '.join(map(str, command))} failed ({done.returncode or code}):\n{done.stderr[-2000:]}")
    _, cpu_s, wall_s, peak = json.loads(report)
    unit = 1 if sys.platform == "darwin" else 1024
    return Measured(cpu_s=cpu_s, wall_s=wall_s, peak_mb=peak * unit / 1e6, output=done.stdout)


def median(runs: Sequence[Measured]) -> Measured:
    """Return the run of median processor time."""
    middle = statistics.median_low([run.cpu_s for run in runs])
    return next(run for run in runs if run.cpu_s == middle)


def settings(**values: object) -> list[str]:
    """Return options of the command line that set `section__key=value`."""
    return [part for name, value in values.items() for part in ("--set", f"{name.replace('__', '.')}={value}")]


def _first(path: str, key: str) -> str:
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        if line.startswith(key):
            return line.partition(":")[2].strip()
    return "unknown"


def commit() -> str:
    """Return the commit that is measured, and whether the code differs from it."""
    head = subprocess.run(
        ["git", "rev-parse", "--short=12", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    dirty = subprocess.run(
        ["git", "status", "--porcelain", "--", "slimpajama", "tasks", "flows", "benchmarks"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return head.stdout.strip() + (" with uncommitted changes" if dirty.stdout.strip() else "")


def conditions(*packages: str) -> str:
    """Return a Markdown list of what the measurement was made on."""
    linux = Path("/proc/cpuinfo").exists()
    cpu = _first("/proc/cpuinfo", "model name") if linux else platform.processor()
    memory = int(_first("/proc/meminfo", "MemTotal").split()[0]) * 1024 / 1e9 if linux else 0
    flags = _first("/proc/cpuinfo", "flags").split() if linux else []
    vectors = next((f", {flag}" for flag in ("amx_bf16", "avx512_bf16", "avx512f", "avx2") if flag in flags), "")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
    return "\n".join(
        [
            f"- hardware: {cpu}{vectors}, {os.cpu_count()} cores, {memory:.0f} GB; a shared machine: ratios count",
            f"- software: Python {platform.python_version()}, {versions}",
            f"- commit: {commit()}",
        ]
    )


def table(rows: Sequence[Mapping[str, object]]) -> str:
    """Return rows as a Markdown table; the first row's keys are the columns."""
    names = list(rows[0])
    lines = [f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"]
    return "\n".join(lines + [f"| {' | '.join(str(row[name]) for name in names)} |" for row in rows])
