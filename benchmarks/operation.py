"""Measure operation: orchestration's share, what a kill costs, workers, a workspace on S3.

    python -m benchmarks.operation [--cache FOLDER] [--mb 200] [--orchestration-mb 1000] [--turns 3]

Prepares grown copies of the benchmark corpus by the command line, as a user does: Prefect's temporary server, imports
and bookkeeping are in every wall time. Turns of the variants alternate. Writes docs/benchmarks/operation.md.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.corpus_data import CACHE, LANGUAGES
from benchmarks.corpus_data import prepare as prepare_corpus
from benchmarks.machine import DOCS, ROOT, conditions, settings, table
from benchmarks.memory import grow
from benchmarks.night import run_night, write_config
from slimpajama.core.logs import step_log
from slimpajama.workspace.open import open_workspace

sys.path.append(str(ROOT / "tests" / "e2e"))
from servers import s3_server

TWO_AT_ONCE = "two preparations at once, the steps alone, one thread each"
# Bytes of a file that is copied.
BLOB = 32_000_000
# Of the intermediate files: enough of them for two workers, also in a small corpus.
PART_MB = 8
SHORT = """\
## What these times consist of

- **Two threads**: two preparations that share nothing but the machine get through {limit:.2f} times what one does in
  the same time, which is all that the second processor adds. What keeps two threads from it is done once: the command
  line's start (Python, imports, Prefect's temporary server), learning the vocabulary, the decision on duplicates. If
  the rest halved, that is {stages:.0f} of the {stages_one:.0f} s of the steps alone, and {whole:.0f} of
  {whole_one:.0f} s by the command line. The share falls as the corpus grows.
- **Dask**: two worker processes that start, import everything and load the kernels, which 200 MB do not earn back. It
  is for several machines.
- **S3**: SeaweedFS computes checksums and writes on the same two cores, and every intermediate file passes through it
  twice. A file of up to 8 MB is read in one request, and of a part's rows a shard reads its own: a preparation of
  60 MB makes 520 requests. Our store costs nothing beside the plain client (the last two marks).
