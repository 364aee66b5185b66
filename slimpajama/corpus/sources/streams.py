"""Bytes of a raw file, decompressed in bounded blocks, and the lines in them: memory never follows the input.

A stream that ends too early, is damaged or cannot be read raises `BrokenStreamError` after everything before the
damage was handed out.
"""

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from io import RawIOBase
from itertools import chain
from typing import Any, BinaryIO, TypeVar

import zstandard

from slimpajama.core.errors import AGAIN, InputError
from slimpajama.core.memory import usable_memory
from slimpajama.workspace.store import outside_errors

T = TypeVar("T")
BLOCK = 1 << 20
# Text compresses to about a tenth. Data that expands to more than both of these is not text.
BOMB_RATIO, BOMB_BYTES = 200, 1 << 27
PACKINGS = (".gz", ".zst", ".bz2", ".xz", ".zip")
# Bytes that are fed at once. Four bytes can expand to 128 KiB, so a block has at most 8 MiB.
_ZSTD_FEED = 1 << 8
# Bytes that are fed at once. The rest is copied at each end of a stream, and streams may be 14 bytes long.
_FEED = 1 << 13
# Bytes of history that zstd and xz may need: what any reader takes, and what zstd writes at most (`--long=31`).
_LEAST_WINDOW, _LONGEST_WINDOW = 1 << 27, 1 << 31
# The frame at the beginning of a web archive that holds the dictionary of all others, and the most bytes of it.
_ZSTD_DICTIONARY, _DICTIONARY_BYTES = b"\x5d\x2a\x4d\x18", 1 << 24


class BrokenStreamError(Exception):
    """The rest of a file cannot be read.

    Args:
        rule: `truncated`, `damaged`, `unreadable` or `too-large`.
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


def is_packed(name: str) -> bool:
    """Return whether a file's name says that it is compressed."""
    return name.lower().endswith(PACKINGS)


def is_zip(name: str) -> bool:
    """Return whether a file's name says that it holds others."""
    return name.lower().endswith(".zip")


def blocks(file: BinaryIO, name: str) -> Iterator[bytes]:
    """Yield the content of an open file block by block; the name's ending says how it is compressed.

    Raises:
        BrokenStreamError: The file ends inside a compressed frame, is damaged, unpacks to more than `BOMB_RATIO` times
            its size, or the disk fails.
        InputError: A connection broke off.
    """
    if not is_packed(name):
        yield from _blocks(file, name)
        return
    unpacked = 0
    for block in _blocks(file, name):
        unpacked += len(block)
        if unpacked > max(BOMB_BYTES, BOMB_RATIO * file.tell()):
            raise BrokenStreamError("too-large", f"unpacks to more than {BOMB_RATIO} times its size")
        yield block


def _blocks(file: BinaryIO, name: str) -> Iterator[bytes]:
    try:
        if name.lower().endswith(".gz"):
            with gzip.GzipFile(fileobj=file, mode="rb") as plain:
                # `read` would lose the bytes before a damage.
                yield from iter(lambda: plain.read1(BLOCK), b"")
        elif name.lower().endswith(".bz2"):
            yield from _stream_blocks(file, bz2.BZ2Decompressor)
        elif name.lower().endswith(".xz"):
            yield from _stream_blocks(file, lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, _longest_window()), b"\0")
        elif name.lower().endswith(".zst"):
            yield from _zstd_blocks(file)
        elif is_zip(name):
            raise BrokenStreamError("unreadable", "a zip archive where none is looked into")
        else:
            yield from iter(lambda: file.read(BLOCK), b"")
    except EOFError as error:
        raise BrokenStreamError("truncated", str(error)) from None
    except (gzip.BadGzipFile, zlib.error, lzma.LZMAError, zstandard.ZstdError) as error:
        needs_more = "too much memory" in str(error) or "Memory usage limit" in str(error)
        told = f"needs more than {_longest_window() >> 20} MiB to unpack" if needs_more else str(error)
        raise BrokenStreamError("too-large" if needs_more else "damaged", told) from None
    except OSError as error:
        # The bz2 library raises a plain OSError for damaged data.
        damaged = error.errno is None and name.lower().endswith(".bz2")
        raise BrokenStreamError("damaged" if damaged else "unreadable", error.strerror or str(error)) from None
    except outside_errors() as error:
        raise truncated(name, error) from None


def truncated(name: str, error: Exception) -> InputError:
    """Return what ends a run where a connection did: on record the file would count as read, and not be read again."""
    return InputError("the connection broke off", where=name, found=str(error), hint=AGAIN)


