"""A raw file of any format as batches: text, JSON lines, CSV, Parquet, HTML, Arrow, WARC, plain or packed.

A file is read in chunks, in order; any thread may parse a chunk. A record that cannot be used becomes a
`RejectedRecord`: its place, the rule that it breaks and what was seen. Reading goes on after it. Where the rest of a
file is lost (a cut archive, a failing disk), one `RejectedRecord` says so after the good records.

A text or HTML file is one document; a JSON line, a CSV, Parquet or Arrow row and a WARC response are one each.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import BinaryIO

from slimpajama.core.config import IngestConfig, SourceConfig
from slimpajama.corpus.sources.arrow import read_arrow
from slimpajama.corpus.sources.csv import read_csv
from slimpajama.corpus.sources.jsonl import read_jsonl
from slimpajama.corpus.sources.pages import read_page, read_warc
from slimpajama.corpus.sources.parquet import read_parquet
from slimpajama.corpus.sources.records import Batch, Chunk, ReadOptions, RejectedRecord, failed, seen
from slimpajama.corpus.sources.streams import BLOCK, PACKINGS, BrokenStreamError, truncated
from slimpajama.workspace.store import outside_errors

_SUFFIXES = {
    **dict.fromkeys((".txt", ".text", ".md", ".rst"), "txt"),
    **dict.fromkeys((".jsonl", ".ndjson"), "jsonl"),
    **dict.fromkeys((".html", ".htm", ".xhtml"), "html"),
    **dict.fromkeys((".csv", ".tsv"), "csv"),
    ".parquet": "parquet",
    ".arrow": "arrow",
    **dict.fromkeys((".warc", ".wet"), "warc"),
}
# The formats whose records have fields.
TABLES = {"jsonl", "csv", "parquet", "arrow"}


def format_of(name: str, asked_for: str = "auto", suffixes: Mapping[str, str] = _SUFFIXES) -> str:
    """Return the format that is asked for or, for `auto`, that a file's name tells; empty where it does not.

    Endings of packings are looked through; `suffixes` has the format by the ending below.
    """
    if asked_for != "auto":
        return asked_for
    plain = name.lower()
    for packing in PACKINGS:
        plain = plain.removesuffix(packing)
    dot = plain.rfind(".")
    return suffixes.get(plain[dot:], "") if dot >= 0 else ""


def unknown_format(name: str, suffixes: Iterable[str] = _SUFFIXES) -> RejectedRecord:
    """Return that a file's name tells no format."""
    return RejectedRecord("", "unknown-format", seen(name.rsplit("/", 1)[-1][-80:]), ", ".join(suffixes))


def chunks(open_file: Callable[[], BinaryIO], name: str, options: ReadOptions) -> Iterator[Chunk]:
    """Yield the chunks of a file in order.

    Args:
        open_file: Opens it for reading bytes, each time it is called.
        name: Its name, by whose endings packing and, for `auto`, format are known.
        options: What is taken from it.
    """
    kind = format_of(name, options.format)
    if not kind:
        yield failed(unknown_format(name))
        return
    try:
        with open_file() as file:
            if kind == "parquet":
                yield from read_parquet(file, open_file, name, options)
            else:
                yield from _READERS[kind](file, name, options)
    except BrokenStreamError as error:
        yield failed(RejectedRecord("", error.rule, seen(error.value), "a file that is whole"))
    except OSError as error:
        yield failed(RejectedRecord("", "unreadable", seen(error.strerror or error)))
    except outside_errors() as error:
        raise truncated(name, error) from None


_READERS: dict[str, Callable[[BinaryIO, str, ReadOptions], Iterator[Chunk]]] = {
    "txt": partial(read_page, html=False),
    "html": partial(read_page, html=True),
    "jsonl": read_jsonl,
    "csv": read_csv,
    "arrow": read_arrow,
    "warc": read_warc,
}


def read(open_file: Callable[[], BinaryIO], name: str, options: ReadOptions) -> Iterator[Batch]:
    """Yield the batches of a file, at least one record or one `RejectedRecord`; arguments as for `chunks`."""
    found = 0
    for chunk in chunks(open_file, name, options):
        for batch in chunk.read():
            found += batch.table.num_rows + len(batch.rejected)
            yield batch
    if not found:
        yield from failed(RejectedRecord("", "empty-file", "no record", "at least one record")).read()


def read_options(source: SourceConfig, cfg: IngestConfig) -> ReadOptions:
    """Return what is taken from a source's files."""
    return ReadOptions(
        max_document_bytes=int(cfg.max_document_mb * 1e6),
        format=source.format,
        encoding=source.encoding,
        delimiter=source.delimiter,
        quote=source.quote,
        text_fields=source.text_fields(),
        id_field=source.id_field,
        batch_bytes=min(BLOCK, int(cfg.part_mb * 1e6)),
    )
