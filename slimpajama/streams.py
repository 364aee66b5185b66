"""Bytes of a raw file, decompressed in bounded blocks, and the lines in them: memory never follows the input.

A stream that ends too early, is damaged or cannot be read raises `BrokenStreamError` after everything before the
damage was handed out.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import zstandard

__all__ = ["BrokenStreamError", "TooLong", "blocks", "bounded", "lines"]

BLOCK = 1 << 20
_ZSTD_FEED = 1 << 8  # bytes; four of them can stand for 128 KiB, so this bounds a block by 8 MiB
_ZSTD_WINDOW = 1 << 27  # bytes of history that a frame may ask for; zstd's own limit for streams


class BrokenStreamError(Exception):
    """The rest of a file cannot be read.

    Args:
        rule: `truncated`, `damaged` or `unreadable`.
        value: What was seen.
    """

    def __init__(self, rule: str, value: str) -> None:
        super().__init__(value)
        self.rule, self.value = rule, value


@dataclass(frozen=True, slots=True)
class TooLong:
    """Stands for a line or file that was skipped for its length."""

    n_bytes: int
    complete: bool = True
    """Whether its whole length is known."""


def blocks(file: BinaryIO, name: str) -> Iterator[bytes]:
    """Yield the content of an open file block by block; the name's ending says how it is compressed.

    Raises:
        BrokenStreamError: The file ends inside a compressed frame, is damaged, or the disk or network fails.
    """
    try:
        if name.lower().endswith(".gz"):
            with gzip.GzipFile(fileobj=file, mode="rb") as plain:
                yield from iter(lambda: plain.read1(BLOCK), b"")  # `read` would keep back what precedes a damage
        elif name.lower().endswith(".zst"):
            yield from _zstd_blocks(file)
        else:
            yield from iter(lambda: file.read(BLOCK), b"")
    except EOFError as error:
        raise BrokenStreamError("truncated", str(error)) from None
    except (gzip.BadGzipFile, zlib.error, zstandard.ZstdError) as error:
        raise BrokenStreamError("damaged", str(error)) from None
    except OSError as error:
        raise BrokenStreamError("unreadable", error.strerror or str(error)) from None


def _zstd_blocks(file: BinaryIO) -> Iterator[bytes]:
    # Not `stream_reader`: it takes the end of a cut file for the end of the stream.
    decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
    frame, begun = decompressor.decompressobj(), False
    for raw in iter(lambda: file.read(BLOCK), b""):
        for start in range(0, len(raw), _ZSTD_FEED):
            feed = raw[start : start + _ZSTD_FEED]
            while feed:
                begun = True
                plain = frame.decompress(feed)
                if plain:
                    yield plain
                feed = b""
                if frame.eof:
                    feed = frame.unused_data
                    frame, begun = decompressor.decompressobj(), False
    if begun:
        raise EOFError("the file ends inside a zstd frame")


def bounded(parts: Iterator[bytes], limit: int) -> bytes | TooLong:
    """Return the whole stream, or `TooLong` as soon as it has more than `limit` bytes."""
    whole = bytearray()
    for part in parts:
        whole += part
        if len(whole) > limit:
            return TooLong(len(whole), complete=False)
    return bytes(whole)


def lines(parts: Iterator[bytes], limit: int) -> Iterator[tuple[int, bytes | TooLong]]:
    r"""Yield each line's number from 1 and its bytes without `\n`; a last line needs no `\n`.

    Args:
        parts: Blocks of a stream.
        limit: Longest line in bytes; a longer one is skipped in passing and yields `TooLong`.
    """
    number, kept, skipped = 1, bytearray(), 0
    for part in parts:
        begin = 0
        while (end := part.find(b"\n", begin)) >= 0:
            kept, skipped = _extend(kept, skipped, part[begin:end], limit)
            yield number, TooLong(skipped) if skipped else bytes(kept)
            number, kept, skipped, begin = number + 1, bytearray(), 0, end + 1
        kept, skipped = _extend(kept, skipped, part[begin:], limit)
    if skipped or kept:
        yield number, TooLong(skipped) if skipped else bytes(kept)


def _extend(kept: bytearray, skipped: int, piece: bytes, limit: int) -> tuple[bytearray, int]:
    """Return the line so far, or nothing of it and its length once it exceeds the limit."""
    if skipped or len(kept) + len(piece) > limit:
        return bytearray(), (skipped or len(kept)) + len(piece)
    kept += piece
    return kept, 0
