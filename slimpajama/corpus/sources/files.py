"""A raw file of any format as batches, plain or packed; `formats.py` lists the readers.

A file is read in chunks, in order; any thread may parse a chunk. A record that cannot be used becomes a
`RejectedRecord`: its place, the rule that it breaks and what was seen. Reading goes on after it. Where the rest of a
file is lost (a cut archive, a failing disk), one `RejectedRecord` says so after the good records.
"""

from collections.abc import Callable, Iterator
from typing import BinaryIO

from slimpajama.core.config import IngestConfig, SourceConfig
from slimpajama.corpus.sources.formats import BY_FORMAT, format_of, unknown_format
from slimpajama.corpus.sources.records import Batch, Chunk, ReadOptions, RejectedRecord, failed, seen
from slimpajama.corpus.sources.streams import BLOCK, BrokenStreamError, truncated
from slimpajama.workspace.store import outside_errors


def chunks(open_file: Callable[[], BinaryIO], name: str, options: ReadOptions) -> Iterator[Chunk]:
    """Yield the chunks of a file in order.

    Args:
        open_file: Opens it for reading bytes, each time it is called.
        name: Its name, by whose endings packing and, for `auto`, format are known.
        options: What is taken from it.
    """
    reader = BY_FORMAT.get(format_of(name, options.format))
    if not reader:
        yield failed(unknown_format(name))
        return
    try:
        with open_file() as file:
            yield from reader.read(file, *[open_file] * reader.reopens, name, options)
    except BrokenStreamError as error:
        yield failed(RejectedRecord("", error.rule, seen(error.value), "a file that is whole"))
    except OSError as error:
        yield failed(RejectedRecord("", "unreadable", seen(error.strerror or error)))
    except outside_errors() as error:
        raise truncated(name, error) from None


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
        extract=source.extract,
        text_fields=source.text_fields(),
        id_field=source.id_field,
        batch_bytes=min(BLOCK, int(cfg.part_mb * 1e6)),
    )
