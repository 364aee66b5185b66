"""A configuration out of a TOML file and `--set` overrides; every problem is one line."""

import difflib
import tomllib
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from slimpajama.core.config.applications import PairSourceConfig
from slimpajama.core.config.corpus import SourceConfig
from slimpajama.core.config.renamed import new_name, with_new_names
from slimpajama.core.config.whole import SECTIONS, Config
from slimpajama.core.errors import ConfigError, masked

# A larger file is no configuration; a device, for one, has no end.
FILE_BYTES = 1_000_000
_SETTINGS = "docs/configuration.md has every setting."


def parse_override(text: str) -> tuple[list[str], Any]:
    """Split `section.key=value`; the value is TOML, or a bare string where it is no TOML."""
    path, sep, raw = text.partition("=")
    if not sep or not path.strip():
        raise ConfigError("not an override", where=f"--set {text}", expected="section.key=value")
    try:
        value = tomllib.loads(f"v = {raw}")["v"]
    except (ValueError, RecursionError):
        value = raw
    return new_name(path.strip()).split("."), value


def load_config(
    path: str | Path | None = None, overrides: list[str] | None = None, workspace: str | None = None
) -> Config:
    """Read a TOML file, apply `--set` overrides and check everything.

    Args:
        path: Configuration file; None for the defaults.
        overrides: `section.key=value` texts, later ones win.
        workspace: Takes precedence over the file's; relative to the current folder.

    Raises:
        ConfigError: One line a problem: field, expected, found.
    """
    data: dict[str, Any] = {}
    base = Path.cwd()
    if path is not None:
        file = Path(path)
        try:
            with file.open("rb") as stream:
                raw = stream.read(FILE_BYTES + 1)
            if len(raw) > FILE_BYTES:
                raise ValueError(f"more than {FILE_BYTES} bytes")
            data = tomllib.loads(raw.decode("utf-8-sig"))
        except FileNotFoundError:
            raise ConfigError("no such file", where=str(file), hint="Name a TOML file with --config.") from None
        except (ValueError, RecursionError, OSError) as error:
            # It is not UTF-8 or not TOML, has too long a number, or nests too deeply.
            raise ConfigError(f"not readable as TOML: {error}", where=str(file), hint=_SETTINGS) from None
        data, base = with_new_names(data), file.resolve().parent
    for text in overrides or []:
        keys, value = parse_override(text)
        node = data
        for key in keys[:-1]:
            node = node.setdefault(key, {})
            if not isinstance(node, dict):
                raise ConfigError("not a section", where=f"--set {text}", found=repr(node))
        node[keys[-1]] = value
    if workspace is not None:
        data["workspace"] = workspace if "://" in workspace else str(Path(workspace).resolve())
    config = validate(data, str(path) if path else "settings")
    try:
        return resolve_paths(config, base)
    except ValidationError:
        hint = "Name the folder in UTF-8, or run from another."
        raise ConfigError("the folder's name holds bytes that are no UTF-8", where=str(base), hint=hint) from None


def validate(data: dict[str, Any], where: str = "settings") -> Config:
    """Return the configuration of plain data, or raise one `ConfigError` that lists every problem."""
    try:
        return TypeAdapter(Config).validate_python(data)
    except ValidationError as error:
        problems = "; ".join(_problem(dict(details)) for details in error.errors())
        raise ConfigError(problems, where=where, hint=_SETTINGS) from None


def _problem(details: dict[str, Any]) -> str:
    """Return one validation problem as `field: expected, found`."""
    *parents, last = details["loc"] or ("",)
    name = ".".join(str(part) for part in details["loc"])
    if details["type"] == "unexpected_keyword_argument":
        close = difflib.get_close_matches(str(last), _keys(parents), n=1)
        return f"{name}: unknown setting" + (f", did you mean {close[0]}" if close else "")
    message = details["msg"].removeprefix("Value error, ")
    shown = details["input"]
    plain = isinstance(shown, str | int | float | bool | list)
    return f"{name}: {message[0].lower()}{message[1:]}".removeprefix(": ") + (
        f", found {masked(repr(shown))[:80]}" if plain else ""
    )


def _keys(path: list[Any]) -> list[str]:
    """Return the keys of the section at `path`."""
    section: Any = Config
    for part in path:
        if isinstance(part, str):
            kind = PairSourceConfig if path[0] == "pairs" else SourceConfig
            section = {"sources": kind, "evaluations": kind}.get(part) or SECTIONS.get(part, Config)
    return [f.name for f in fields(section)]


def resolve_paths(config: Config, base: Path) -> Config:
    """Return `config` with a relative workspace made absolute against `base`.

    The sources' patterns stay relative: they are part of ids and manifests, which must not depend on
    where a folder lies. `run.source_root` is what ingest opens them against.
    """

    def absolute(path: str) -> str:
        return str((base / path).resolve()) if path and "://" not in path else path

    return replace(
        config,
        workspace=absolute(config.workspace),
        run=replace(config.run, source_root=str((base / config.run.source_root).resolve())),
        train=replace(config.train, tensorboard=absolute(config.train.tensorboard)),
        observe=replace(
            config.observe, openlineage=absolute(config.observe.openlineage), metrics=absolute(config.observe.metrics)
        ),
    )
