"""Makes docs/configuration.md out of the classes: `python -m slimpajama.core.config_docs > docs/configuration.md`."""

import inspect
import json
from dataclasses import MISSING, fields
from typing import Any

from pydantic import TypeAdapter

from slimpajama.core.config import SECTIONS, Config, SourceConfig

HEAD = """# Every setting

A TOML file, named by `--config` (or `slimpajama.toml` in the current folder); `--set section.key=value` overrides one
setting, later ones win. Only `[[ingest.sources]]` must be given. A wrong key, type or value is one line that names it.

This page is made of the classes in `slimpajama/core/config/` by `python -m slimpajama.core.config_docs`; a test
compares them.
"""


def _default(one: Any) -> str:
    if one.default is not MISSING:
        return json.dumps(one.default, ensure_ascii=False)
    return "required" if one.default_factory is MISSING else json.dumps(one.default_factory(), default=str)


def _range(schema: dict[str, Any]) -> str:
    """Return what a number may be, or each number of a table; empty for other settings."""
    schema = schema.get("additionalProperties") or schema
    if "maximum" not in schema:
        return ""
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    above = "above " if "exclusiveMinimum" in schema else ""
    return f"{above}{low:,} to {schema['maximum']:,}".replace(".0 ", " ").removesuffix(".0")


def _section(title: str, cls: Any, skip: tuple[str, ...] = ()) -> list[str]:
    properties = TypeAdapter(cls).json_schema()["properties"]
    lines = [
        "",
        f"## {title}",
        "",
        str(inspect.getdoc(cls)),
        "",
        "| key | default | range | meaning |",
        "|---|---|---|---|",
    ]
    for one in fields(cls):
        if one.name not in skip:
            meaning = " ".join(properties[one.name]["description"].split()).replace("|", "\\|")
            lines.append(f"| `{one.name}` | `{_default(one)}` | {_range(properties[one.name])} | {meaning} |")
    return lines


def render() -> str:
    """Return the page."""
    lines = [HEAD.rstrip(), *_section("Top level", Config, tuple(SECTIONS))]
    lines += _section("`[[ingest.sources]]`, `[[decontaminate.evaluations]]`", SourceConfig)
    for name, cls in SECTIONS.items():
        lines += _section(f"`[{name}]`", cls, ("sources", "evaluations"))
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(render(), end="")
