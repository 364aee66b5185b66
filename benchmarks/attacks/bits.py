"""Damaged bytes: a bit is flipped in, or removed is, what is published and what lies between two steps.

A command may end with an error, or with what it gives on an undamaged workspace; anything else got through. Whatever a
command leaves damaged, `verify` has to find.
"""

from __future__ import annotations

import contextlib
import io
import os
import random
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq

from benchmarks.attacks import Row
from benchmarks.machine import ROOT
from benchmarks.night import build, go_on
from slimpajama.cli import run
from slimpajama.core.config import Config, load_config
from slimpajama.core.errors import SlimpajamaError
from slimpajama.core.progress import Sink, report_to
from slimpajama.corpus.pipeline import prepare
from slimpajama.model.evaluate.stage import evaluate
from slimpajama.ops import verify as checking
from slimpajama.ops.report.stage import write_report
from slimpajama.ops.retention import clean_up
from slimpajama.workspace import layout
from slimpajama.workspace.catalogue import records
from slimpajama.workspace.local import LocalStore
from slimpajama.workspace.open import Workspace, open_workspace
from slimpajama.workspace.step import Context
from slimpajama.workspace.store import sha256

sys.path.append(str(ROOT / "tests" / "e2e"))
import small_corpus

NIGHTS = ("n1", "n2")
LATER = "n3"
NAMES = re.compile(r"n\d(-tiny)?(-[0-9a-f]{8})*|[0-9a-f]{12,}|part-[\d-]+|-$")
Files = dict[str, str]
Ids = list[str]
Command = Callable[[Config, Ids], object]


def story(folder: Path) -> tuple[Config, Ids]:
    """Make a workspace of two nights with a champion, a tuned model, reports and a forgotten document.

    Returns:
        Its settings, and the ids of the documents that the first night kept.
    """
    config = small_corpus.write_story(folder, tokens=20_000)
    lines = [f"{small_corpus.sentences(n)}\t{small_corpus.chinese(n)}" for n in range(40)]
    (folder / "pairs.tsv").write_text("\n".join(line.replace("\n", " ") for line in lines), encoding="utf-8")
    with config.open("a", encoding="utf-8") as file:
        file.write("[apply]\nmax_tokens = 4\n[tune]\nnightly = true\ntokens = 4_000\nmax_test_pairs = 2\n")
        file.write("[pairs]\ntest_share = 0.1\nvalidation_share = 0.1\n[[pairs.sources]]\n")
        file.write('name = "some"\nuri = "pairs.tsv"\ntask = "translation"\n')
    cfg = load_config(config, ["generate.max_tokens=8", "run.workers=1"])
    with report_to(Sink()):
        for number, night in enumerate((*NIGHTS, LATER)):
            small_corpus.write_story_night(folder, number, documents=60)
            if night != LATER:
                build(cfg, night)
                go_on(cfg, night)
    ids = sorted(pq.read_table(Path(cfg.workspace, "nights", NIGHTS[0], "documents"))["id"].to_pylist())
    forget(cfg, ids[2:])
    return cfg, ids[:2]


def command(*arguments: object) -> str:
    """Run a command of the command line; return what it says.

    Raises:
        SlimpajamaError: It ended with another code than 0.
    """
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(io.StringIO()):
        code = run(list(map(str, arguments)))
    if code:
        raise SlimpajamaError(f"exit code {code}")
    return said.getvalue()


def forget(cfg: Config, ids: Ids) -> None:
    """Forget one document."""
    command("forget", ids[0], "--workspace", cfg.workspace)


def read_only(cfg: Config, folder: Path, ids: Ids) -> dict[str, Callable[[], object]]:
    """Return the commands that change nothing, each with what it gives."""
    at = ["--workspace", cfg.workspace]

    def exported(*options: str) -> Files:
        target = Path(tempfile.mkdtemp(dir=folder)) / "out"
        try:
            command("export", *options, target, *at)
            return files(target)
        finally:
            shutil.rmtree(target.parent)

    (folder / "text.txt").write_text("今天 the weather", encoding="utf-8")
    return {
        "nights": lambda: command("nights", "--json", *at),
        "models": lambda: command("models", "--json", *at),
        "explain": lambda: command("explain", ids[1], "--json", *at),
        "export --dataset": lambda: exported("--dataset"),
        "export": lambda: exported("--format", "hf"),
        "score": lambda: command("score", "--text", folder / "text.txt", "--json", *at),
        "generate": lambda: command("generate", "--prompt", "今天", "--max-tokens", 4, "--json", *at),
        "translate": lambda: command("translate", "--to", "zh", "--text", folder / "text.txt", *at),
    }


