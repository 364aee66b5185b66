"""Kill nights again and again, let ten of them follow one another, and compare every published byte with quiet ones.

    python -m benchmarks.soak [--seed N] [--kills 100 20 10] [--nights 10]

- `kills`: processes that kill themselves with SIGKILL before, within or after a write or a removal drawn by the seed:
  so many through preparation, training to tuning, and the replacements of a pointer. A night goes on until it is
  through, is compared, and the next one begins;
- `nights`: nights over growing sources, each killed three times, on a local disk that fails to write and is full
  besides, and on S3 (SeaweedFS) behind a proxy that strikes one request in thirty, with a quiet workspace beside. And
  once all of them in one process, whose memory, files and threads are counted.

Writes docs/reliability.md. The small corpus, the kills and the faults are those of tests/e2e.
"""

from __future__ import annotations

import argparse
import errno
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from benchmarks.attacks._page import taken_over
from benchmarks.machine import ROOT, conditions, table
from benchmarks.night import go_on
from slimpajama.core.config import Config, load_config
from slimpajama.core.console import console
from slimpajama.core.errors import StorageError
from slimpajama.core.logs import step_log
from slimpajama.core.progress import Sink, report_to
from slimpajama.workspace import layout, lease
from slimpajama.workspace.manifest import entry_of
from slimpajama.workspace.open import open_workspace
from slimpajama.workspace.parquet import read_table

sys.path += [str(ROOT / "tests" / "e2e"), str(ROOT / "tests" / "unit")]
import bad_inputs
import small_corpus
from dying import arm, failing_sync
from fault_proxy import PASSING, Plan, proxy
from library_night import prepare_night
from servers import s3_server, until

OUT = ROOT / "docs" / "reliability.md"
PREPARATION, TRAINING, POINTERS = KINDS = ("preparation", "training to tuning", "pointers")
MOMENTS = ("before", "torn", "after")
POINTER_FILES = ("index.json", "champion.json", "current.json")
DISK_FAULTS = ("EIO", "ENOSPC")
# Of the requests to S3 that are struck.
SHARE = 0.03
# Of one night, by errors of its storage.
MOST_STOPS = 20
# Of a killed run on S3, which the next one waits for.
LEASE_S = 5.0
THROUGH, KILLED, STOPPED = 0, -signal.SIGKILL, 3  # how a process ended
PRELOADED = ["benchmarks.night", "torch", "polars", "slimpajama.model.train.stage"]
BAD_INPUTS = (
    bad_inputs.CASES,
    bad_inputs.TEXTS,
    bad_inputs.NAMES,
    bad_inputs.CONFIGS,
    bad_inputs.EXPORTED,
    bad_inputs.POINTERS,
)
# They start in no time, from a process without threads.
CHILDREN = multiprocessing.get_context("forkserver")


KILLS = """\
A process kills itself with SIGKILL before, within (temporary file written, not yet renamed) or after a change of a file
that the seed draws, is started again, and so on until the night is through. Then every file of the workspace is
compared with one that nobody disturbed: documents, records of what was removed, shards, weights, reports, pointers.
"""
NIGHTS = """\
Every night brings as many new files as the one before, is killed three times where the seed says, and is compared with
an undisturbed workspace. Besides, the disk fails to write (EIO) and is full (ENOSPC) once a night, which stops a run
with a clear error. A proxy in front of S3 strikes three requests in a hundred: it answers 500 or 503, resets the
connection before, within or after the answer, so that the answers to conditional puts are lost too, sends no answer for
two seconds, sends it late, cut, or with a bit turned. Seconds are of the run that came through, megabytes of the
workspace; on the right the same nights undisturbed in a single process.
"""
REST = """\
## Bad inputs

[bad-inputs.md](bad-inputs.md) says what becomes of them; `make pages` lists all that
`tests/unit/test_bad_inputs.py` tries. `make fuzz` looks for more, guided by coverage.
"""


@dataclass(slots=True)
class Account:
    """What a number of kills came to."""

    kills: int = 0
    nights: int = 0
    points: list[str] = field(default_factory=list)
    differing: list[str] = field(default_factory=list)
    """Paths whose bytes are not those of a quiet night."""
    lost: int = 0
    """Documents that the quiet night has and this one lacks."""


def published(uri: str) -> dict[str, str]:
    """Return the sha256 of every file of a workspace, local or on S3, but for what no manifest speaks of."""
    return small_corpus.published_in(open_workspace(uri).store)


def documents(uri: str) -> set[str]:
    """Return the ids of every document that a workspace has kept."""
    store = open_workspace(uri).store
    paths = [path for path in store.list("nights") if layout.place(path).kind == "documents"]
    return {
        id_ for path in paths for id_ in read_table(store, entry_of(path, store.read(path)), ["id"])["id"].to_pylist()
    }


