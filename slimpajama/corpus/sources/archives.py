"""Zip archives: each file in one is read by its own name, as if it lay beside the others.

Records are numbered through the archive, a block of numbers a file, so that a number tells one record. What a record is
called beside its number begins with its file's name.
"""

import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from io import SEEK_END, RawIOBase
from typing import BinaryIO, NamedTuple, cast
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

import pyarrow as pa

from slimpajama.corpus.sources.records import Batch, Chunk, RejectedRecord, seen
from slimpajama.corpus.sources.streams import BOMB_BYTES, BOMB_RATIO, BrokenStreamError

# Numbers of records that a file in an archive has.
NUMBERS = 1_000_000_000
# Most bytes of the list of files in an archive: a million names. It is held as a whole.
_LONGEST_LIST = 1 << 26
_END, _END_64, _PLACE_64 = b"PK\5\6", b"PK\6\6", b"PK\6\7"
# Others unpack without a bound, however little is asked for.
METHODS = (ZIP_STORED, ZIP_DEFLATED)
DAMAGED = (BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError, struct.error, zlib.error)
_UTF8_NAME, _ENCRYPTED = 0x800, 0x1

Opener = Callable[[], BinaryIO]


class Inside(NamedTuple):
    """Where the records of a file in an archive belong; without a name, those of a file by itself."""

    name: str = ""
    base: int = 0
    """Its records' numbers begin behind this one."""

    def moved(self, batch: Batch) -> Batch:
        """Return a batch of the file as one of the archive."""
        if not self.name:
            return batch
        own = zip(batch.table["id"].to_pylist(), batch.table["number"].to_pylist(), strict=True)
        ids = pa.array([f"{self.name}#{number if id_ is None else id_}" for id_, number in own], pa.string())
        numbers = pa.array([self.base + number for number in batch.table["number"].to_pylist()], pa.int64())
        table = pa.table({"number": numbers, "id": ids, "text": batch.table["text"]})
        # A note of the whole file stays one.
        notes = tuple((number and self.base + number, note) for number, note in batch.notes)
        return batch._replace(table=table, rejected=[self._placed(bad) for bad in batch.rejected], notes=notes)

    def _placed(self, bad: RejectedRecord) -> RejectedRecord:
        noun, _, number = bad.place.rpartition(" ")
        within = f"{seen(self.name)}, {bad.place}" if noun else seen(self.name)
        return replace(bad, place=f"{within}, number {self.base + int(number or 0)}")

    def chunk(self, chunk: Chunk) -> Chunk:
        """Return a chunk of the file as one of the archive."""
        return chunk._replace(read=partial(self._read, chunk)) if self.name else chunk

    def _read(self, chunk: Chunk) -> Iterator[Batch]:
        return map(self.moved, chunk.read())


class Member(RawIOBase):
    """A file in an archive, to be read once from its beginning."""

    def __init__(self, archive: ZipFile, info: ZipInfo, outer: BinaryIO) -> None:
        self._outer = outer
        try:
            self._file = archive.open(info)
        except DAMAGED as error:
            raise BrokenStreamError("damaged", str(error)) from None

    def readable(self) -> bool:
        """It is there to be read."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Return at most `size` bytes.

        Raises:
            BrokenStreamError: It is damaged.
        """
        try:
            return self._file.read(size)
        except DAMAGED as error:
            raise BrokenStreamError("damaged", str(error) or "it ends early") from None

    def tell(self) -> int:
        """Return how far the archive is read."""
        return self._outer.tell()


def members(file: BinaryIO) -> Iterator[tuple[Inside, Opener | RejectedRecord]]:
    """Yield what opens the files in an archive, in the order of its list, or why one cannot be read; no hidden ones.

    Raises:
        BrokenStreamError: It is no zip archive, or its list of files is too long.
    """
    try:
        size = file.seek(0, SEEK_END)
        if _list_bytes(file, size) > _LONGEST_LIST:
            raise BrokenStreamError("too-large", f"a list of files of more than {_LONGEST_LIST} bytes")
        archive = ZipFile(file)
    except DAMAGED as error:
        raise BrokenStreamError("damaged", f"no zip archive: {error}") from None
    taken = 0
    for number, info in enumerate(archive.infolist()):
        name = _name(info)
        parts = name.split("/")
        if info.is_dir() or "__MACOSX" in parts or parts[-1].startswith("."):
            continue
        inside = Inside(name, number * NUMBERS)
        bound = max(BOMB_BYTES, BOMB_RATIO * info.compress_size)
        taken += info.file_size
        if info.flag_bits & _ENCRYPTED or info.compress_type not in METHODS:
            how = "encrypted" if info.flag_bits & _ENCRYPTED else f"packed by method {info.compress_type}"
            yield inside, RejectedRecord("", "unreadable", how, "stored or deflated")
        elif info.file_size > bound or taken > max(BOMB_BYTES, BOMB_RATIO * size):
            yield inside, RejectedRecord("", "too-large", f"unpacks to more than {BOMB_RATIO} times its size")
        else:
            yield inside, cast(Opener, partial(Member, archive, info, file))


def _list_bytes(file: BinaryIO, size: int) -> int:
    """Return how long the list of files says that it is: `ZipFile` would read it whole."""
    start = max(0, size - (1 << 16) - 100)
    file.seek(start)
    tail = file.read()
    end = tail.rfind(_END)
    if end < 0:
        return 0
    place = tail[max(0, end - 20) : end]
    if place.startswith(_PLACE_64):
        file.seek(struct.unpack("<Q", place[8:16])[0])
        wide: bytes = file.read(56)
        return int(struct.unpack("<Q", wide[40:48])[0]) if wide.startswith(_END_64) else 0
    return int(struct.unpack("<I", tail[end + 12 : end + 16])[0])


def _name(info: ZipInfo) -> str:
    """Return a file's name; one that is not said to be in UTF-8 is often in the encoding of a Chinese Windows."""
    if info.flag_bits & _UTF8_NAME:
        return info.filename
    try:
        raw = info.filename.encode("cp437")
    except UnicodeEncodeError:
        return info.filename
    for encoding in ("utf-8", "gb18030"):
        try:
            return raw.decode(encoding)
        except UnicodeDecodeError:
            continue
    return info.filename