def measured(cfg: Config, _: Ids) -> object:
    """Measure the champion again, on less text."""
    workspace = open_workspace(cfg.workspace)
    other = replace(cfg, evaluate=replace(cfg.evaluate, max_mb_per_language=0.02))
    return evaluate(workspace, other, workspace.models.require_champion(), list(NIGHTS), None).figures


def later_night(cfg: Config, _: Ids) -> None:
    """Prepare and publish a further night."""
    build(cfg, LATER)


def reported(cfg: Config, _: Ids) -> None:
    """Write the second night's report again."""
    workspace = open_workspace(cfg.workspace)
    workspace.store.delete(layout.report(NIGHTS[1]).manifest)
    write_report(workspace, NIGHTS[1], workspace.models.of_night(NIGHTS[1]))


def cleaned_up(cfg: Config, _: Ids) -> object:
    """Remove what need not stay."""
    return [one.folder for one in clean_up(open_workspace(cfg.workspace), replace(cfg.retention, nights=1)).removed]


CHANGES: dict[str, Command] = {
    "forget": forget,
    "clean-up": cleaned_up,
    "evaluate": measured,
    "a later night": later_night,
    "report": reported,
}


def files(folder: Path) -> Files:
    """Return the sha256 of every file of a folder, but for locks."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {
        path.relative_to(folder).as_posix(): sha256(path.read_bytes())
        for path in paths
        if not path.name.startswith(".lock")
    }


def copy(cfg: Config, target: Path) -> Config:
    """Return a copy of a workspace by hard links: nothing writes into a file."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(cfg.workspace, target, copy_function=os.link, ignore=shutil.ignore_patterns(".lock*", ".tmp"))
    return replace(cfg, workspace=str(target))


def flip(store: LocalStore, path: str, draw: random.Random) -> str:
    """Flip one bit of a file; return which."""
    data = bytearray(store.read(path))
    place, bit = draw.randrange(len(data)), draw.randrange(8)
    data[place] ^= 1 << bit
    store.write(path, bytes(data))
    return f"{path}, bit {bit} of byte {place}"


def by_kind(workspace: Workspace) -> dict[str, list[str]]:
    """Return the published files, records and pointers by their kinds, but those of no content."""
    kinds: dict[str, list[str]] = {}
    for path in workspace.store.list():
        if Path(workspace.uri, path).stat().st_size:
            kinds.setdefault(NAMES.sub("", path), []).append(path)
    return kinds


def outcome(make: Callable[[], object]) -> object:
    """Return what a command gives; None where it ended with an error that a user can act on."""
    try:
        with report_to(Sink()):
            return make()
    except SlimpajamaError:
        return None
    except Exception as error:
        return f"a traceback: {error!r}"


def verify_finds(cfg: Config) -> bool:
    """Return whether `verify` finds something wrong."""
    return bool(checking.verify(open_workspace(cfg.workspace))[1])


def flipped(cfg: Config, ids: Ids, folder: Path, tries: int, draw: random.Random) -> Iterator[tuple[int, list[str]]]:
    """Yield, for each kind of file, how often a bit was flipped and what got through."""
    quiet = copy(cfg, folder / "quiet")
    expected = {name: make() for name, make in read_only(quiet, folder, ids).items()}
    changed: dict[str, tuple[object, Files]] = {}
    for name, change in CHANGES.items():
        own = copy(cfg, folder / "quiet")
        with report_to(Sink()):
            changed[name] = change(own, ids), files(Path(own.workspace))
    for kind, paths in by_kind(open_workspace(cfg.workspace)).items():
        broken: list[str] = []
        for number in range(tries):
            own, path = copy(cfg, folder / "flipped"), draw.choice(paths)
            where = flip(LocalStore(own.workspace), path, draw)
            if not verify_finds(own):
                broken.append(f"verify: {where}")
            for name, make in read_only(own, folder, ids).items():
                if outcome(make) not in (None, expected[name]):
                    broken.append(f"{name}: {where}")
            name = list(CHANGES)[number % len(CHANGES)]
            broken += [f"{name}: {where}"] * got_through(name, own, ids, path, *changed[name])
        print(f"{kind}: {tries} bits, {len(broken)} got through", file=sys.stderr, flush=True)
        yield tries, broken


