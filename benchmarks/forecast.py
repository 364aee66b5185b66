"""Measure what `prepare --dry-run` forecasts against what `prepare` then does.

    python -m benchmarks.forecast FILE.jsonl.zst... --formats FILE.jsonl.zst... [--other CONFIG.toml]

Corpora, each with one worker: the demo's, the files as they are, other files rewritten in several formats, and any.
Each turn runs the dry run, the real night into a new workspace, and the same again, which finds nothing new: its time
is what Prefect and imports take, and is taken off. Writes docs/benchmarks/forecast.md.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import html
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from benchmarks.machine import ROOT, conditions, table

OUT = ROOT / "docs" / "benchmarks" / "forecast.md"
Figures = dict[str, float]


def slimpajama(*arguments: object, workspace: Path) -> tuple[dict[str, Any], Figures]:
    """Run one command; return the JSON object of its last line and what it took.

    The largest size of the workspace is looked up ten times a second: the work folder is gone at the end.
    """
    command = [sys.executable, "-m", "slimpajama", *map(str, arguments), "--workspace", str(workspace), "--json"]
    began, largest, ended = time.perf_counter(), 0, threading.Event()

    def watch() -> None:
        nonlocal largest
        while not ended.wait(0.1):
            largest = max(largest, size_of(workspace))

    watcher = threading.Thread(target=watch)
    watcher.start()
    with tempfile.TemporaryFile() as out:
        pid = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=subprocess.DEVNULL).pid
        _, status, usage = os.wait4(pid, 0)
        took = time.perf_counter() - began
        ended.set()
        watcher.join()
        out.seek(0)
        lines = out.read().splitlines()
    if status:
        raise SystemExit(f"{' '.join(command)}: exit {status}")
    figures = {"time": took, "processor time": usage.ru_utime + usage.ru_stime, "memory": usage.ru_maxrss * 1024.0}
    return json.loads(lines[-1]), figures | {"disk while it runs": float(largest)}


def size_of(folder: Path) -> int:
    """Return the bytes of all files below a folder that changes."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += Path(parent, name).stat().st_size
            except FileNotFoundError:
                continue
    return total


def dry_run(config: Path, folder: Path) -> tuple[Figures, float, float]:
    """Return what the dry run says, how long it took, and how much text it read."""
    value, took = slimpajama("prepare", "--dry-run", "--config", config, *ONE, workspace=folder / "none")
    if (folder / "none").exists():
        raise SystemExit("the dry run made a workspace")
    total = value["total"]
    figures = {
        "documents": total["documents"],
        "text": total["text_bytes"],
        "after cleaning": total["cleaned"],
        "kept": total["kept"],
        "kept text": total["kept_bytes"],
        "tokens": value["tokens"],
        "time": value["seconds"],
        "processor time": value["cpu_seconds"],
        "disk": value["disk_bytes"],
        "disk while it runs": value["peak_disk_bytes"],
        "memory": value["memory_bytes"],
    }
    return figures, took["processor time"], value["sampled_bytes"]


def done(config: Path, workspace: Path) -> Figures:
    """Return what a real night came to."""
    value, took = slimpajama("prepare", "--config", config, *ONE, workspace=workspace)
    disk = size_of(workspace)
    _, nothing = slimpajama("prepare", "--config", config, *ONE, workspace=workspace)
    counts = value["counts"]
    figures = {
        "documents": added(counts["ingest"]["documents"]),
        "text": added(counts["ingest"]["bytes"]),
        "after cleaning": added(counts["clean"]["documents"]),
        "kept": added(counts["dedup"]["kept"]),
        "kept text": added(counts["dedup"]["kept_bytes"]),
        "tokens": added(counts["shards"]["tokens"]),
        "disk": float(disk),
    }
    return took | figures | {name: took[name] - nothing[name] for name in ("time", "processor time")}


ONE = ("--set", "run.workers=1")


def added(counts: Any) -> float:
    """Return the sum of nested counts."""
    return sum(map(added, counts.values())) if isinstance(counts, dict) else float(counts)


def plain_corpus(files: list[Path], folder: Path) -> Path:
    """Return a configuration that reads the files as they are."""
    return write_config(folder, {file.name.partition(".")[0]: str(file.resolve()) for file in files})


def formats_corpus(files: list[Path], folder: Path) -> Path:
    """Write each file's texts in a format of its own; return the configuration that reads them."""
    writers = (write_csv, write_parquet, write_pages, write_lines, write_text)
    sources = {}
    for number, file in enumerate(files):
        name = file.name.partition(".")[0]
        (folder / name).mkdir(parents=True)
        writers[number % len(writers)](folder / name, list(texts(file)))
        sources[name] = f"{name}/*"
    return write_config(folder, sources)


def texts(file: Path) -> Iterator[str]:
    """Yield the texts of a file of JSON lines."""
    with file.open("rb") as raw, zstandard.ZstdDecompressor().stream_reader(raw) as plain:
        for line in io.TextIOWrapper(plain, "utf-8"):
            yield json.loads(line)["text"]


def write_csv(folder: Path, found: list[str]) -> None:
    """Write one CSV file, packed."""
    with gzip.open(folder / "all.csv.gz", "wt", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["number", "text"])
        rows.writerows(enumerate(found))


