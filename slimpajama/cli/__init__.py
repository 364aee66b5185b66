"""The command line: `slimpajama COMMAND --help` shows each command with an example.

Data goes to stdout, progress and messages to stderr. Exit code 0 done, 1 failed, 2 wrong usage, settings or machine:
somebody has to change something, 130 Ctrl-C. Commands import what they need when they run, so that `--help` answers at
once.
"""

from __future__ import annotations

import gc
import logging
import sys
from collections.abc import Callable
from typing import Any

import typer

from slimpajama.cli import applications, corpus, exchange, lifecycle, model
from slimpajama.cli.options import expanded
from slimpajama.core.console import console
from slimpajama.core.logs import log
from slimpajama.core.machine import OutputError, drop_output, of_machine, require_machine
from slimpajama.core.stopping import INTERRUPTED, end_now, still_ctrl_c, stopped

__all__ = ["app", "main"]

# Below that, numpy does not load.
ADDRESS_SPACE = 1 << 30
# What these print is all that they do.
SHOW = {
    *("answer", "explain", "generate", "lm-eval", "models", "nights", "reconstruct", "score", "summarize"),
    *("trace", "translate", "verify"),
}
SHOWING = {"-h", "--help", "--dry-run"}
# The class of the click that typer uses, which may be a copy of its own.
UsageError: Any = typer.BadParameter.__mro__[1]

app = typer.Typer(
    name="slimpajama",
    help="A growing pile of Chinese and English text in, a small language model out, again every night.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
models = typer.Typer(rich_markup_mode=None, invoke_without_command=True)


def _add(*commands: Callable[..., Any], without: tuple[str, ...] = ()) -> None:
    """Add commands, `without` some of the common options."""
    for command in commands:
        app.command()(expanded(command, *without))


_add(lifecycle.run, lifecycle.prepare, lifecycle.train, lifecycle.evaluate, lifecycle.tune, lifecycle.clean_up)
_add(corpus.demo_corpus, without=("workspace", "config", "set_"))
_add(corpus.dedup, without=("workspace",))
_add(corpus.explain, corpus.forget, corpus.nights, corpus.trace, without=("set_",))
_add(corpus.verify)
_add(model.score, model.reconstruct, without=("set_",))
_add(model.generate)
_add(model.serve, without=("as_json",))
_add(exchange.export, exchange.compress, exchange.decompress, exchange.lm_eval, without=("set_",))
_add(applications.pairs, applications.summarize, applications.translate, applications.answer)
models.callback()(expanded(model.models, "set_"))
models.command()(expanded(model.promote, "set_"))
models.command()(expanded(model.rollback, "set_"))
app.add_typer(models, name="models")


def main(arguments: list[str] | None = None) -> None:
    """Run one command and end the process with its exit code."""
    code = run(sys.argv[1:] if arguments is None else arguments)
    if code == INTERRUPTED:
        end_now()
    # Otherwise the last garbage collection visits every library's objects, which takes 3 s after a night.
    gc.freeze()
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code; an error of the user or of the machine is one line, no traceback."""
    try:
        require_machine(RLIMIT_AS=ADDRESS_SPACE)
        with still_ctrl_c():
            result = typer.main.get_command(app).main(arguments, prog_name="slimpajama", standalone_mode=False)
            sys.stdout.flush()
        # Typer returns this after a KeyboardInterrupt.
        if result == INTERRUPTED:
            raise KeyboardInterrupt
        return result if isinstance(result, int) else 0
    except UsageError as error:
        error.show()
        return 2
    except (KeyboardInterrupt, typer.Abort):
        _say(logging.ERROR, stopped())
        return INTERRUPTED
    except OutputError as error:
        drop_output()
        if SHOW.isdisjoint(arguments[:1]) and SHOWING.isdisjoint(arguments):
            _say(logging.WARNING, f"{error}. The command has done its work; only its result could not be shown.")
            return 0
        # The reader of our output may have ended, as `head` does.
        if not isinstance(error.__cause__, BrokenPipeError):
            _say(logging.ERROR, str(error))
        return error.exit_code
    except Exception as error:
        if known := of_machine(error):
            _say(logging.ERROR, str(known))
            return known.exit_code
        raise


def _say(level: int, text: str) -> None:
    with console(bars=False):
        log.log(level, text)
