"""Kill nights again and again, let ten of them follow one another, and compare every published byte with quiet ones.

    python -m benchmarks.soak [--seed N] [--kills 100 20 10] [--nights 10]

- `kills`: processes that kill themselves with SIGKILL before, within or after a write or a removal drawn by the seed:
  so many through preparation, training to tuning, and the replacements of a pointer. A night goes on until it is
  through, is compared, and the next one begins;
- `nights`: nights over growing sources, each killed three times, on a local disk and on S3 (SeaweedFS), with a quiet
  workspace beside. And once all of them in one process, whose memory, files and threads are counted.

Writes docs/reliability.md. The small corpus and the kills are those of tests/e2e.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from benchmarks.machine import ROOT, conditions, table
from benchmarks.night import go_on
from slimpajama.config import Config, load_config
from slimpajama.progress import Sink, console, report_to, say
from slimpajama.storage import open_store, sha256

sys.path.append(str(ROOT / "tests" / "e2e"))
import small_corpus
from dying import arm
from library_night import prepare_night
from servers import s3_server

__all__ = ["main"]

OUT = ROOT / "docs" / "reliability.md"
PREPARATION, TRAINING, POINTERS = KINDS = ("preparation", "training to tuning", "pointers")
MOMENTS = ("before", "torn", "after")
POINTER_FILES = ("index.json", "champion.json", "current.json")
CHILDREN = multiprocessing.get_context("forkserver")  # they start in no time, from a process without threads


KILLS = """\
A process kills itself with SIGKILL before, within (temporary file written, not yet renamed) or after a change of a file
that the seed draws, is started again, and so on until the night is through. Then every file of the workspace is
compared with one that nobody disturbed: documents, records of what was removed, shards, weights, reports, pointers.
"""
NIGHTS = """\
Every night brings as many new files as the one before, is killed three times where the seed says, and is compared with
an undisturbed workspace. Seconds are of the run that came through, megabytes of the workspace; on the right the same
nights undisturbed in a single process.
"""
REST = """\
## Bad inputs

[bad-inputs.md](bad-inputs.md) lists what was tried, and what becomes of each;
`tests/unit/test_bad_inputs.py` checks it.

## Found and mended on the way

- A vocabulary carried on from an earlier night was read without its checksum: a damaged one would have spread.
- Each shard read every part of a night whole from S3, where it needs one range of each: the bytes grew with the square
  of the corpus.
- Two folders that link to each other made some 2^40 paths of `**`; each folder is entered once.
- A page of nested or re-opened tags, thousands of options or attributes took minutes or a gigabyte; such pages are
  bounded.
