"""Peak memory of `dedup` and `prepare` on inputs of given sizes; writes docs/benchmarks/memory.md.

    python -m benchmarks.memory [--cache FOLDER] [--gb 1 10] [--commands dedup prepare] [--workers 1]

The input is the benchmark corpus over and over, each time edited anew, so that no two documents are the same. It is
written to the folder for temporary files (`TMPDIR`), which must hold about four times the largest size. Rows are kept
in the cache: 10 GB take hours, and one command may be measured again without the other.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import random
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.corpus_data import CACHE, LANGUAGES, prepare, read_lines
from benchmarks.machine import DOCS, commit, conditions, measure, settings, table
from slimpajama.core.errors import InputError
from slimpajama.core.logs import step_log

COMMANDS = ("dedup", "prepare")
KEY = ("command", "input, GB", "workers")  # of a row
NGRAM = 13
PART_BYTES = 100_000_000
# Bytes of disk a byte of text: the input, what is kept, and the work folder of `prepare`.
SPACE = 4.0


def grow(sources: Sequence[Path], folder: Path, size: float) -> list[Path]:
    """Write JSON lines of `size` bytes of text: the sources' documents over and over, each time edited anew.

    An edited copy keeps 0.3 to 0.9 of its document's 13-grams, so about a sixth are near-duplicates of it.
    Memory holds the sources; files are of 100 MB of text.
    """
    records = [record for source in sources for record in read_lines(source)]
    endless = ((turn, *record) for turn in itertools.count() for record in records)
    rng, written, files = random.Random("grow"), 0, list[Path]()
    while written < size:
        files.append(folder / f"part-{len(files):03d}.jsonl")
        with files[-1].open("w", encoding="utf-8") as file:
            while written < min(size, PART_BYTES * len(files)):
                turn, name, text = next(endless)
                copy = interspersed(text, rng) if turn else text
                file.write(json.dumps({"id": f"{turn}/{name}", "text": copy}, ensure_ascii=False) + "\n")
                written += len(copy.encode())
    return files


def interspersed(text: str, rng: random.Random) -> str:
    """Return `text` with words put in at random places; fast, for there may be 10 GB of it."""
    similarity = rng.uniform(0.3, 0.9)
    places = int(len(text) * (1 - similarity) / (1 + similarity) / (NGRAM + 3))
    ends = sorted(rng.randrange(len(text)) for _ in range(places))
    starts = [0, *ends]
    inside = (f"{text[a:b]} {rng.getrandbits(24):06x} " for a, b in zip(starts, ends, strict=False))
    return "".join(inside) + text[starts[-1] :]


class Watch(threading.Thread):
    """Samples what kinds of memory the processes below this one take, twenty times a second; Linux only."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak_mb = {"RssAnon": 0.0, "RssFile": 0.0}
        """The largest process's own pages, and pages of files that it maps: those the system may drop at any time."""
        self.own_mb: list[float] = []
        """The largest process's own pages at each look."""
        self._end = threading.Event()

    def run(self) -> None:
        while not self._end.wait(0.05):
            self.own_mb.append(0.0)
            for process in _descendants(Path("/proc/self")):
                with contextlib.suppress(OSError):
                    for line in (process / "status").read_text().splitlines():
                        kind, _, value = line.partition(":")
                        if kind in self.peak_mb:
                            mb = int(value.split()[0]) * 1024 / 1e6
                            self.peak_mb[kind] = max(self.peak_mb[kind], mb)
                            if kind == "RssAnon":
                                self.own_mb[-1] = max(self.own_mb[-1], mb)

    def stop(self) -> None:
        """End the thread."""
        self._end.set()
        self.join()


def _descendants(process: Path) -> Iterator[Path]:
    for children in process.glob("task/*/children"):
        with contextlib.suppress(OSError):
            for pid in children.read_text().split():
                yield Path("/proc") / pid
                yield from _descendants(Path("/proc") / pid)