def differing(found: Mapping[str, str], expected: Mapping[str, str]) -> list[str]:
    """Return the paths that one of two workspaces lacks, or has with other bytes."""
    return sorted(path for path in {*found, *expected} if found.get(path) != expected.get(path))


def whole(cfg: Config, night: str) -> None:
    """Run one night from raw files to its report."""
    with report_to(Sink()), open_workspace(cfg.workspace).store.lock("soak"):
        prepare_night(cfg, night)
        go_on(cfg, night)


def _free(uri: str) -> None:
    with open_workspace(uri).store.lock("soak"):
        pass


def _child(run: Callable[[Config, str], None], cfg: Config, night: str, point: str, only: str, may_stop: bool) -> None:
    lease.LEASE_S = LEASE_S
    until(lambda: _free(cfg.workspace), 60, "the end of a killed run's lease")
    moment, _, number = point.partition(":")
    if moment in DISK_FAULTS:
        os.fsync = failing_sync(int(number), getattr(errno, moment))
    elif point:
        arm(moment, int(number), only)
    try:
        run(cfg, night)
    except StorageError:
        if not may_stop:
            raise
        sys.exit(STOPPED)


def in_child(
    run: Callable[[Config, str], None],
    cfg: Config,
    night: str,
    point: str = "",
    only: str = "",
    *,
    may_stop: bool = False,
) -> int:
    """Run a night in a process that dies, or whose disk fails, at a point; return how it ended.

    Args:
        run: What is run, in the workspace of `cfg`.
        cfg: Of the night.
        night: Its id.
        point: Moment or fault, and after how many changes of files or writes to the disk; empty for none.
        only: Part of the paths that a kill counts.
        may_stop: Whether it may end with a clear error of its storage.

    Raises:
        RuntimeError: It ended in any other way.
    """
    process = CHILDREN.Process(target=_child, args=(run, cfg, night, point, only, may_stop))
    process.start()
    process.join()
    if process.exitcode not in (THROUGH, KILLED, STOPPED):
        raise RuntimeError(f"a night with {point or 'no kill'} ended with {process.exitcode}")
    return process.exitcode


def kill_often(
    run: Callable[[Config, str], None],
    cfg: Config,
    quiet: str,
    wanted: int,
    draw: random.Random,
    most: int,
    only: Sequence[str] = ("",),
    begin: str = "",
) -> Account:
    """Kill nights until there were so many kills; compare each one that came through with a quiet one.

    Args:
        run: What is killed.
        cfg: Of the small corpus; its workspace's folder is worked in.
        quiet: The workspace of the quiet night.
        wanted: Kills.
        draw: Draws where.
        most: Changes of files after which a process is killed at the latest.
        only: Parts of paths; a kill takes one of them and counts changes of such files alone.
        begin: A workspace whose copy each night begins with.
    """
    account, folder, began = Account(), Path(cfg.workspace).parent, time.perf_counter()
    expected, complete = published(quiet), documents(quiet)
    while account.kills < wanted:
        killed = replace(cfg, workspace=str(folder / f"killed-{account.nights}"))
        if begin:
            shutil.copytree(begin, killed.workspace)
        through = False
        while not through and account.kills < wanted:
            point, name = f"{draw.choice(MOMENTS)}:{draw.randint(1, most)}", draw.choice(only)
            through = in_child(run, killed, "n1", point, name) == THROUGH
            account.kills += not through
            account.points += [] if through else [f"{name or 'any'} {point}"]
            if not through and account.kills % 10 == 0:
                tell("kills", account.kills, wanted, began)
        if not through:
            in_child(run, killed, "n1")
        account.differing += differing(published(killed.workspace), expected)
        account.lost += len(complete - documents(killed.workspace))
        account.nights += 1
        shutil.rmtree(killed.workspace)
    return account


def tell(what: str, done: int, wanted: int, began: float) -> None:
    """Say how much is done, and how long the rest takes at the rate so far."""
    left = (time.perf_counter() - began) / done * (wanted - done)
    step_log("soak").info(f"{what}: {done} of {wanted}, {timedelta(seconds=round(left))} left")


