"""Odd machines: a whole night, by the command line, under each; it is published with exit code 0, or says why not.

No try may end in a traceback, hang, or lose what it did; what cannot start says so within 20 s.
"""

from __future__ import annotations

import os
import random
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from benchmarks.attacks import Row
from benchmarks.attacks.settings import write_raw

SECONDS, REFUSAL_S = 300, 20
PROGRAM = Path(sys.executable).with_name("slimpajama")
# Below it no folder can be made, by root neither.
NOWHERE = "/proc/none"
# Somebody without a home, and without a right to any file here.
NOBODY = 54321
PUBLISHED, REFUSED = (0,), (2,)
TOML = """workspace = "workspace"
[[ingest.sources]]
name = "a"
uri = "raw/*.jsonl"
[tokenizer]
vocab_size = 600
[shards]
validation_share = 0.1
test_share = 0.1
[model]
preset = "tiny"
[train]
tokens = 4096
batch_tokens = 2048
[evaluate]
bootstrap = 100
[generate]
max_tokens = 4
"""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What is odd, and how a night may end under it."""

    expected: tuple[int, ...] = PUBLISHED
    environment: dict[str, str | None] = field(default_factory=dict)
    """Variables; None takes one away."""

    shell: str = 'exec "$@"'
    """Of the shell that starts the command, `"$@"`."""

    before: Callable[[Path], object] = lambda folder: None
    """Prepares the folder that holds the configuration."""

    arguments: tuple[str | bytes, ...] = ()
    says: str = ""
    """What it must say."""

    user: int = 0
    """Where it is not 0, the command runs as this user; left out where that one cannot run Python."""


def limited(what: str, expected: tuple[int, ...] = REFUSED, says: str = "") -> Machine:
    """Return a machine with a limit of the shell, `ulimit`."""
    return Machine(shell=f'ulimit {what} && exec "$@"', expected=expected, says=says)


def variable(name: str, value: str | None, expected: tuple[int, ...] = PUBLISHED, says: str = "") -> Machine:
    """Return a machine with one variable of the environment."""
    return Machine(environment={name: value}, expected=expected, says=says)


def odd_names(folder: Path) -> None:
    """Give raw files names that are no UTF-8, or have line ends, and Chinese ones."""
    for name in (b"\xff\xfe.jsonl", b"a\nb.jsonl", "原文.jsonl".encode()):
        shutil.copy(folder / "raw/a.jsonl", os.fsencode(folder / "raw") + b"/" + name)


def file_in_place(name: str, content: bytes = b"") -> Callable[[Path], object]:
    """Return what puts a file into the folder."""
    return lambda folder: (folder / name).write_bytes(content)


def hostile_modules(folder: Path) -> None:
    """Put modules beside the configuration that are named like ours and like Python's."""
    for name in ("tasks", "random", "logging", "numpy"):
        (folder / f"{name}.py").write_text("raise SystemExit('a module of the working folder')", encoding="utf-8")