def got_through(name: str, cfg: Config, ids: Ids, path: str, said: object, expected: Files) -> bool:
    """Return whether a command that changes the workspace used a damaged file, or hid the damage."""
    damaged = files(Path(cfg.workspace))[path]
    found = outcome(lambda: (CHANGES[name](cfg, ids),))
    now = files(Path(cfg.workspace))
    if now.get(path) == damaged and not verify_finds(cfg):
        return True
    if found is None:
        return False
    same = {other: sha for other, sha in now.items() if other != path or sha != damaged}
    wanted = {other: sha for other, sha in expected.items() if other in same or other != path}
    return found != (said,) or same != wanted


def between(cfg: Config, folder: Path, tries: int, draw: random.Random) -> tuple[int, list[str]]:
    """Flip a bit between two steps, or between a kill and the run that goes on; return what was published so."""
    own = copy(cfg, folder / "quiet")
    with report_to(Sink()):
        build(own, LATER)
    expected, broken = files(Path(own.workspace)), []
    for number in range(tries):
        own = copy(cfg, folder / "between")
        where = list[str]()

        def night(own: Config = own, where: list[str] = where, number: int = number) -> bool:
            workspace, made = open_workspace(own.workspace), []
            inside = layout.night(LATER).path
            for step in prepare(Context(workspace, own, LATER)):
                made.append(step)
                if not where and len(made) == 1 + number % 7:
                    where.append(flip(workspace.store, draw.choice(workspace.store.list(inside)), draw))  # type: ignore[arg-type]
                    if number % 2:
                        # As after a kill: the run begins again.
                        return night(own, where)
            workspace.nights.publish(LATER, made, own)
            return True

        now = files(Path(own.workspace)) if outcome(night) else None
        # What no step reads any more is published as it is, and `verify` says so.
        if now and now != expected and not verify_finds(own):
            broken.append(f"published: {where[0]}")
    return tries, broken


def removed(cfg: Config, folder: Path) -> tuple[int, list[str]]:
    """Remove each published file, record and pointer alone, then whole folders; return what `verify` misses."""
    store, broken = LocalStore(cfg.workspace), []
    paths = store.list()
    folders = ["pairs", "forgotten", "published", "reports", "tuned", f"nights/{NIGHTS[1]}", f"reports/{NIGHTS[0]}"]
    folders += sorted({layout.folder_of(path) for path in records(paths) if path.startswith("models/")})
    for path in [*paths, *folders]:
        own = LocalStore(copy(cfg, folder / "removed").workspace)
        own.delete_tree(path) if path in folders else own.delete(path)
        if not checking.verify(Workspace(own))[1]:
            broken.append(f"verify: {path} removed")
    return len(paths) + len(folders), broken


def attack(folder: Path, tries: int, seed: int) -> list[Row]:
    """Return the rows of damaged bytes: `tries` flips of each kind of file, as many between steps, and removals."""
    draw = random.Random(seed)
    cfg, ids = story(folder / "story")
    pauses, checking.PAUSES_S = checking.PAUSES_S, ()
    try:
        bits = list(flipped(cfg, ids, folder, tries, draw))
        return [
            Row(
                "one bit flipped in any published file, record or pointer, then each command: used without a word",
                sum(n for n, _ in bits),
                [text for _, some in bits for text in some],
            ),
            Row("one bit flipped between stages: published", *between(cfg, folder, tries, draw)),
            Row("any published file, record or pointer removed: missed by `verify`", *removed(cfg, folder)),
        ]
    finally:
        checking.PAUSES_S = pauses
