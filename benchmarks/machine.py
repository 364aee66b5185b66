"""What a figure depends on: hardware, versions, commit."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

__all__ = ["ROOT", "conditions", "table"]

ROOT = Path(__file__).resolve().parent.parent


def _first(path: str, key: str) -> str:
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        if line.startswith(key):
            return line.partition(":")[2].strip()
    return "unknown"


def conditions(*packages: str) -> str:
    """Return a Markdown list of what the measurement was made on."""
    linux = Path("/proc/cpuinfo").exists()
    cpu = _first("/proc/cpuinfo", "model name") if linux else platform.processor()
    memory = int(_first("/proc/meminfo", "MemTotal").split()[0]) * 1024 / 1e9 if linux else 0
    commit = subprocess.run(
        ["git", "rev-parse", "--short=12", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    dirty = subprocess.run(
        ["git", "status", "--porcelain", "--", "slimpajama", "tasks", "flows", "benchmarks"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
    return "\n".join(
        [
            f"- hardware: {cpu}, {os.cpu_count()} cores, {memory:.0f} GB; a shared machine: ratios count",
            f"- software: Python {platform.python_version()}, {versions}",
            f"- commit: {commit.stdout.strip()}{' with uncommitted changes' if dirty.stdout.strip() else ''}",
        ]
    )


def table(rows: list[dict[str, object]]) -> str:
    """Return rows as a Markdown table; the first row's keys are the columns."""
    names = list(rows[0])
    lines = [f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"]
    return "\n".join(lines + [f"| {' | '.join(str(row[name]) for name in names)} |" for row in rows])
