"""Options that commands share, and how they become a configuration."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from slimpajama.core.config import Config
    from slimpajama.model.loading import Loaded
    from slimpajama.workspace.open import Workspace


DEFAULT_FILE = "slimpajama.toml"

WorkspaceOption = Annotated[
    str | None, typer.Option(help="Folder or s3://bucket/prefix; overrides the configuration's.", metavar="DIR_OR_URI")
]
ConfigFile = Annotated[
    str | None, typer.Option("--config", help=f"Configuration; ./{DEFAULT_FILE} where it exists.", metavar="FILE.toml")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", help="Override one setting, for example train.tokens=4000000.", metavar="KEY=VALUE"),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout as the last line.")]
Night = Annotated[str, typer.Option(help="Name of the night; default: an unfinished one, else today in UTC.")]
Model = Annotated[
    str | None,
    typer.Option(help="Model to use, or a folder that `export` wrote; default: the champion.", metavar="ID_OR_DIR"),
]
TextFiles = Annotated[list[Path] | None, typer.Option("--text", help="UTF-8 text file; - reads stdin.", metavar="FILE")]


def settings(workspace: str | None, config: str | None, overrides: list[str] | None) -> Config:
    """Return the configuration that a command line asks for."""
    from slimpajama.core.config import load_config
    from slimpajama.core.console import use_json

    if config is None and Path(DEFAULT_FILE).is_file():
        config = DEFAULT_FILE
    cfg = load_config(config, overrides, workspace)
    use_json(cfg.observe.logs == "json")
    return cfg


def opened(workspace: str | None, config: str | None, overrides: list[str] | None = None) -> Workspace:
    """Return the workspace that a command reads."""
    from slimpajama.core.errors import StorageError
    from slimpajama.workspace.open import open_workspace

    uri = settings(workspace, config, overrides).workspace
    if "://" not in uri and not Path(uri).is_dir():
        raise StorageError("no such workspace", where=uri, hint="Name it with --workspace or --config.")
    return open_workspace(uri)


def loaded_model(model: str | None, workspace: str | None, config: str | None) -> Loaded:
    """Return the model that `--model` names: of the workspace, or an exported folder, which needs none."""
    from slimpajama.model.loading import is_exported, load_exported, load_model

    if model and is_exported(model):
        return load_exported(Path(model))
    return load_model(opened(workspace, config), model)


def read_text(paths: list[Path] | None) -> str:
    """Return the text of the files one after the other; stdin for `-` or where there is none."""
    from slimpajama.core.errors import InputError

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


def emit(value: dict[str, Any], as_json: bool, text: str) -> None:
    """Print a command's result: for people, or as one JSON object on the last line."""
    print(json.dumps(value, ensure_ascii=False) if as_json else text, flush=True)