LOST = "only its result could not be shown"
MACHINES: dict[str, Machine] = {
    "a terminal in ASCII": variable("PYTHONIOENCODING", "ascii"),
    "a terminal in GBK": variable("PYTHONIOENCODING", "gbk"),
    "a locale without UTF-8": Machine(
        environment={"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, before=odd_names
    ),
    "a locale that there is not": variable("LC_ALL", "xx_YY.none"),
    "stdout is full": Machine(shell='exec "$@" > /dev/full', says=LOST),
    "stdout is closed": Machine(shell='exec "$@" >&-', says=LOST),
    "stdout is a pipe that nobody reads": Machine(shell='"$@" | true; exit ${PIPESTATUS[0]}', says=LOST),
    "stderr is full": Machine(shell='exec "$@" 2> /dev/full'),
    "stderr is closed": Machine(shell='exec "$@" 2>&-'),
    "stderr is a pipe that nobody reads": Machine(shell='{ "$@" 2>&1 >&3 | true; exit ${PIPESTATUS[0]}; } 3>&1'),
    "stdin, stdout and stderr are closed": Machine(shell='exec "$@" <&- >&- 2>&-'),
    "stdin is closed": Machine(shell='exec "$@" <&-'),
    "stdout and stderr are full": Machine(shell='exec "$@" > /dev/full 2>&1'),
    "the working folder is gone": Machine(
        shell='mkdir gone && cd gone && rmdir ../gone && exec "$@"', expected=REFUSED, says="working directory"
    ),
    "the working folder is not UTF-8": Machine(shell="mkdir $'\\xff' && cd $'\\xff' && exec \"$@\""),
    "the configuration's folder is not UTF-8": Machine(
        shell="mkdir $'\\xff' && cp -r night.toml raw $'\\xff' && cd $'\\xff' && exec \"$@\"",
        arguments=("--config", "night.toml"),
        expected=REFUSED,
        says="no UTF-8",
    ),
    "the workspace's name is not UTF-8": Machine(
        arguments=("--workspace", b"w\xff"), expected=REFUSED, says="no UTF-8"
    ),
    "a night's name is not UTF-8": Machine(arguments=("--night", b"n\xff"), expected=REFUSED),
    "an option is not UTF-8": Machine(arguments=("--set", b"train.tokens=\xff"), expected=REFUSED),
    "raw files with names that are not UTF-8": Machine(before=odd_names),
    "a home that cannot be written": Machine(
        environment={"HOME": NOWHERE, "PREFECT_HOME": None}, expected=REFUSED, says="Set PREFECT_HOME"
    ),
    "Prefect's home cannot be written": variable("PREFECT_HOME", NOWHERE, REFUSED, "Set PREFECT_HOME"),
    "Prefect's home is a file": variable("PREFECT_HOME", "/dev/null", REFUSED, "Set PREFECT_HOME"),
    "Prefect's home is not UTF-8": variable("PREFECT_HOME", "/tmp/\udcff", (0, 2)),
    "no home at all": variable("HOME", None),
    "a user without a name or a home": Machine(environment={"HOME": NOWHERE}, user=NOBODY),
    "no folder for compiled code": Machine(
        environment={"NUMBA_CACHE_LOCATOR_CLASSES": "UserProvidedCacheLocator", "NUMBA_CACHE_DIR": None},
        says="NUMBA_CACHE_DIR",
    ),
    "a workspace of somebody else": Machine(
        environment={"HOME": NOWHERE}, user=NOBODY, arguments=("--workspace", "/root/none"), expected=REFUSED
    ),
    "no folder for temporary files": variable("TMPDIR", NOWHERE),
    "a workspace that cannot be made": Machine(arguments=("--workspace", f"{NOWHERE}/w"), expected=(1, 2)),
    "a workspace that is a file": Machine(before=file_in_place("w"), arguments=("--workspace", "w"), expected=REFUSED),
    "a configuration that is a device": Machine(arguments=("--config", "/dev/zero"), expected=REFUSED),
    "files of no size (ulimit -f 0)": limited("-f 0", says="ulimit -f"),
    "files of 2 MB (ulimit -f)": limited("-f 2000", says="ulimit -f"),
    "300 MB of address space (ulimit -v)": limited("-v 300000", says="ulimit -v"),
    "2 GB of address space (ulimit -v)": limited("-v 2000000", says="ulimit -v"),
    "8 GB of address space (ulimit -v)": limited("-v 8000000", PUBLISHED),
    "16 open files (ulimit -n)": limited("-n 16", says="ulimit -n"),
    "256 open files (ulimit -n)": limited("-n 256", PUBLISHED),
    "a stack of 1 MB (ulimit -s)": limited("-s 1024", PUBLISHED),
    "5 s of processor time (ulimit -t)": limited("-t 5", (0, 2, -9, -24, 137, 152)),
    "20 processes (ulimit -u)": Machine(
        shell='ulimit -u 20 && exec "$@"', user=NOBODY, environment={"HOME": NOWHERE}, expected=(2,)
    ),
    "no core but one": Machine(shell='exec taskset -c 0 "$@"'),
    "a time zone that there is not": variable("TZ", "No/Where"),
    "optimised Python": variable("PYTHONOPTIMIZE", "2"),
    "threads that are no number": Machine(environment={"OMP_NUM_THREADS": "many", "OPENBLAS_NUM_THREADS": "x"}),
    "Prefect's address is of nobody": variable("PREFECT_API_URL", "http://127.0.0.1:9/api", (1, 2)),
    "Prefect's address is none": variable("PREFECT_API_URL", "nonsense", (1, 2)),
    "a setting of Prefect is wrong": variable("PREFECT_LOGGING_LEVEL", "bogus", REFUSED, "Prefect does not start"),
    "a .env that is no text": Machine(before=file_in_place(".env", b"\xff\xfe=1\n"), expected=REFUSED, says=".env"),
    "a proxy for everything": Machine(
        environment=dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), "http://127.0.0.1:9")
    ),
    "modules in the working folder": Machine(before=hostile_modules),
    "no network, not even loopback": Machine(shell='exec unshare -n "$@"', expected=REFUSED, says="127.0.0.1"),
    "new files that nobody may read": Machine(shell='umask 777 && exec "$@"', expected=(0, 2)),
    "a narrow terminal that lies": Machine(
        environment={"TERM": "none", "COLUMNS": "many", "LINES": "-1"},
        shell='script -qec "$(printf "%q " "$@")" /dev/null',
    ),
}


