"""A raw file of any format as batches, plain or packed; `formats.py` lists the readers.

A file is read in chunks, in order; any thread may parse a chunk. A record that cannot be used becomes a
`RejectedRecord`: its place, the rule that it breaks and what was seen. Reading goes on after it. Where the rest of a
file is lost (a cut archive, a failing disk), one `RejectedRecord` says so after the good records.
"""

from collections.abc import Callable, Iterator
from typing import BinaryIO

from slimpajama.core.config import IngestConfig, SourceConfig
from slimpajama.corpus.sources.archives import Inside, members
from slimpajama.corpus.sources.formats import BY_FORMAT, format_of, unknown_format
from slimpajama.corpus.sources.records import Batch, Chunk, ReadOptions, RejectedRecord, failed, seen
from slimpajama.corpus.sources.streams import BLOCK, BrokenStreamError, is_zip, truncated
from slimpajama.workspace.store import outside_errors


def chunks(open_file: Callable[[], BinaryIO], name: str, options: ReadOptions) -> Iterator[Chunk]:
    """Yield the chunks of a file in order.

    Args:
        open_file: Opens it for reading bytes, each time it is called.
        name: Its name, by whose endings packing and, for `auto`, format are known.
        options: What is taken from it.
    """
    for inside, found in _by_file(open_file, name, options):
        yield from map(inside.chunk, found)


def _by_file(
    open_file: Callable[[], BinaryIO], name: str, options: ReadOptions
) -> Iterator[tuple[Inside, Iterator[Chunk]]]:
    """Yield the chunks of a file or, of an archive, those of each file in it."""
    if not is_zip(name):
        yield Inside(), _whole(open_file, name, options)
        return
    try:
        with open_file() as file:
            for inside, member in members(file):
                if isinstance(member, RejectedRecord):
                    yield inside, iter([failed(member)])
                else:
                    yield inside, _whole(member, inside.name, options)
    except outside_errors(BrokenStreamError) as error:
        yield Inside(), iter([failed(_why(name, error))])


def _whole(open_file: Callable[[], BinaryIO], name: str, options: ReadOptions) -> Iterator[Chunk]:
    reader = BY_FORMAT.get(format_of(name, options.format))
    if not reader:
        yield failed(unknown_format(name))
        return
    try:
        with open_file() as file:
            yield from reader.read(file, *[open_file] * reader.reopens, name, options)
    except outside_errors(BrokenStreamError) as error:
        yield failed(_why(name, error))


def _why(name: str, error: Exception) -> RejectedRecord:
    """Return why a file, or the rest of it, cannot be read.

    Raises:
        InputError: A connection broke off.
    """
    if isinstance(error, BrokenStreamError):
        return RejectedRecord("", error.rule, seen(error.value), "a file that is whole")
    if isinstance(error, OSError):
        return RejectedRecord("", "unreadable", seen(error.strerror or error))
    raise truncated(name, error) from None


def read(open_file: Callable[[], BinaryIO], name: str, options: ReadOptions) -> Iterator[Batch]:
    """Yield the batches of a file, at least one record or one `RejectedRecord`; arguments as for `chunks`."""
    empty = failed(RejectedRecord("", "empty-file", "no record", "at least one record"))
    n_files = 0
    for inside, parts in _by_file(open_file, name, options):
        found, n_files = 0, n_files + 1
        for chunk in parts:
            for batch in chunk.read():
                found += batch.table.num_rows + len(batch.rejected)
                yield inside.moved(batch)
        if not found:
            yield from map(inside.moved, empty.read())
    if not n_files:
        yield from empty.read()


def read_options(source: SourceConfig, cfg: IngestConfig) -> ReadOptions:
    """Return what is taken from a source's files."""
    return ReadOptions(
        max_document_bytes=int(cfg.max_document_mb * 1e6),
        format=source.format,
        encoding=source.encoding,
        delimiter=source.delimiter,
        quote=source.quote,
        extract=source.extract,
        text_fields=source.text_fields(),
        id_field=source.id_field,
        html=source.html,
        split=source.split,
        batch_bytes=min(BLOCK, int(cfg.part_mb * 1e6)),
    )
