"""Plain text and web pages: files that are one document each, and archives of what servers answered a crawler."""

import logging
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from typing import Any, BinaryIO

from slimpajama.core.errors import InputError
from slimpajama.corpus.sources.html import TreeTooLargeError, declared_encoding, visible_text
from slimpajama.corpus.sources.records import (
    Chunk,
    Found,
    ReadOptions,
    RejectedRecord,
    collect,
    decoded,
    parsed,
    seen,
    too_large,
)
from slimpajama.corpus.sources.streams import BrokenStreamError, TooLong, Unpacked, blocks, bounded

LONGEST_LINE = 1 << 24  # bytes
_PAGES: dict[str, Callable[[str], str]] = {
    "text/html": visible_text,
    "application/xhtml+xml": visible_text,
    "text/plain": str,
}


def read_page(file: BinaryIO, name: str, options: ReadOptions, convert: Callable[[str], str] = str) -> Iterator[Chunk]:
    """Yield the whole file as one record: what is made of its text."""
    data = bounded(blocks(file, name), options.max_document_bytes)
    if data:
        yield Chunk(partial(collect, [_page_record(1, "", data, None, options, convert)], options), file.tell())


def _page_record(
    number: int,
    place: str,
    data: bytes | TooLong,
    own_id: str | None,
    options: ReadOptions,
    convert: Callable[[str], str],
) -> Found:
    """Return a document of its bytes; of a web page what is visible of it."""
    if isinstance(data, TooLong):
        return too_large(place, data, options.max_document_bytes)
    try:
        encoding = declared_encoding(data) if convert is visible_text else "utf-8"
        text = decoded(data, place, encoding)
        if isinstance(text, RejectedRecord):
            return text
        return options.checked(number, place, convert(text), own_id)
    except LookupError as error:
        return RejectedRecord(place, "invalid-utf8", f"encoding {error.args[0]}", "an encoding of the web")
    except TreeTooLargeError as error:
        return RejectedRecord(place, "too-deep", str(error), "a page that is parsed in seconds")


def read_warc(file: BinaryIO, name: str, options: ReadOptions) -> Iterator[Chunk]:
    """Read the pages of a WARC file; a record's number counts responses from 1, its own id is the target's URI.

    Answers that are no page (redirects, errors, pictures) are no documents and are passed over.

    Raises:
        InputError: `warcio` is not installed.
    """
    try:
        archive = import_module("warcio.archiveiterator").ArchiveIterator
    except ImportError:
        raise InputError(
            "WARC files need the extra `warc`", where=name, hint="pip install 'slimpajama[warc]'"
        ) from None
    # Its warnings would show bytes of the corpus.
    logging.getLogger("warcio").setLevel(logging.CRITICAL)
    plain = Unpacked(_with_lines(blocks(file, name)))
    for batch in collect(_records(archive, plain, options), options):
        yield parsed(batch, file.tell())


def _with_lines(stream: Iterator[bytes]) -> Iterator[bytes]:
    """Stop where no line ends for long: between records `warcio` holds a line of any length."""
    run = 0
    for block in stream:
        run = run + len(block) if b"\n" not in block else len(block) - block.rfind(b"\n")
        if run > LONGEST_LINE:
            raise BrokenStreamError("too-large", f"more than {LONGEST_LINE} bytes without an end of line")
        yield block


def _records(archive: Any, plain: Unpacked, options: ReadOptions) -> Iterator[Found]:
    number = 0
    try:
        iterator = archive(plain)
        # Otherwise this warning, with bytes of the corpus, goes straight to stderr.
        iterator.INC_RECORD = ""
        for record in iterator:
            if record.rec_type != "response":
                continue
            number += 1
            headers = record.http_headers
            kind = (headers.get_header("Content-Type") or "").partition(";")[0].strip().lower() if headers else ""
            if kind not in _PAGES or headers.get_statuscode() != "200":
                continue
            content = record.content_stream()
            data = content.read(options.max_document_bytes + 1)
            whole = TooLong(len(data), complete=False) if len(data) > options.max_document_bytes else data
            missing = getattr(record.raw_stream, "limit", 0)
            if missing > 0 and not record.raw_stream.read(1):
                # If the stream broke off, that is on record instead.
                if plain.error is None:
                    short = f"{missing} bytes fewer than its header says"
                    yield RejectedRecord(f"record {number}", "truncated", short, "a record that is whole")
                continue
            packed = getattr(content, "decompressor", None)
            if isinstance(whole, bytes) and whole and not getattr(packed, "eof", True):
                yield RejectedRecord(
                    f"record {number}", "truncated", "its compression breaks off", "a record that is whole"
                )
                continue
            uri = record.rec_headers.get_header("WARC-Target-URI")
            yield _page_record(number, f"record {number}", whole, uri, options, _PAGES[kind])
    except Exception as error:
        # Warcio raises errors of any kind over a damaged archive.
        if plain.error is None:
            yield RejectedRecord(f"record {number + 1}", "damaged", seen(error), "WARC")
    plain.check()