def kills(folder: Path, wanted: Sequence[int], seed: int) -> dict[str, Account]:
    """Return the account of each kind of kill."""
    cfg, draw = small_config(folder), random.Random(seed)
    prepared, through = str(folder / "quiet-prepared"), str(folder / "quiet")
    in_child(prepare_night, replace(cfg, workspace=prepared), "n1")
    shutil.copytree(prepared, through)
    in_child(whole, replace(cfg, workspace=through), "n1")
    found = {}
    for kind, number in zip(KINDS, wanted, strict=True):
        step_log("soak").info(f"{number} kills, {kind} ...")
        if kind == PREPARATION:
            found[kind] = kill_often(prepare_night, cfg, prepared, number, draw, 40)
        elif kind == TRAINING:
            found[kind] = kill_often(whole, cfg, through, number, draw, 16, begin=prepared)
        else:
            found[kind] = kill_often(whole, cfg, through, number, draw, 1, POINTER_FILES)
    return found


def small_config(folder: Path) -> Config:
    """Write the small corpus of the tests with some pairs; return its configuration."""
    small_corpus.write_corpus(folder)
    lines = [f"{small_corpus.sentences(n)}\t{small_corpus.chinese(n)}" for n in range(80)]
    (folder / "pairs.tsv").write_text("\n".join(line.replace("\n", " ") for line in lines), encoding="utf-8")
    with (folder / "config.toml").open("a", encoding="utf-8") as file:
        file.write("[apply]\nmax_tokens = 8\n[tune]\nnightly = true\ntokens = 20_000\nmax_test_pairs = 4\n")
        file.write("[pairs]\ntest_share = 0.1\nvalidation_share = 0.1\n[[pairs.sources]]\n")
        file.write('name = "some"\nuri = "pairs.tsv"\ntask = "translation"\n')
    return load_config(folder / "config.toml")


def new_files(folder: Path, number: int) -> None:
    """Add what comes in for one night: as much as for any other."""
    texts = [
        text
        for n in range(60)
        for text in (small_corpus.chinese(n + 10_000 * number), small_corpus.sentences(n + 10_000 * number))
    ]
    small_corpus.write_lines(folder / "raw" / f"zh-n{number:02}.jsonl.gz", [{"text": text} for text in texts])


@dataclass(slots=True)
class Night:
    """What one night of a soak came to."""

    kills: int
    faults: int
    """Requests to S3 that were struck, or runs that the disk stopped."""
    seconds: float
    """Of the run that came through."""
    mb: float
    """Of the workspace."""
    differing: int
    lost: int


def disturbances(draw: random.Random, moments: Sequence[str], faults: Sequence[str]) -> list[str]:
    """Return where one night's processes are killed, three times, and where their disk fails, in a drawn order."""
    points = [f"{draw.choice(moments)}:{draw.randint(1, 30)}" for _ in range(3)]
    points += [f"{fault}:{draw.randint(1, 40)}" for fault in faults]
    draw.shuffle(points)
    return points


def soak(
    folder: Path, uri: str, nights: int, draw: random.Random, run: Callable[[Config, str], None] = whole, s3: Any = None
) -> list[Night]:
    """Return nights in a row, each disturbed some times, of a workspace that is compared with a quiet local one.

    Args:
        folder: To work in.
        uri: The workspace that is disturbed.
        nights: How many.
        draw: Draws where.
        run: What is done in each.
        s3: The proxy's server in front of the store, for a workspace on S3; else the disk fails.
    """
    cfg = small_config(folder)
    quiet, killed = replace(cfg, workspace=str(folder / "quiet")), replace(cfg, workspace=uri)
    found: list[Night] = []
    start = time.perf_counter()
    for number in range(1, nights + 1):
        night, ends = f"n{number:02}", Counter[int]()
        new_files(folder, number)
        in_child(run, quiet, night)
        if s3:
            s3.plan = Plan(PASSING, share=SHARE, seed=draw.randrange(1 << 32), most=2)
            points = disturbances(draw, ("before", "after"), ())
        else:
            points = disturbances(draw, MOMENTS, DISK_FAULTS)
        while not ends[THROUGH]:
            began = time.perf_counter()
            ends[in_child(run, killed, night, points.pop() if points else "", may_stop=True)] += 1
            if ends[STOPPED] > MOST_STOPS:
                raise RuntimeError(f"night {night} was stopped {ends[STOPPED]} times and never came through")
        seconds = time.perf_counter() - began
        faults = sum(s3.plan.struck.values()) if s3 else ends[STOPPED]
        if s3:
            s3.plan = Plan()
        other = len(differing(published(uri), published(quiet.workspace)))
        lost = len(documents(quiet.workspace) - documents(uri))
        found.append(Night(ends[KILLED], faults, seconds, open_workspace(uri).store.size() / 1e6, other, lost))
        tell(f"nights on {'S3' if s3 else 'disk'}", number, nights, start)
    return found


@dataclass(slots=True)
class State:
    """Of a process that has done a number of nights."""

    resident_mb: float
    files: int
    threads: int
    seconds: float