def _longest_window() -> int:
    """Return how many bytes of history may be held: a quarter of the memory, within what every machine can."""
    return max(_LEAST_WINDOW, min(_LONGEST_WINDOW, usable_memory() // 4))


def _stream_blocks(file: BinaryIO, new: Callable[[], Any], padding: bytes = b"") -> Iterator[bytes]:
    # `BZ2File` and `LZMAFile` would take a damaged second stream for the end of the file, and say nothing.
    stream, feed = new(), file.read(_FEED)
    while feed or not stream.needs_input:
        plain = stream.decompress(feed, BLOCK)
        if plain:
            yield plain
        feed = b""
        if stream.eof:
            feed = stream.unused_data.lstrip(padding)
            while not feed and (more := file.read(_FEED)):
                feed = more.lstrip(padding)
            if not feed:
                return
            stream = new()
        elif stream.needs_input:
            feed = file.read(_FEED)
            if not feed:
                raise EOFError("the file ends inside a compressed stream")


def _zstd_blocks(file: BinaryIO) -> Iterator[bytes]:
    # `stream_reader` would take the end of a cut file for the end of the stream.
    first = file.read(BLOCK)
    dictionary = None
    if first.startswith(_ZSTD_DICTIONARY):
        dictionary, first = _zstd_dictionary(first, file)
    decompressor = zstandard.ZstdDecompressor(dict_data=dictionary, max_window_size=_longest_window())
    frame, begun = decompressor.decompressobj(), False
    for raw in chain([first], iter(lambda: file.read(BLOCK), b"")):
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


def _zstd_dictionary(start: bytes, file: BinaryIO) -> tuple[zstandard.ZstdCompressionDict, bytes]:
    """Return the dictionary of a file that begins with `start`, and what was read behind it; it may be packed itself.

    Source: IIPC, "Use of Zstandard Compression for WARC Files".
    """
    size = int.from_bytes(start[4:8], "little")
    if size > _DICTIONARY_BYTES:
        raise zstandard.ZstdError(f"a dictionary of {size} bytes")
    end = 8 + size
    start += file.read(max(0, end - len(start)))
    if len(start) < end:
        raise EOFError("the file ends inside its dictionary")
    data = start[8:end]
    if data.startswith(zstandard.MAGIC_NUMBER.to_bytes(4, "little")):
        unpacking = zstandard.ZstdDecompressor(max_window_size=_longest_window())
        data = unpacking.stream_reader(data).read(_DICTIONARY_BYTES)
    return zstandard.ZstdCompressionDict(data), start[end:]


class UntilBroken(Iterator[T]):
    """What a stream gives until it breaks off; then `error` says why it ended."""

    def __init__(self, items: Iterable[T]) -> None:
        self._items = iter(items)
        self.error: BrokenStreamError | None = None

    def __next__(self) -> T:
        """Return the next item."""
        try:
            return next(self._items)
        except BrokenStreamError as error:
            self.error = error
            raise StopIteration from None

    def check(self) -> None:
        """Raise the error, if there was one: once what precedes it was handed out."""
        if self.error:
            raise self.error


class Unpacked(RawIOBase):
    """Blocks as a file for a library that wants one; never gives more than is there, whatever is asked for."""

    def __init__(self, stream: Iterator[bytes]) -> None:
        self._stream, self._held = UntilBroken(stream), b""

    @property
    def error(self) -> BrokenStreamError | None:
        """Why the file ends where it does, if it breaks off."""
        return self._stream.error

    def check(self) -> None:
        """Raise `error`, if there is one."""
        self._stream.check()

    def readable(self) -> bool:
        """It is there to be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer, for what reads through one of `io`'s."""
        found = self.read(len(buffer))
        buffer[: len(found)] = found
        return len(found)

    def peek(self, size: int) -> bytes:
        """Return what `read` would, and keep it."""
        start = self.read(size)
        self._held = start + self._held
        return start

    def read(self, size: int = -1) -> bytes:
        """Return at most `size` bytes, fewer only at the end."""
        found, missing = [], size if size >= 0 else 1 << 62
        while missing:
            if not self._held:
                self._held = next(self._stream, b"")
                if not self._held:
                    break
            found.append(self._held[:missing])
            self._held = self._held[missing:]
            missing -= len(found[-1])
        return b"".join(found)


def bounded(stream: Iterator[bytes], limit: int) -> bytes | TooLong:
    """Return the whole stream, or `TooLong` as soon as it has more than `limit` bytes."""
    whole = bytearray()
    for block in stream:
        whole += block
        if len(whole) > limit:
            return TooLong(len(whole), complete=False)
    return bytes(whole)


def whole_lines(stream: Iterator[bytes], size: int, limit: int) -> Iterator[tuple[int, bytes | TooLong]]:
    r"""Yield the number of the first line, from 1, and whole lines: as many as end at the first `\n` from `size` on.

    Where chunks end depends on the content only, not on its blocks. Never holds more than size, limit and a block.

    Args:
        stream: Blocks of a stream.
        size: Bytes of a chunk.
        limit: A longer line that goes beyond `size` is skipped in passing and yields `TooLong`.

    Raises:
        BrokenStreamError: The stream breaks off; the whole lines before were handed out.
    """
    number, skipped, searched, held = 1, 0, 0, bytearray()
    whole = UntilBroken(stream)
    for block in whole:
        if skipped:
            head, newline, block = block.partition(b"\n")  # noqa: PLW2901
            skipped += len(head)
            if not newline:
                continue
            yield number, TooLong(skipped)
            number, skipped = number + 1, 0
        held += block
        while len(held) >= size:
            end = held.find(b"\n", max(searched, size - 1))
            # The beginning of the line that goes beyond `size`.
            start = held.rfind(b"\n", 0, size - 1) + 1
            if (end if end >= 0 else len(held)) - start <= limit:
                if end < 0:
                    searched = len(held)
                    break
                start = end + 1
            if start:
                yield number, bytes(held[:start])
            number, searched = number + held.count(b"\n", 0, start), 0
            if start <= end:
                yield number, TooLong(end - start)
                number, start = number + 1, end + 1
            elif end < 0:
                start, skipped = len(held), len(held) - start
            del held[:start]
    if whole.error:
        del held[held.rfind(b"\n") + 1 :]
    if held:
        yield number, bytes(held)
    if skipped and not whole.error:
        yield number, TooLong(skipped)
    whole.check()