- A Parquet file of 742 bytes unpacked to 2 GB; row groups, archives and records are bounded.
- The second stream of a damaged bzip2 file was taken for its end, and a cut WARC record for a short document.
- A folder that could not be listed was passed over without a word.
- A model's `config.json` could ask for memory before its weights were looked at.
- Text in an error's message could hold a terminal's escapes.
- An empty or foreign pointer counted as none.
"""


@dataclass(slots=True)
class Account:
    """What a number of kills came to."""

    kills: int = 0
    nights: int = 0
    points: list[str] = field(default_factory=list)
    differing: list[str] = field(default_factory=list)
    """Paths whose bytes are not those of a quiet night."""


def published(uri: str) -> dict[str, str]:
    """Return the sha256 of every file of a workspace, local or on S3, but for what no manifest speaks of."""
    store = open_store(uri)
    return {path: sha256(store.read(path)) for path in store.list()}


def differing(found: Mapping[str, str], expected: Mapping[str, str]) -> list[str]:
    """Return the paths that one of two workspaces lacks, or has with other bytes."""
    return sorted(path for path in {*found, *expected} if found.get(path) != expected.get(path))


def whole(cfg: Config, night: str) -> None:
    """Run one night from raw files to its report."""
    with report_to(Sink()), open_store(cfg.workspace).lock("soak"):
        prepare_night(cfg, night)
        go_on(cfg, night)


def _child(run: Callable[[Config, str], None], cfg: Config, night: str, point: str, only: str) -> None:
    if point:
        moment, _, number = point.partition(":")
        arm(moment, int(number), only)
    run(cfg, night)


def in_child(run: Callable[[Config, str], None], cfg: Config, night: str, point: str = "", only: str = "") -> bool:
    """Run a night in a process that dies at a point; return whether it came through.

    Raises:
        RuntimeError: It ended in any other way.
    """
    process = CHILDREN.Process(target=_child, args=(run, cfg, night, point, only))
    process.start()
    process.join()
    if process.exitcode not in (0, -signal.SIGKILL):
        raise RuntimeError(f"a night killed at {point or 'no point'} ended with {process.exitcode}")
    return process.exitcode == 0


def kill_often(
    run: Callable[[Config, str], None], cfg: Config, wanted: int, draw: random.Random, most: int,
    only: Sequence[str] = ("",), before: Callable[[Config, str], None] | None = None,
) -> Account:  # fmt: skip
    """Kill nights until there were so many kills; compare each one that came through with a quiet one.

    Args:
        run: What is killed.
        cfg: Of the small corpus; its workspace's folder is worked in.
        wanted: Kills.
        draw: Draws where.
        most: Changes of files after which a process is killed at the latest.
        only: Parts of paths; a kill takes one of them and counts changes of such files alone.
        before: Run undisturbed first.
    """
    account, folder, began = Account(), Path(cfg.workspace).parent, time.perf_counter()
    quiet = replace(cfg, workspace=str(folder / "quiet"))
    for step in [before, run] if before else [run]:
        in_child(step, quiet, "n1")
    expected = published(quiet.workspace)
    while account.kills < wanted:
        killed = replace(cfg, workspace=str(folder / f"killed-{account.nights}"))
        if before:
            in_child(before, killed, "n1")
        through = False
        while not through and account.kills < wanted:
            point, name = f"{draw.choice(MOMENTS)}:{draw.randint(1, most)}", draw.choice(only)
            through = in_child(run, killed, "n1", point, name)
            account.kills += not through
            account.points += [] if through else [f"{name or 'any'} {point}"]
            if not through and account.kills % 10 == 0:
                tell("kills", account.kills, wanted, began)
        if not through:
            in_child(run, killed, "n1")
        account.differing += differing(published(killed.workspace), expected)
        account.nights += 1
        shutil.rmtree(killed.workspace)
    shutil.rmtree(quiet.workspace)
    return account


def tell(what: str, done: int, wanted: int, began: float) -> None:
    """Say how much is done, and how long the rest takes at the rate so far."""
    left = (time.perf_counter() - began) / done * (wanted - done)
    say("soak", f"{what}: {done} of {wanted}, {timedelta(seconds=round(left))} left")


def kills(folder: Path, wanted: Sequence[int], seed: int) -> dict[str, Account]:
    """Return the account of each kind of kill."""
    cfg = small_config(folder)
    draw = random.Random(seed)
    found = {}
    for kind, number in zip(KINDS, wanted, strict=True):
        say("soak", f"{number} kills, {kind} ...")
        if kind == PREPARATION:
            found[kind] = kill_often(prepare_night, cfg, number, draw, 40)
        elif kind == TRAINING:
            found[kind] = kill_often(whole, cfg, number, draw, 16, before=prepare_night)
        else:
            found[kind] = kill_often(whole, cfg, number, draw, 1, POINTER_FILES)
    return found


def small_config(folder: Path) -> Config:
    """Write the small corpus of the tests with some pairs; return its configuration."""
    small_corpus.write_corpus(folder)
    lines = [f"{small_corpus.sentences(n)}\t{small_corpus.chinese(n)}" for n in range(80)]
    (folder / "pairs.tsv").write_text("\n".join(line.replace("\n", " ") for line in lines), encoding="utf-8")
    with (folder / "config.toml").open("a", encoding="utf-8") as file:
        file.write("[tune]\nnightly = true\ntokens = 20_000\nmax_test_pairs = 4\n[pairs]\ntest_share = 0.1\n")
        file.write(
            'validation_share = 0.1\n[[pairs.sources]]\nname = "some"\nuri = "pairs.tsv"\ntask = "translation"\n'
        )
    return load_config(folder / "config.toml")


def new_files(folder: Path, number: int) -> None:
    """Add what comes in for one night: as much as for any other."""
    texts = [text for n in range(60) for text in (small_corpus.chinese(n + 10_000 * number),
                                                  small_corpus.sentences(n + 10_000 * number))]  # fmt: skip
    small_corpus.write_lines(folder / "raw" / f"zh-n{number:02}.jsonl.gz", [{"text": text} for text in texts])


@dataclass(slots=True)
class Night:
    """What one night of a soak came to."""

    kills: int
    seconds: float
    """Of the run that came through."""
    mb: float
    """Of the workspace."""
    differing: int


def soak(folder: Path, uri: str, nights: int, draw: random.Random) -> list[Night]:
    """Return ten nights, each killed some times, of a workspace at `uri` that is compared with a quiet local one."""
    cfg = small_config(folder)
    quiet, killed = replace(cfg, workspace=str(folder / "quiet")), replace(cfg, workspace=uri)
    found: list[Night] = []
    where, start = uri.partition(":")[0] if "://" in uri else "disk", time.perf_counter()
    for number in range(1, nights + 1):
        night, times = f"n{number:02}", 0
        new_files(folder, number)
        in_child(whole, quiet, night)
        while True:
            began = time.perf_counter()
            point = f"{draw.choice(MOMENTS)}:{draw.randint(1, 80)}" if times < 3 else ""
            if in_child(whole, killed, night, point):
                break
            times += 1
        seconds = time.perf_counter() - began
        other = len(differing(published(killed.workspace), published(quiet.workspace)))
        found.append(Night(times, seconds, open_store(uri).size() / 1e6, other))
        tell(f"nights on {where}", number, nights, start)
    return found


@dataclass(slots=True)
class State:
    """Of a process that has done a number of nights."""

    resident_mb: float
    files: int
    threads: int
    seconds: float


def _in_one_process(cfg: Config, nights: int, folder: Path, answers: Any) -> None:
    for number in range(1, nights + 1):
        new_files(folder, number)
        began = time.perf_counter()
        whole(cfg, f"n{number:02}")
        resident = next(
            line for line in Path("/proc/self/status").read_text("utf-8").splitlines() if line.startswith("VmRSS")
        )
        threads = len(os.listdir("/proc/self/task"))
        files = len(os.listdir("/proc/self/fd"))
        answers.send(State(int(resident.split()[1]) * 1024 / 1e6, files, threads, time.perf_counter() - began))


def in_one_process(folder: Path, nights: int) -> list[State]:
    """Return what one process that runs night after night holds after each."""
    cfg, began = small_config(folder), time.perf_counter()
    answers, answer = CHILDREN.Pipe(duplex=False)
    process = CHILDREN.Process(target=_in_one_process, args=(cfg, nights, folder, answer))
    process.start()
    answer.close()  # or its end would not show if the process died
    found: list[State] = []
    while len(found) < nights:
        found.append(answers.recv())
        tell("nights in one process", len(found), nights, began)
    process.join()
    return found


def main() -> None:
    """Run the long tests and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=20261126)
    parser.add_argument("--kills", type=int, nargs=3, default=[100, 20, 10], metavar="N", help=", ".join(KINDS))
    parser.add_argument("--nights", type=int, default=10)
    args = parser.parse_args()
    CHILDREN.set_forkserver_preload(["benchmarks.night", "torch", "polars", "slimpajama.train.stage"])
    with tempfile.TemporaryDirectory() as temporary, console():
        folder = Path(temporary)
        for name in ("kills", "disk", "s3", "one", "server"):
            (folder / name).mkdir()
        with s3_server(folder / "server") as environment:
            os.environ.update(environment)  # before the first child
            accounts = kills(folder / "kills", args.kills, args.seed)
            soaked = {
                where: soak(folder / name, uri, args.nights, random.Random(args.seed))
                for where, name, uri in (
                    ("disk", "disk", str(folder / "disk" / "killed")), ("S3", "s3", f"s3://tests/soak-{args.seed}")
                )
            }  # fmt: skip
        states = in_one_process(folder / "one", args.nights)
    text = page(args.seed, accounts, soaked, states)
    OUT.write_text(text, encoding="utf-8")
    print(text)