def _in_one_process(run: Callable[[Config, str], None], cfg: Config, nights: int, folder: Path, answers: Any) -> None:
    for number in range(1, nights + 1):
        new_files(folder, number)
        began = time.perf_counter()
        run(cfg, f"n{number:02}")
        resident = next(
            line for line in Path("/proc/self/status").read_text("utf-8").splitlines() if line.startswith("VmRSS")
        )
        threads = len(os.listdir("/proc/self/task"))
        files = len(os.listdir("/proc/self/fd"))
        answers.send(State(int(resident.split()[1]) * 1024 / 1e6, files, threads, time.perf_counter() - began))


def in_one_process(folder: Path, nights: int, run: Callable[[Config, str], None] = whole) -> list[State]:
    """Return what one process that runs night after night holds after each."""
    cfg, began = small_config(folder), time.perf_counter()
    answers, answer = CHILDREN.Pipe(duplex=False)
    process = CHILDREN.Process(target=_in_one_process, args=(run, cfg, nights, folder, answer))
    process.start()
    # Or its end would not show if the process died.
    answer.close()
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
    CHILDREN.set_forkserver_preload(PRELOADED)
    with tempfile.TemporaryDirectory() as temporary, console():
        folder = Path(temporary)
        for name in ("kills", "disk", "s3", "one", "server"):
            (folder / name).mkdir()
        with s3_server(folder / "server") as environment, proxy(environment["AWS_ENDPOINT_URL"]) as (endpoint, server):
            os.environ.update(environment | {"AWS_ENDPOINT_URL": endpoint})  # before the first child
            accounts = kills(folder / "kills", args.kills, args.seed)
            nights, seed = args.nights, args.seed
            soaked = {
                "disk": soak(folder / "disk", str(folder / "disk" / "killed"), nights, random.Random(seed)),
                "S3": soak(folder / "s3", f"s3://tests/soak-{seed}", nights, random.Random(seed), s3=server),
            }
        states = in_one_process(folder / "one", args.nights)
    text = page(args.seed, accounts, soaked, states)
    OUT.write_text(taken_over(text, OUT.read_text(encoding="utf-8")), encoding="utf-8")
    print(text)
    ends = [*accounts.values(), *(night for found in soaked.values() for night in found)]
    if any(one.differing or one.lost for one in ends):
        sys.exit("soak: published bytes differ")


def _of_a_night(night: Night) -> list[tuple[str, str]]:
    return [("faults", str(night.faults)), ("s", f"{night.seconds:.1f}"), ("MB", f"{night.mb:.1f}")]


def page(seed: int, accounts: dict[str, Account], soaked: dict[str, list[Night]], states: list[State]) -> str:
    """Return the page as Markdown."""
    nights = {f"{len(found)} nights in a row, {where}": found for where, found in soaked.items()}
    rows = [
        {
            "what was killed": kind,
            "kills": one.kills,
            "faults": 0,
            "nights": one.nights,
            "files differing": len(one.differing),
            "documents lost": one.lost,
        }
        for kind, one in accounts.items()
    ] + [
        {
            "what was killed": kind,
            "kills": sum(one.kills for one in found),
            "faults": sum(one.faults for one in found),
            "nights": len(found),
            "files differing": sum(one.differing for one in found),
            "documents lost": sum(one.lost for one in found),
        }
        for kind, found in nights.items()
    ]
    sums = {name: sum(row[name] for row in rows) for name in ("kills", "faults", "documents lost", "files differing")}
    summary = [
        {"in all": "kills survived", "": sums["kills"]},
        {"in all": "faults survived", "": sums["faults"]},
        {"in all": "bad inputs tried", "": sum(map(len, BAD_INPUTS))},
        {"in all": "documents lost", "": sums["documents lost"]},
        {"in all": "published files whose bytes differ", "": sums["files differing"]},
    ]
    growth = [
        {"night": number}
        | {
            f"{where}, {unit}": value
            for where, nights in soaked.items()
            for unit, value in _of_a_night(nights[number - 1])
        }
        | {
            "one process: s": f"{state.seconds:.1f}",
            "MB in memory": f"{state.resident_mb:.0f}",
            "open files": state.files,
            "threads": state.threads,
        }
        for number, state in enumerate(states, 1)
    ]
    return "\n".join(
        [
            "# Reliability, measured\n",
            "`make soak` (`python -m benchmarks.soak`): the tests' small corpus, a tiny model, trained and tuned.\n",
            conditions("torch", "pyarrow", "polars", "s3fs"),
            f"- seed of the kills: {seed}",
            "",
            table(summary),
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