def write_parquet(folder: Path, found: list[str]) -> None:
    """Write three Parquet files."""
    for number in range(3):
        pq.write_table(pa.table({"text": found[number::3]}), folder / f"{number}.parquet", compression="zstd")


def write_pages(folder: Path, found: list[str]) -> None:
    """Write one HTML page a text."""
    for number, text in enumerate(found):
        body = "".join(f"<p>{html.escape(line)}</p>\n" for line in text.splitlines())
        (folder / f"{number:05d}.html").write_text(f"<html><body>{body}</body></html>", encoding="utf-8")


def write_lines(folder: Path, found: list[str]) -> None:
    """Write ten files of JSON lines."""
    for number in range(10):
        rows = (json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in found[number::10])
        (folder / f"{number}.jsonl").write_text("".join(rows), encoding="utf-8")


def write_text(folder: Path, found: list[str]) -> None:
    """Write one text file a text."""
    for number, text in enumerate(found):
        (folder / f"{number:05d}.txt").write_text(text, encoding="utf-8")


def write_config(folder: Path, sources: dict[str, str]) -> Path:
    """Write a configuration that reads sources by their patterns."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"[[ingest.sources]]\nname = {json.dumps(k)}\nuri = {json.dumps(v)}\n" for k, v in sources.items()]
    (folder / "corpus.toml").write_text("\n".join(lines), encoding="utf-8")
    return folder / "corpus.toml"


def compare(title: str, config: Path, folder: Path, turns: int) -> str:
    """Return the section of a corpus: medians of the forecast, of what was, and of their ratios."""
    said, was, cost, read = [], [], [], 0.0
    for turn in range(turns):
        figures, seconds, read = dry_run(config, folder)
        said.append(figures)
        cost.append(seconds)
        was.append(done(config, folder / f"workspace-{turn}"))
        print(title, turn, json.dumps([figures, was[-1]]), file=sys.stderr, flush=True)
    rows: list[dict[str, object]] = []
    for name in said[0]:
        errors = [a[name] / b[name] - 1 for a, b in zip(said, was, strict=True)]
        medians = [statistics.median(turn[name] for turn in side) for side in (said, was)]
        shown = [shown_figure(name, value) for value in medians]
        spread = f"{min(errors):+.0%} to {max(errors):+.0%}" if turns > 1 else ""
        rows.append(
            {
                "": name,
                "forecast": shown[0],
                "real": shown[1],
                "error": f"{statistics.median(errors):+.1%}",
                "from turn to turn": spread,
            }
        )
    text = was[0]["text"]
    took = f"The dry run sent {read / 1e6:.1f} of {text / 1e6:.1f} MB of text through the stages and took "
    took += f"{statistics.median(cost):.1f} s of processor time."
    return "\n".join([f"## {title}", "", took, "", table(rows), ""])


def shown_figure(name: str, value: float) -> str:
    """Return a figure with its unit."""
    if "time" in name:
        return f"{value:.1f} s"
    return f"{value / 1e6:,.1f} MB" if any(word in name for word in ("text", "disk", "memory")) else f"{value:,.0f}"


def main() -> None:
    """Run the measurements and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path, help="JSON lines, .zst, read as they are")
    parser.add_argument("--formats", nargs="*", type=Path, default=[], help="the same, rewritten in several formats")
    parser.add_argument("--other", type=Path, help="a configuration that was never looked at before")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--demo", type=Path, help="a demo corpus built before")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if not given.demo:
            subprocess.run([sys.executable, "-m", "slimpajama", "demo-corpus", folder / "demo"], cwd=ROOT, check=True)
        corpora = {"The demo corpus, which it was tuned on": (given.demo or folder / "demo") / "demo.toml"}
        if given.files:
            corpora["Packed JSON lines"] = plain_corpus(given.files, folder / "plain")
        if given.formats:
            corpora["Versions of documents, in several formats"] = formats_corpus(given.formats, folder / "formats")
        if given.other:
            corpora["Never looked at before"] = given.other
        parts = []
        for number, (title, config) in enumerate(corpora.items()):
            parts.append(compare(title, config, folder / str(number), given.turns))
    OUT.write_text(page(given, parts), encoding="utf-8")
    print(OUT.read_text(encoding="utf-8"))


def page(given: argparse.Namespace, parts: list[str]) -> str:
    """Return the whole page as Markdown."""
    named = {name: ", ".join(file.name for file in files) for name, files in vars(given).items() if name in FILES}
    return "\n".join(
        [
            "# What a dry run forecasts, measured",
            "",
            "`python -m benchmarks.forecast`: `prepare --dry-run`, then `prepare`, one worker; medians of "
            f"{given.turns} turn(s). The goal is 25 % either way for each figure.",
            "",
            conditions("pyarrow", "numba", "tokenizers"),
            *(f"- {FILES[name]}: {files}" for name, files in named.items() if files),
            "",
            "Time and processor time are those of the stages: what the same command takes when it finds nothing new is",
            "taken off. On a busy machine time means little, processor time more. The size of the sample and the",
            "estimate of duplicates were chosen after a first look at all but the last corpus.",
            "",
            *parts,
        ]
    )


FILES = {"files": "packed JSON lines", "formats": "as CSV (.gz), Parquet, HTML, JSON lines and text, in turn"}

if __name__ == "__main__":
    main()