def page(
    seed: int, accounts: dict[str, Account], soaked: dict[str, list[Night]], states: list[State]
) -> str:  # fmt: skip
    """Return the page as Markdown."""
    rows = [
        {"what was killed": kind, "kills": account.kills, "nights": account.nights,
         "bytes differing": f"{len(account.differing)} files"}
        for kind, account in accounts.items()
    ]  # fmt: skip
    rows += [
        {"what was killed": f"{len(nights)} nights in a row, {where}", "kills": sum(night.kills for night in nights),
         "nights": len(nights), "bytes differing": f"{sum(night.differing for night in nights)} files"}
        for where, nights in soaked.items()
    ]  # fmt: skip
    growth = [
        {"night": number} | {
            f"{where}, {unit}": f"{value:.1f}"
            for where, nights in soaked.items()
            for unit, value in (("s", nights[number - 1].seconds), ("MB", nights[number - 1].mb))
        }
        | {"one process: s": f"{state.seconds:.1f}", "MB in memory": f"{state.resident_mb:.0f}",
           "open files": state.files, "threads": state.threads}
        for number, state in enumerate(states, 1)
    ]  # fmt: skip
    return "\n".join(
        [
            "# Reliability, measured\n",
            "`make soak` (`python -m benchmarks.soak`): the tests' small corpus, a tiny model, trained and tuned.\n",
            conditions("torch", "pyarrow", "polars", "s3fs"),
            f"- seed of the kills: {seed}",
            "\n## Kills\n",
            KILLS,
            table(rows),
            "\n## Ten nights in a row\n",
            NIGHTS,
            table(growth),
            "",
            REST,
        ]
    )


if __name__ == "__main__":
    main()
