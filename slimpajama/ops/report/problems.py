"""What went wrong in a night, as the first section of its page."""

from collections.abc import Mapping
from typing import Any

from slimpajama.core.format import number
from slimpajama.core.page import Column, Section, Table, columns


def problems(report: Mapping[str, Any]) -> Section:
    """Return what went wrong with the sources; nothing where all was well."""
    shown = [
        *columns("source", "rule"),
        *columns("records", "files", show=number),
        *columns("first"),
        Column("why", "value"),
        Column("what to write", "hint"),
    ]
    # Reports of earlier versions do not tell.
    rows = report.get("problems", [])
    note = "Records that could not be read, and sources of which cleaning left nothing."
    return Section("What went wrong", [Table(rows, shown)] if rows else [], "problems", note)
