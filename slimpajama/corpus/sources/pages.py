"""Plain text and web pages: files that are one document each, and archives of what servers answered a crawler."""

import logging
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from importlib import import_module
from typing import Any, BinaryIO, NamedTuple

from slimpajama.core.errors import InputError, printable
from slimpajama.corpus.sources.decoding import decode_document, page_encodings, with_notes
from slimpajama.corpus.sources.html import TreeTooLargeError, visible_text
from slimpajama.corpus.sources.records import (
    Chunk,
    Found,
    Note,
    ReadOptions,
    RejectedRecord,
    collect,
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
# What a server answered, a file that was fetched otherwise, and the text that a crawler made of a page (WET).
_RECORDS = ("response", "resource", "conversion")
# Reasons to pass over records that a note names, the most frequent first.
MOST_REASONS = 8
_CHARSET = re.compile(r"""charset\s*=\s*["']?\s*([A-Za-z0-9_.:-]{1,40})""", re.IGNORECASE)


class Kind(NamedTuple):
    """What a document is."""

    convert: Callable[[str], str] = str
    """What is made of its text."""
    charset: tuple[str, ...] = ()
    """The encoding that its header names, if it does."""


def read_page(file: BinaryIO, name: str, options: ReadOptions, convert: Callable[[str], str] = str) -> Iterator[Chunk]:
    """Yield the whole file as one record: what is made of its text."""
    data = bounded(blocks(file, name), options.max_document_bytes)
    if data:
        yield Chunk(partial(collect, [_page_record(1, "", data, None, options, Kind(convert))], options), file.tell())


def _page_record(
    number: int, place: str, data: bytes | TooLong, own_id: str | None, options: ReadOptions, kind: Kind
) -> Found:
    """Return a document of its bytes; of a web page what is visible of it."""
    if isinstance(data, TooLong):
        return too_large(place, data, options.max_document_bytes)
    is_page = kind.convert is visible_text
    declared = [*kind.charset, *(page_encodings(data) if is_page else ())]
    try:
        read = decode_document(data, place, options.encoding, declared)
        if isinstance(read, RejectedRecord):
            return read
        text = visible_text(read.text, main=options.extract == "main") if is_page else kind.convert(read.text)
        return options.checked(number, place, text, own_id, read.notes)
    except TreeTooLargeError as error:
        return RejectedRecord(place, "too-deep", str(error), "a page that is parsed in seconds")


def read_warc(file: BinaryIO, name: str, options: ReadOptions) -> Iterator[Chunk]:
    """Read the pages of a WARC or WET file; its own id is the target's URI.

    A record's number counts responses, resources and conversions from 1. Those that are no page (redirects, errors,
    pictures) are no documents and are passed over; a note of the file counts them.

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
    notes: list[Note] = []
    batches = collect(_records(archive, plain, options, notes), options)
    yield from with_notes((parsed(batch, file.tell()) for batch in batches), notes)


def _with_lines(stream: Iterator[bytes]) -> Iterator[bytes]:
    """Stop where no line ends for long: between records `warcio` holds a line of any length."""
    run = 0
    for block in stream:
        run = run + len(block) if b"\n" not in block else len(block) - block.rfind(b"\n")
        if run > LONGEST_LINE:
            raise BrokenStreamError("too-large", f"more than {LONGEST_LINE} bytes without an end of line")
        yield block


def _records(archive: Any, plain: Unpacked, options: ReadOptions, notes: list[Note]) -> Iterator[Found]:
    number, passed = 0, Counter[str]()
    try:
        iterator = archive(plain)
        # Otherwise this warning, with bytes of the corpus, goes straight to stderr.
        iterator.INC_RECORD = ""
        for record in iterator:
            if record.rec_type not in _RECORDS:
                continue
            number += 1
            kind = _kind_of(record)
            if isinstance(kind, str):
                passed[kind] += 1
                continue
            packed_by = _packing(record.http_headers) if record.http_headers else ""
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
            found = _page_record(number, f"record {number}", whole, uri, options, kind)
            if packed_by and isinstance(found, RejectedRecord):
                found = replace(found, rule="unreadable", value=f"packed by {packed_by}", threshold="gzip or deflate")
            yield found
    except Exception as error:
        # Warcio raises errors of any kind over a damaged archive.
        if plain.error is None:
            yield RejectedRecord(f"record {number + 1}", "damaged", seen(error), "WARC")
    if passed:
        told = ", ".join(f"{count} {reason}" for reason, count in passed.most_common(MOST_REASONS))
        notes.append(Note("passed-over", f"{passed.total()} of {number} records: {told}", "pages and plain text"))
    plain.check()


def _packing(headers: Any) -> str:
    """Return by what a body may be packed that nothing here unpacks; have `warcio` unpack the rest, as it writes it."""
    packing = (headers.get_header("Content-Encoding") or "").strip().lower()
    known = packing.removeprefix("x-") in ("gzip", "deflate")
    headers.replace_header("Content-Encoding", packing.removeprefix("x-") if known else "identity")
    if (headers.get_header("Transfer-Encoding") or "").strip().lower() == "chunked":
        headers.replace_header("Transfer-Encoding", "chunked")
    # Many crawlers unpack a body and leave its header.
    return "" if known or packing in ("", "identity") else printable(packing, 20)


def _kind_of(record: Any) -> Kind | str:
    """Return what a record is, or why it is no page: a redirect, an error, a picture, a program's notes of its work."""
    http = record.rec_type == "response"
    headers = record.http_headers if http else record.rec_headers
    if headers is None:
        return "without a header"
    if http and headers.get_statuscode() != "200":
        return f"status {printable(headers.get_statuscode(), 10)}"
    if (record.rec_headers.get_header("WARC-Target-URI") or "").startswith("metadata:"):
        return "notes of a crawler"
    declared = headers.get_header("Content-Type") or record.rec_headers.get_header("WARC-Identified-Payload-Type") or ""
    media_type = declared.partition(";")[0].strip().lower()
    convert, found = _PAGES.get(media_type), _CHARSET.search(declared)
    return Kind(convert, (found[1],) if found else ()) if convert else printable(media_type, 60) or "without a type"