class Tried(NamedTuple):
    """How a night ended."""

    wrong: str
    seconds: float


def tried(folder: Path, machine: Machine) -> Tried:
    """Run one night on a machine."""
    write_raw(folder)
    (folder / "night.toml").write_text(TOML, encoding="utf-8")
    machine.before(folder)
    changes: dict[str, str | None] = {
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        **machine.environment,
    }
    environment = {key: value for key, value in (os.environ | changes).items() if value is not None}
    if machine.user:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, machine.user, machine.user)
    command: list[str | bytes] = [str(PROGRAM), "run", "--json"]
    command += [] if "--config" in machine.arguments else ["--config", str(folder / "night.toml")]
    command += [] if "--night" in machine.arguments else ["--night", "n1"]
    began = time.monotonic()
    process = subprocess.Popen(
        [*become(machine.user), "bash", "-c", machine.shell, "bash", *command, *machine.arguments],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        said, code = process.communicate(timeout=SECONDS)[0], process.returncode
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        said, code = process.communicate()[0], None
    seconds = time.monotonic() - began
    return Tried(judged(folder, machine, code, said.decode("utf-8", "replace"), seconds), seconds)


def judged(folder: Path, machine: Machine, code: int | None, text: str, seconds: float) -> str:
    """Return what is wrong with how a night ended; empty where nothing is."""
    index = folder / "workspace/nights/index.json"
    published = index.exists() and "n1" in index.read_text(encoding="utf-8")
    last = (text.strip().splitlines() or ["nothing"])[-1][:300]
    if code is None:
        return f"hung: {last}"
    if "Traceback" in text:
        return f"a traceback, exit code {code}: {last}"
    if code not in machine.expected:
        return f"exit code {code}: {last}"
    if published != (code == 0):
        return f"exit code {code}, and the night is {'' if published else 'not '}published"
    if machine.says not in text:
        return f"says nothing of {machine.says!r}: {last}"
    if machine.expected == REFUSED and seconds > REFUSAL_S:
        return f"took {seconds:.0f} s to say why it cannot start"
    return ""


def can_run(user: int) -> bool:
    """Say whether we can become another user, and that one can run Python."""
    command = [*become(user), "bash", "-c", f'exec {shlex.quote(sys.executable)} -c ""']
    return os.geteuid() == 0 and subprocess.run(command, capture_output=True, check=False).returncode == 0


def become(user: int) -> list[str]:
    """Return what runs a command as another user."""
    return ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"] if user else []


def attack(folder: Path, tries: int, seed: int) -> list[Row]:
    """Run a night on `tries` machines, drawn by the seed; on all where that is 0."""
    names = [name for name, machine in MACHINES.items() if not machine.user or can_run(machine.user)]
    random.Random(seed).shuffle(names)
    # Another user must reach it.
    folder.chmod(0o755)
    broken, longest = [], 0.0
    for number, name in enumerate(names[: tries or None]):
        place = folder / str(number)
        place.mkdir()
        one = tried(place, MACHINES[name])
        if MACHINES[name].expected == REFUSED:
            longest = max(longest, one.seconds)
        broken += [f"{name}: {one.wrong}"] if one.wrong else []
        print(f"{name}: {one.wrong or 'holds'}, {one.seconds:.0f} s", file=sys.stderr, flush=True)
    measure = "odd machines: tracebacks, hangs, lost nights"
    return [Row(measure, len(names[: tries or None]), broken, f"slowest refusal {longest:.0f} s")]
