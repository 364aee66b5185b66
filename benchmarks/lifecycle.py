"""Measure `make demo`: time and memory of each stage, the share of orchestration, and the model against the article's.

    python -m benchmarks.lifecycle [--keep FOLDER] [--turns 3]

Writes docs/benchmarks/lifecycle.md. The `article` preset is trained on the same shards for as many seconds as the
demo's model was, and both are scored on the same held-out documents. What Prefect costs is the difference between a
night by the command line and its stages one after the other in one process, in turns, both with short trainings.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.machine import ROOT, conditions, settings, table

OUT = ROOT / "docs" / "benchmarks" / "lifecycle.md"
SHORT = settings(train__max_seconds=15, tune__max_seconds=10)


def slimpajama(*arguments: object) -> tuple[dict[str, Any], float]:
    """Run one command; return the JSON object of its last line and the seconds that the whole process took."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "slimpajama", *map(str, arguments), "--json"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1]), time.perf_counter() - began


def stage_rows(timings: list[dict[str, Any]], total: float) -> list[dict[str, object]]:
    """Return a row a stage, and what is left."""
    rows: list[dict[str, object]] = []
    for timing in timings:
        amount = (
            f"{timing['done'] / 1e6:.1f} MB" if timing["unit"] == "B" else f"{timing['done']:,.0f} {timing['unit']}"
        )
        rows.append(
            {
                "step": timing["name"],
                "s": f"{timing['seconds']:.1f}",
                "share": f"{timing['seconds'] / total:.1%}",
                "done": amount,
                "peak MB so far": f"{timing['peak_mb']:.0f}",
            }
        )
    rest = total - sum(timing["seconds"] for timing in timings)
    rows.append(
        {"step": "no step", "s": f"{rest:.1f}", "share": f"{rest / total:.1%}", "done": "", "peak MB so far": ""}
    )
    rows.append({"step": "total", "s": f"{total:.1f}", "share": "100%", "done": "", "peak MB so far": ""})
    return rows


def orchestration(config: Path, turns: int) -> dict[str, list[float]]:
    """Return the seconds of short nights, by the command line and as bare stages, in turns."""
    found: dict[str, list[float]] = {"command line": [], "steps alone": []}
    for turn in range(turns):
        for name in sorted(found, reverse=bool(turn % 2)):
            workspace = config.parent / "short"
            options = ["--config", config] if name == "command line" else [config, "n1", "--cold", "--whole"]
            module = ["slimpajama", "run"] if name == "command line" else ["benchmarks.night"]
            command = [sys.executable, "-m", *module, *options, *SHORT, "--workspace", workspace]
            began = time.perf_counter()
            subprocess.run([str(part) for part in command], cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
            found[name].append(time.perf_counter() - began)
            shutil.rmtree(workspace)
    return found


def compare_article(folder: Path, seconds: float, ours: dict[str, float]) -> list[dict[str, object]]:
    """Train the article's model for `seconds` on a copy of the workspace; return a row a model.

    Args:
        folder: Of the demo.
        seconds: Training time of the demo's model.
        ours: Bits per byte of the demo's model by language.
    """
    copy = folder / "article"
    shutil.copytree(folder / "workspace", copy)
    common = ["--config", folder / "demo.toml", "--workspace", copy, "--set", "model.preset=article"]
    budget = [
        "--set",
        f"train.max_seconds={seconds:.1f}",
        "--set",
        "train.tokens=1000000000",
        "--set",
        "train.warm_start=false",
    ]
    trained, _ = slimpajama("train", *common, *budget)
    report, _ = slimpajama("evaluate", *common, "--model", trained["model"])
    shutil.rmtree(copy)
    theirs = {lang: figures["bits_per_byte"] for lang, figures in report["figures"]["languages"].items()}
    rows: list[dict[str, object]] = []
    for name, bits in (("demo (`small`)", ours), ("`article`", theirs)):
        rows.append({"model": name, "trained for": f"{seconds:.0f} s", **{lang: f"{bits[lang]:.3f}" for lang in ours}})
    return rows


def main() -> None:
    """Run the measurements and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", type=Path, help="work in this folder and keep it")
    parser.add_argument("--turns", type=int, default=3, help="of short nights with and without Prefect")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.keep or Path(temporary)
        built, build_s = slimpajama("demo-corpus", folder)
        night, total = slimpajama("run", "--config", folder / "demo.toml")
        train_s = next(timing["seconds"] for timing in night["timings"] if timing["name"] == "train")
        short = orchestration(folder / "demo.toml", args.turns)
        article = compare_article(folder, train_s, night["bits_per_byte"])
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(page(built, build_s, night, total, short, article), encoding="utf-8")
    print(OUT.read_text(encoding="utf-8"))


def page(
    built: dict[str, Any],
    build_s: float,
    night: dict[str, Any],
    total: float,
    short: dict[str, list[float]],
    article: list[dict[str, object]],
) -> str:
    """Return the whole page as Markdown."""
    median = {name: statistics.median(runs) for name, runs in short.items()}
    prefect = median["command line"] - median["steps alone"]
    return "\n".join(
        [
            "# The lifecycle, measured",
            "",
            "`python -m benchmarks.lifecycle` on the demo corpus: one night from raw files to a report.",
            "",
            conditions("prefect", "torch", "polars", "pyarrow", "numba", "jieba", "tokenizers"),
            f"- corpus: {sum(s['documents'] for s in built['sources']):,} raw documents, "
            f"{sum(s['text_mb'] for s in built['sources']):.1f} MB of text, built in {build_s:.1f} s",
            "",
            "## Steps",
            "",
            "*No step* is starting Python, imports, Prefect, and what steps do before and after their bars. Peak",
            "memory is the whole process's up to there.",
            "",
            table(stage_rows(night["timings"], total)),
            "",
            "## What Prefect costs",
            "",
            "The same night with short trainings, by the command line (a temporary server, flows, tasks, artifacts)",
            "and as its steps in one process, in turns, seconds:",
            "",
            table(
                [
                    {"": name, "runs": ", ".join(f"{s:.1f}" for s in runs), "median": f"{median[name]:.1f}"}
                    for name, runs in short.items()
                ]
            ),
            "",
            f"Prefect costs {prefect:.1f} s, {prefect / total:.1%} of the night above (mark: at most 5 %).",
            "",
            "## Against the article's model",
            "",
            "Bits per byte of held-out text, lower is better; same shards, same training time, same machine.",
            "",
            table(article),
            "",
        ]
    )


if __name__ == "__main__":
    main()
