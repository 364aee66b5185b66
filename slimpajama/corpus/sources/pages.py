"""Files that are one document each: plain text and web pages."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import BinaryIO

from slimpajama.corpus.sources.html import TreeTooLargeError, declared_encoding, visible_text
from slimpajama.corpus.sources.records import Chunk, Found, ReadOptions, RejectedRecord, collect, decoded, too_large
from slimpajama.corpus.sources.streams import TooLong, blocks, bounded


def read_page(file: BinaryIO, name: str, options: ReadOptions, html: bool) -> Iterator[Chunk]:
    """Yield the whole file as one record."""
    data = bounded(blocks(file, name), options.max_document_bytes)
    if data:
        yield Chunk(partial(collect, [page_record(1, "", data, None, options, html)], options), file.tell())


def page_record(
    number: int, place: str, data: bytes | TooLong, own_id: str | None, options: ReadOptions, html: bool
) -> Found:
    """Return a document of its bytes; of a web page what is visible of it."""
    if isinstance(data, TooLong):
        return too_large(place, data, options.max_document_bytes)
    try:
        encoding = declared_encoding(data) if html else "utf-8"
        text = decoded(data, place, encoding)
        if isinstance(text, RejectedRecord):
            return text
        return options.checked(number, place, visible_text(text) if html else text, own_id)
    except LookupError as error:
        return RejectedRecord(place, "invalid-utf8", f"encoding {error.args[0]}", "an encoding of the web")
    except TreeTooLargeError as error:
        return RejectedRecord(place, "too-deep", str(error), "a page that is parsed in seconds")
