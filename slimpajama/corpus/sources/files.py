"""A raw file of any format as batches: text, JSON lines, CSV, Parquet, HTML, Arrow, WARC, plain or packed.

Whoever reads a file's bytes hands out pieces in order; parsing one is left to any thread. A record that cannot be
used becomes a `Bad` with its place, the rule it broke and what was seen, and reading goes on. Where the rest of a
file is lost (a cut archive, a failing disk), one `Bad` says so after the good records.

A text or HTML file is one document; a JSON line, a CSV, Parquet or Arrow row and a WARC response are one each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import BinaryIO

from slimpajama.core.config import IngestConfig, SourceConfig
from slimpajama.corpus.sources.jsonl import read_jsonl
from slimpajama.corpus.sources.pages import read_page
from slimpajama.corpus.sources.records import Bad, Batch, Piece, Want, failed, seen
from slimpajama.corpus.sources.streams import BLOCK, PACKINGS, BrokenStreamError, broke_off
from slimpajama.corpus.sources.tables import read_arrow, read_csv, read_parquet
from slimpajama.corpus.sources.warc import read_warc
from slimpajama.workspace.store import faults

_SUFFIXES = {
    **dict.fromkeys((".txt", ".text", ".md", ".rst"), "txt"),
    **dict.fromkeys((".jsonl", ".ndjson"), "jsonl"),
    **dict.fromkeys((".html", ".htm", ".xhtml"), "html"),
    ".csv": "csv",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".warc": "warc",
}


# Formats whose records have fields.
TABLES = {"jsonl", "csv", "parquet", "arrow"}


def format_of(name: str, wanted: str = "auto", suffixes: Mapping[str, str] = _SUFFIXES) -> str:
    """Return the format that is wanted or, for `auto`, that a file's name tells; empty where it does not.

    Args:
        name: Of the file; endings of packings are looked through.
        wanted: A format, or `auto`.
        suffixes: Format by the name's ending.
    """
    if wanted != "auto":
        return wanted
    plain = name.lower()
    for packing in PACKINGS:
        plain = plain.removesuffix(packing)
    dot = plain.rfind(".")
    return suffixes.get(plain[dot:], "") if dot >= 0 else ""


def pieces(open_file: Callable[[], BinaryIO], name: str, want: Want) -> Iterator[Piece]:
    """Yield the parts of a file in order.

    Args:
        open_file: Opens it for reading bytes, each time it is called.
        name: Its name, by whose endings packing and, for `auto`, format are known.
        want: What is taken from it.
    """
    kind = format_of(name, want.format)
    if not kind:
        yield failed(Bad("", "unknown-format", seen(name.rsplit("/", 1)[-1][-80:]), ", ".join(_SUFFIXES)))
        return
    try:
        with open_file() as file:
            if kind == "parquet":
                yield from read_parquet(file, open_file, name, want)
            else:
                yield from _READERS[kind](file, name, want)
    except BrokenStreamError as error:
        yield failed(Bad("", error.rule, seen(error.value), "a file that is whole"))
    except OSError as error:
        yield failed(Bad("", "unreadable", seen(error.strerror or error)))
    except faults() as error:
        raise broke_off(name, error) from None


_READERS: dict[str, Callable[[BinaryIO, str, Want], Iterator[Piece]]] = {
    "txt": partial(read_page, html=False),
    "html": partial(read_page, html=True),
    "jsonl": read_jsonl,
    "csv": read_csv,
    "arrow": read_arrow,
    "warc": read_warc,
}


def read(open_file: Callable[[], BinaryIO], name: str, want: Want) -> Iterator[Batch]:
    """Yield the batches of a file, at least one record or one `Bad`; arguments as for `pieces`."""
    found = 0
    for piece in pieces(open_file, name, want):
        for batch in piece.read():
            found += batch.table.num_rows + len(batch.bad)
            yield batch
    if not found:
        yield from failed(Bad("", "empty-file", "no record", "at least one record")).read()


def wanted(source: SourceConfig, cfg: IngestConfig) -> Want:
    """Return what is taken from a source's files."""
    return Want(
        max_document_bytes=int(cfg.max_document_mb * 1e6),
        format=source.format,
        text_fields=source.text_fields(),
        id_field=source.id_field,
        batch_bytes=min(BLOCK, int(cfg.part_mb * 1e6)),
    )
