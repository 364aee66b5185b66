"""Commands that start flows: `run`, `prepare`, `train`, `evaluate`, `tune`, `clean-up`.

The only module of the package that knows the flows: the command line stands above them.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.request import getproxies

import typer

from slimpajama.cli.options import Common, Night, NoMemory, workspace_of
from slimpajama.core.console import console
from slimpajama.core.errors import ConfigError
from slimpajama.core.logs import log
from slimpajama.core.machine import require_machine
from slimpajama.workspace import layout

if TYPE_CHECKING:
    from slimpajama.core.config import Config


PREFECT = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    # Of several at once, each waits for those before it.
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "300",
    # Prefect's log is for its UI; here a user reads ours.
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    # Nothing of the current folder runs in processes that we start, whatever its name.
    "PYTHONSAFEPATH": "1",
}
# Of a night, and of each core's threads in it.
ADDRESS_SPACE, THREAD_SPACE = 3 << 30, 64 << 20
# Prefect's database alone grows to many MB.
FILE_BYTES, OPEN_FILES = 100 << 20, 200
Start = Annotated[str, typer.Option("--from", help="Begin an unpublished night again at this step.", metavar="STEP")]
Retry = Annotated[
    list[str] | None,
    typer.Option(help="Try again what this source's files were refused for in earlier nights.", metavar="SOURCE"),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Sample what would be read, say what to expect, and stop.")]


@contextlib.contextmanager
def flow_session(cfg: Config) -> Iterator[Callable[[], None]]:
    """Run flows in this process: our messages go to stderr, Prefect's own to its UI only.

    Yields:
        A function to call when the flow is imported; it waits for Prefect's temporary server, which starts meanwhile.
    """
    space = ADDRESS_SPACE + THREAD_SPACE * (os.cpu_count() or 1)
    require_machine(RLIMIT_AS=space, RLIMIT_FSIZE=FILE_BYTES, RLIMIT_NOFILE=OPEN_FILES)
    # Elsewhere each line belongs to a night, which is not chosen yet.
    if sys.stderr.isatty():
        with console(bars=False):
            log.info("starting Prefect's server, which keeps the record of the run")
    for name, value in PREFECT.items():
        os.environ.setdefault(name, value)
    # A proxy, where one is set, reaches no port of this machine.
    os.environ["no_proxy"] = ",".join(filter(None, (getproxies().get("no"), "127.0.0.1")))
    from slimpajama.core.memory import configure_allocator

    # This comes before Prefect starts threads, which take arenas of their own.
    configure_allocator()
    try:
        from prefect.settings import get_current_settings

        from tasks.server import temporary_server
    except Exception as error:
        hint = "It reads PREFECT_* of the environment, and .env, prefect.toml and pyproject.toml of the current folder."
        raise ConfigError("Prefect does not start", found=" ".join(str(error).split()), hint=hint) from error
    _require_prefect(get_current_settings().home)

    with console(), temporary_server() as ready:
        if "://" not in cfg.workspace:
            # What is wrong with it is said at once, and not when the server has started.
            workspace_of(cfg)
        yield ready


def _require_prefect(home: Path) -> None:
    """Refuse a home of Prefect that cannot be written, and a machine without loopback: a run would wait in vain."""
    try:
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=home) as file:
            file.write(b"any")
    except OSError as error:
        hint = "Set PREFECT_HOME to a folder of yours."
        raise ConfigError(f"cannot be written: {error.strerror}", where=f"Prefect's home {home}", hint=hint) from None
    try:
        with socket.socket(type=socket.SOCK_DGRAM) as anyone:
            anyone.connect(("127.0.0.1", 9))
    except OSError as error:
        hint = "Prefect's server is reached there: bring the loopback interface up."
        raise ConfigError(f"cannot be reached: {error.strerror}", where="127.0.0.1", hint=hint) from None


def run(common: Common, night: Night = "", start: Start = "", retry: Retry = None, dry_run: DryRun = False) -> None:
    """Run the whole lifecycle for one night: prepare, train, evaluate, generate, tune if `tune.nightly` is set, report.

    A run that was killed goes on where it stopped; what is finished is skipped.

    Example: slimpajama run --config demo/demo.toml
    """
    cfg = _trying_again(common, retry)
    if dry_run:
        return show_plan(common, cfg, trains=True)
    with flow_session(cfg) as ready:
        from flows.nightly import nightly

        ready()
        summary = nightly(cfg, night=night, start=start)
    return common.emit(summary.as_dict() | stage_timings(), summary.text())


def _trying_again(common: Common, sources: list[str] | None) -> Config:
    return common.settings(f"run.retry={json.dumps(sources)}") if sources else common.cfg


def stage_timings() -> dict[str, object]:
    """Return how long the steps of this process took, for `--json`."""
    from slimpajama.core.progress import timings

    return {"timings": timings}


def prepare(common: Common, night: Night = "", start: Start = "", retry: Retry = None, dry_run: DryRun = False) -> None:
    """Prepare the corpus only: raw files to published shards.

    Example: slimpajama prepare --config demo/demo.toml --dry-run
    """
    cfg = _trying_again(common, retry)
    if dry_run:
        return show_plan(common, cfg)
    with flow_session(cfg) as ready:
        from flows.corpus import prepare_corpus

        ready()
        manifest = prepare_corpus(cfg, night=night, start=start)
    if manifest is None:
        return common.emit({"night": None, "counts": {}}, "no new or changed file: nothing to do")
    value = {"night": manifest.depends_on["night"], "files": len(manifest.files), "counts": manifest.counts}
    return common.emit(
        value | stage_timings(),
        f"night {value['night']} is published: {cfg.workspace}/{layout.night(value['night']).path}",
    )


def train(common: Common, night: Night = "") -> None:
    """Train a model on a published night, starting from the champion.

    Example: slimpajama train --config demo/demo.toml --set train.tokens=1000000
    """
    from slimpajama.model.train.launch import is_worker

    cfg = common.cfg
    if is_worker():
        return take_part(cfg, night)
    with flow_session(cfg) as ready:
        from flows.model import train_model

        ready()
        model = train_model(cfg, night=night)["train"].model
    return common.emit({"model": model}, f"{cfg.workspace}/{layout.model(model).path}")


def take_part(cfg: Config, night: str) -> None:
    """Train as one of the processes that torchrun started; `train` without torchrun publishes the model."""
    from slimpajama.model.train.stage import train_worker

    space = workspace_of(cfg)
    night = space.nights.choose_published(night)
    train_worker(space, cfg, space.nights.published(), night, space.models.champion_before(night))


def evaluate(
    common: Common,
    night: Night = "",
    model: Annotated[str, typer.Option(help="Model to measure; default: the night's newest.")] = "",
    no_memory: NoMemory = False,
) -> None:
    """Measure a model on held-out text beside the champion, and promote it if it is better.

    Example: slimpajama evaluate --workspace demo/workspace
    """
    cfg = common.settings("memory.enabled=false") if no_memory else common.cfg
    with flow_session(cfg) as ready:
        from flows.model import evaluate_model

        ready()
        report = evaluate_model(cfg, night=night, model=model)["evaluate"]
    bits = ", ".join(f"{k} {v['bits_per_byte']:.4f}" for k, v in report.figures["languages"].items())
    common.emit(asdict(report), f"{report.model}: {bits} bits per byte; {report.reason}")


def tune(
    common: Common,
    night: Night = "",
    model: Annotated[str, typer.Option(help="Model to tune; default: the champion.")] = "",
) -> None:
    """Teach the champion your pairs, so that it summarises, translates and answers; measure it on the test pairs.

    Example: slimpajama tune --config slimpajama.toml --set tune.tokens=8000000
    """
    cfg = common.cfg
    with flow_session(cfg) as ready:
        from flows.model import tune_model

        ready()
        report = tune_model(cfg, night=night, model=model)["tune"]
    common.emit(report.as_dict(), report.text())


def clean_up(
    common: Common, dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and stop.")] = False
) -> None:
    """Remove rejected models, leftovers of finished runs, and old runs in Prefect; champions and corpus stay.

    Example: slimpajama clean-up --config demo/demo.toml --dry-run
    """
    cfg = common.cfg
    with flow_session(cfg) as ready:
        from flows.retention import clean_up as flow

        ready()
        report = flow(cfg, dry_run=dry_run)
    runs = f"{report['runs']} runs of Prefect {'would go' if dry_run else 'removed'}"
    text = f"{report.pop('text')}\n{runs}"
    common.emit(report, text)


def show_plan(common: Common, cfg: Config, *, trains: bool = False) -> None:
    """Print what a run would read, and what it is expected to bring and to cost."""
    from slimpajama.ops.forecast import forecast
    from slimpajama.ops.forecast.text import as_dict, render

    with console():
        expected = forecast(cfg)
    train = cfg.train if trains else None
    common.emit(as_dict(expected, train), render(expected, train))