"""


def start(config: Path, workspace: str, *options: str) -> subprocess.Popen[str]:
    """Start the preparation of a night in a process group of its own."""
    command = [sys.executable, "-m", "slimpajama", "prepare", "--config", str(config), "--workspace", workspace]
    return subprocess.Popen(
        [*command, "--night", "n1", *settings(ingest__part_mb=PART_MB), *options],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def prepare(config: Path, workspace: str, *options: str) -> float:
    """Prepare a night to its end; return the wall seconds."""
    began = time.perf_counter()
    process = start(config, workspace, *options)
    _, said = process.communicate()
    if process.returncode:
        raise RuntimeError(said[-2000:])
    return time.perf_counter() - began


def kill_and_finish(config: Path, workspace: str, after: float) -> float:
    """Kill a preparation after so many seconds, run it again; return the seconds of both."""
    process = start(config, workspace)
    began = time.perf_counter()
    time.sleep(after)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    killed = time.perf_counter() - began
    return killed + prepare(config, workspace)


def median(runs: Sequence[float]) -> str:
    """Return the median and the range, as text."""
    return f"{statistics.median(runs):.1f} ({min(runs):.1f} to {max(runs):.1f})"


def copy_rates(uri: str) -> dict[str, float]:
    """Return MB/s of a Parquet-sized file by the workspace's store and by its client alone."""
    import s3fs

    store, plain = open_workspace(uri).store, s3fs.S3FileSystem(use_listings_cache=False, skip_instance_cache=True)
    blob, path = os.urandom(BLOB), uri.removeprefix("s3://")
    ways: dict[str, Callable[[int], object]] = {
        "plain write": lambda n: plain.pipe_file(f"{path}/plain-{n}", blob),
        "store write": lambda n: store.write(f"store-{n}", blob),
        "plain read": lambda n: plain.cat_file(f"{path}/plain-{n}"),
        "store read": lambda n: store.read(f"store-{n}"),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(5):
        for name, way in ways.items():
            began = time.perf_counter()
            way(turn)
            seconds[name].append(time.perf_counter() - began)
    return {name: BLOB / 1e6 / statistics.median(taken) for name, taken in seconds.items()}


def main() -> None:
    """Run the measurements and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=CACHE.parent)
    parser.add_argument("--mb", type=float, default=200)
    parser.add_argument("--orchestration-mb", type=float, default=1000)
    parser.add_argument("--turns", type=int, default=3)
    args = parser.parse_args()
    corpus = [prepare_corpus(args.cache / "corpus") / f"{language}.jsonl" for language in LANGUAGES]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "raw").mkdir()
        grow(corpus, folder / "raw", args.mb * 1e6)
        config = write_config(folder, str(folder / "raw" / "*.jsonl"))
        (folder / "s3").mkdir()
        with s3_server(folder / "s3") as environment:
            os.environ.update(environment)
            runs, rates = alternate(config, folder, args.turns), copy_rates("s3://tests/copies")
        runs |= stages_alone(config, args.turns)
        runs[TWO_AT_ONCE] = two_at_once(folder, args.turns)
        shutil.rmtree(folder / "raw")
        (folder / "large").mkdir()
        grow(corpus, folder / "large", args.orchestration_mb * 1e6)
        config = write_config(folder, str(folder / "large" / "*.jsonl"))
        by_flow = prepare(config, str(folder / "by-flow"), *settings(run__workers=2))
        large = by_flow, alone_s(config, 2), alone_s(config, 1)
    text = page(runs, rates, large, args)
    (DOCS / "operation.md").write_text(text, encoding="utf-8")
    print(text)


def alternate(config: Path, folder: Path, turns: int) -> dict[str, list[float]]:
    """Return wall seconds of each variant, a value a turn; the first run of all, which warms caches, is left out."""
    variants = {
        "two threads": settings(run__workers=2),
        "one thread": settings(run__workers=1),
        "two workers of Dask": settings(run__workers=2, run__engine="dask"),
        "S3": settings(run__workers=2),
    }
    runs: dict[str, list[float]] = {name: [] for name in (*variants, "killed once")}
    prepare(config, str(folder / "warm"))
    for turn in range(turns):
        for name, options in variants.items():
            step_log("bench").info(f"turn {turn + 1}: {name} ...")
            workspace = f"s3://tests/{turn}" if name == "S3" else str(folder / f"{name}-{turn}")
            runs[name].append(prepare(config, workspace, *options))
            shutil.rmtree(workspace, ignore_errors=True)
        workspace, half = str(folder / f"killed-{turn}"), statistics.median(runs["two threads"]) / 2
        runs["killed once"].append(kill_and_finish(config, workspace, half))
        shutil.rmtree(workspace)
    return runs


def alone_s(config: Path, workers: int) -> float:
    """Return the wall seconds of a preparation's stages in a new process, without Prefect."""
    _, measured = run_night(config, "n1", *settings(ingest__part_mb=PART_MB), workers=workers, cold=True)
    shutil.rmtree(config.parent / "workspace")
    return measured.wall_s


def stages_alone(config: Path, turns: int) -> dict[str, list[float]]:
    """Return wall seconds of the stages without Prefect, whose start no worker shares."""
    runs: dict[str, list[float]] = {"steps alone, two threads": [], "steps alone, one thread": []}
    for turn in range(turns):
        for workers, name in ((2, "steps alone, two threads"), (1, "steps alone, one thread")):
            step_log("bench").info(f"turn {turn + 1}: {name} ...")
            runs[name].append(alone_s(config, workers))
    return runs


def two_at_once(folder: Path, turns: int) -> list[float]:
    """Return wall seconds of two preparations side by side, one thread each, with nothing in common but the machine."""
    for name in ("first", "second"):
        (folder / name).mkdir()
    configs = [write_config(folder / name, str(folder / "raw" / "*.jsonl")) for name in ("first", "second")]
    found = []
    with ThreadPoolExecutor(2) as pool:
        for _ in range(turns):
            began = time.perf_counter()
            list(pool.map(lambda config: alone_s(config, 1), configs))
            found.append(time.perf_counter() - began)
    return found


def page(
    runs: dict[str, list[float]], rates: dict[str, float], large: tuple[float, float, float], args: argparse.Namespace
) -> str:
    """Return the whole page as Markdown.

    Args:
        runs: Wall seconds by variant.
        rates: MB/s of copies.
        large: Wall seconds of the large preparation by the command line, and of its stages alone by two and one thread.
        args: The benchmark's options.
    """
    base = statistics.median(runs["two threads"])
    ratio = {name: statistics.median(seconds) / base for name, seconds in runs.items()}
    extra = statistics.median(runs["killed once"]) - base
    stages = ratio["steps alone, one thread"] / ratio["steps alone, two threads"]
    limit = 2 * statistics.median(runs["steps alone, one thread"]) / statistics.median(runs[TWO_AT_ONCE])
    fixed = {"limit": limit}
    for key, name in (("stages", "steps alone, {} thread"), ("whole", "{} thread")):
        one, two = statistics.median(runs[name.format("one")]), statistics.median(runs[name.format("two") + "s"])
        fixed |= {key: 2 * two - one, f"{key}_one": one}
    by_flow, two, one = large
    size, training = f"{args.orchestration_mb:,.0f} MB", 300
    measures = [
        ("two threads against one, by the command line", f"{ratio['one thread']:.2f}x", ">= 1.7x"),
        ("two threads against one, the steps alone", f"{stages:.2f}x", ">= 1.7x"),
        (f"the same for {size}", f"{one / two:.2f}x", ">= 1.7x"),
        ("what two processors can: two preparations at once against one", f"{limit:.2f}x", ""),
        ("two workers of Dask against one thread", f"{ratio['one thread'] / ratio['two workers of Dask']:.2f}x", ""),
        ("S3 workspace against local disk", f"{ratio['S3']:.2f}x the time", "<= 1.5x"),
        ("extra time of a night killed once", f"{extra:.1f} s", "<= 60 s + shards in flight"),
        (f"what Prefect adds to the preparation of {size}", f"{by_flow - two:.0f} s of {by_flow:.0f}", ""),
        (f"its share, where training takes {training} s", f"{(by_flow - two) / (by_flow + training):.1%}", "<= 5 %"),
        ("store against plain client, writing", f"{rates['store write'] / rates['plain write']:.0%}", ">= 60 %"),
        ("store against plain client, reading", f"{rates['store read'] / rates['plain read']:.0%}", ">= 60 %"),
    ]
    return "\n".join(
        [
            "# Operation, measured\n",
            f"`python -m benchmarks.operation`: preparation of {args.mb:,.0f} MB of the benchmark corpus grown by",
            f"edits, by the command line, {args.turns} turns that alternate.\n",
            conditions("prefect", "distributed", "s3fs", "pyarrow", "numba"),
            "- orchestration: the flow's wall time against that of its steps without Prefect, both in a new process",
            f"- S3: SeaweedFS on the same machine; files of {BLOB / 1e6:.0f} MB copied 5 times",
            "\n## Marks\n",
            table([{"measure": name, "measured": value, "mark": mark} for name, value, mark in measures]),
            "\n## Wall seconds\n",
            table([{"variant": name, "median (least to most)": median(seconds)} for name, seconds in runs.items()]),
            "\n## MB/s\n",
            table([{name: f"{rate:.0f}" for name, rate in rates.items()}]),
            "",
            SHORT.format(**fixed),
        ]
    )


if __name__ == "__main__":
    main()
