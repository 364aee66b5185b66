"""Options that commands share, and how they become a configuration."""

from __future__ import annotations

import functools
import inspect
import json
import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import cached_property
from logging.handlers import MemoryHandler
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from slimpajama.core.console import console, use_json
from slimpajama.core.errors import InputError, StorageError, printable_lines
from slimpajama.core.logs import log, logged_to

if TYPE_CHECKING:
    from slimpajama.core.config import Config
    from slimpajama.model.loading import Loaded
    from slimpajama.workspace.open import Workspace


DEFAULT_FILE = "slimpajama.toml"
KEYWORD = inspect.Parameter.KEYWORD_ONLY
FIELDS = "__dataclass_fields__"


def unicode_only(name: str) -> str:
    """Return a name, or refuse it before anything starts: it becomes part of what is published."""
    try:
        name.encode()
    except UnicodeEncodeError:
        raise typer.BadParameter(f"bytes that are no UTF-8 in {name!a}") from None
    return name


Night = Annotated[
    str, typer.Option(callback=unicode_only, help="Name of the night; default: an unfinished one, else today in UTC.")
]
Model = Annotated[
    str | None,
    typer.Option(help="Model to use, or a folder that `export` wrote; default: the champion.", metavar="ID_OR_DIR"),
]
NoMemory = Annotated[bool, typer.Option("--no-memory", help="Use the network alone, without what it looks up.")]
TextFiles = Annotated[list[Path] | None, typer.Option("--text", help="UTF-8 text file; - reads stdin.", metavar="FILE")]


@dataclass
class Common:
    """Options that nearly every command takes, and what they lead to."""

    workspace: Annotated[
        str | None,
        typer.Option(help="Folder or s3://bucket/prefix; overrides the configuration's.", metavar="DIR_OR_URI"),
    ] = None
    config: Annotated[
        str | None,
        typer.Option("--config", help=f"Configuration; ./{DEFAULT_FILE} where it exists.", metavar="FILE.toml"),
    ] = None
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Override one setting, for example train.tokens=4000000.", metavar="KEY=VALUE"),
    ] = None
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout as the last line.")] = False

    def after(self, group: Common) -> Common:
        """Return these options of a sub-command; those that it was not given are as they were given before it."""
        return replace(self, **{one.name: getattr(self, one.name) or getattr(group, one.name) for one in fields(self)})

    @cached_property
    def cfg(self) -> Config:
        """The configuration that the command line asks for."""
        return self.settings()

    def settings(self, *overrides: str) -> Config:
        """Return the configuration with further overrides."""
        from slimpajama.core.config import load_config

        file = DEFAULT_FILE if self.config is None and Path(DEFAULT_FILE).is_file() else self.config
        # Only the configuration says whether its own messages are to be JSON.
        held = MemoryHandler(100, logging.CRITICAL + 1)
        with logged_to(held):
            cfg = load_config(file, [*(self.set_ or []), *overrides], self.workspace)
        use_json(cfg.observe.logs == "json")
        with console(bars=False):
            for record in held.buffer:
                log.handle(record)
        return cfg

    def open(self) -> Workspace:
        """Return the workspace that a command reads."""
        uri = self.cfg.workspace
        if "://" not in uri and not Path(uri).is_dir():
            raise StorageError("no such workspace", where=uri, hint="Name it with --workspace or --config.")
        return workspace_of(self.cfg)

    def load_model(self, model: str | None, memory: bool = True) -> Loaded:
        """Return the model that `--model` names: of the workspace, or an exported folder, which needs none."""
        from slimpajama.model.loading import is_exported, load_exported, load_model

        if model and is_exported(model):
            return load_exported(Path(model), memory)
        return load_model(self.open(), model, memory)

    def emit(self, value: dict[str, Any], text: str) -> None:
        """Print a command's result: for people, or as one JSON object on the last line."""
        # Another encoding may lack letters, which JSON spells in its own way.
        plain = (sys.stdout.encoding or "utf-8").lower() != "utf-8"
        print(json.dumps(value, ensure_ascii=plain) if self.as_json else text, flush=True)


def workspace_of(cfg: Config) -> Workspace:
    """Return the workspace that a command writes to; a folder is made where it is missing."""
    from slimpajama.workspace.open import open_workspace

    return open_workspace(cfg.workspace)


def expanded(function: Callable[..., Any], *without: str) -> Callable[..., Any]:
    """Return a command for typer, which knows no groups: a parameter that is a dataclass becomes its fields.

    The options of `Common` stand last.

    Args:
        without: Fields that this command does not offer; they keep their defaults.
    """
    hints = get_type_hints(function, include_extras=True)
    groups: dict[str, type[Any]] = {name: kind for name, kind in hints.items() if hasattr(kind, FIELDS)}
    parameters: list[inspect.Parameter] = []
    for name, parameter in sorted(inspect.signature(function).parameters.items(), key=lambda item: item[0] == "common"):
        if name in groups:
            kinds = get_type_hints(groups[name], include_extras=True)
            for field in fields(groups[name]):
                if field.name not in without:
                    option = inspect.Parameter(field.name, KEYWORD, default=field.default, annotation=kinds[field.name])
                    parameters.append(option)
        else:
            parameters.append(parameter.replace(kind=KEYWORD, annotation=hints[name]))

    @functools.wraps(function)
    def command(**given: Any) -> Any:
        for name, group in groups.items():
            own = [field.name for field in fields(group) if field.name in given]
            given[name] = group(**{field: given.pop(field) for field in own})
        return function(**given)

    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return command


def read_text(paths: list[Path] | None) -> str:
    """Return the text of the files one after the other; stdin for `-` or where there is none."""
    texts = []
    for path in paths or [Path("-")]:
        try:
            data = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
            texts.append(data.decode("utf-8"))
        except UnicodeDecodeError as error:
            raise InputError(f"not UTF-8 at byte {error.start}", where=str(path)) from None
        except OSError as error:
            raise InputError(f"cannot be read: {error.strerror}", where=str(path)) from None
    return "".join(texts)


def shown(text: str) -> str:
    """Return what a model or a corpus says as a terminal may see it: control characters spelt out."""
    return printable_lines(text) if sys.stdout.isatty() else text