def config(folder: Path, pattern: str, workers: int) -> Path:
    """Write a configuration that reads `pattern` and return its path."""
    path = folder / "memory.toml"
    path.write_text(
        f'workspace = "workspace"\n[run]\nworkers = {workers}\n'
        f'[[ingest.sources]]\nname = "grown"\nuri = "{pattern}"\nid_field = "id"\n',
        encoding="utf-8",
    )
    return path


def run(gigabytes: float, corpus: Path, wanted: Sequence[str], workers: int) -> list[dict[str, object]]:
    """Return a row a command for one size."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        free, needed = shutil.disk_usage(folder).free / 1e9, SPACE * gigabytes
        if free < needed:
            raise InputError(
                "not enough disk",
                where=str(folder),
                expected=f"{needed:.0f} GB free",
                found=f"{free:.0f} GB",
                hint="Set TMPDIR to a larger disk, or ask for less (--gb).",
            )
        step_log("bench").info(f"growing {gigabytes} GB ...")
        files = grow([corpus / f"{language}.jsonl" for language in LANGUAGES], folder, gigabytes * 1e9)
        ours = [sys.executable, "-m", "slimpajama"]
        commands = {
            "dedup": [*ours, "dedup", *files, "--out", folder / "out", *settings(run__workers=workers)],
            "prepare": [*ours, "prepare", "--config", config(folder, "part-*.jsonl", workers)],
        }
        rows: list[dict[str, object]] = []
        for name in wanted:
            step_log("bench").info(f"{name} on {gigabytes} GB ...")
            watch = Watch()
            watch.start()
            done = measure([*commands[name], "--json"], threads=workers)
            watch.stop()
            shutil.rmtree(folder / "out", ignore_errors=True)
            rows.append(
                {
                    "input, GB": f"{gigabytes:g}",
                    "command": name,
                    "peak MB": f"{done.peak_mb:.0f}",
                    "mark": "1000",
                    "its own": f"{watch.peak_mb['RssAnon']:.0f}",
                    "mapped files": f"{watch.peak_mb['RssFile']:.0f}",
                    "CPU-s": f"{done.cpu_s:.0f}",
                    "wall s": f"{done.wall_s:.0f}",
                    "MB per CPU-s": f"{1000 * gigabytes / done.cpu_s:.1f}",
                    "workers": workers,
                    "commit": commit(),
                }
            )
            print(rows[-1], file=sys.stderr)
        return rows


def main() -> None:
    """Run all sizes and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=CACHE.parent)
    parser.add_argument("--gb", type=float, nargs="+", default=[1.0], help="sizes of the input, in GB of text")
    parser.add_argument("--commands", nargs="+", choices=COMMANDS, default=COMMANDS)
    parser.add_argument("--workers", type=int, default=1)
    args = parser.parse_args()
    corpus = prepare(args.cache / "corpus")
    kept = args.cache / "memory.json"
    rows = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else []
    for gigabytes in args.gb:
        fresh = run(gigabytes, corpus, args.commands, args.workers)
        again = [tuple(row[name] for name in KEY) for row in fresh]
        rows = [row for row in rows if tuple(row[name] for name in KEY) not in again] + fresh
        rows.sort(key=lambda row: (row["command"], float(row["input, GB"]), row["workers"]))
        kept.write_text(json.dumps(rows), encoding="utf-8")
    page = [
        "# Memory, measured\n",
        "`python -m benchmarks.memory`: the benchmark corpus repeated with edits.\n",
        conditions("polars", "pyarrow", "numba", "numpy"),
        "- peak: the kernel's count of resident memory of the largest process (`ru_maxrss`); `its own` and `mapped"
        " files` are sampled, and each has its peak where it has it; each row names the commit it was measured at\n",
        table(rows),
        "",
    ]
    (DOCS / "memory.md").write_text("\n".join(page), encoding="utf-8")
    print((DOCS / "memory.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
