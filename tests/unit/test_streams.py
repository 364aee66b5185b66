import gzip
import io
from collections.abc import Callable, Iterator

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from slimpajama.streams import BrokenStreamError, TooLong, blocks, bounded, lines

DATA = "".join(f"line {number} 第{number}行\n" for number in range(20_000)).encode()
PACK: dict[str, Callable[[bytes], bytes]] = {
    "a.txt": bytes,
    "a.txt.gz": gzip.compress,
    "a.txt.ZST": zstandard.ZstdCompressor().compress,
}


def read(name: str, data: bytes) -> bytes:
    return b"".join(blocks(io.BytesIO(data), name))


@pytest.mark.parametrize("name", PACK)
def test_a_file_reads_the_same_however_it_is_packed(name: str):
    assert read(name, PACK[name](DATA)) == DATA


@pytest.mark.parametrize("name", ["a.gz", "a.zst"])
def test_archives_of_several_members_are_read_to_the_end(name: str):
    pack = gzip.compress if name.endswith("gz") else zstandard.ZstdCompressor().compress
    assert read(name, pack(DATA) + pack(b"more")) == DATA + b"more"


@pytest.mark.parametrize("name", ["a.txt.gz", "a.txt.ZST"])
@pytest.mark.parametrize(("cut", "share"), [(5, 0.0), (1000, 0.0), (-3, 0.5)])
def test_a_cut_archive_gives_what_is_there_and_then_says_so(name: str, cut: int, share: float):
    packed = PACK[name](DATA)[:cut]
    seen = bytearray()
    with pytest.raises(BrokenStreamError) as caught:
        drain(blocks(io.BytesIO(packed), name), seen)
    assert caught.value.rule == "truncated"
    assert DATA.startswith(seen)
    assert len(seen) >= share * len(DATA)


def drain(found: Iterator[bytes], seen: bytearray) -> None:
    for block in found:
        seen += block


@pytest.mark.parametrize("name", ["a.txt.gz", "a.txt.ZST"])
def test_what_is_no_archive_is_damaged(name: str):
    with pytest.raises(BrokenStreamError) as caught:
        read(name, b"this is not an archive at all")
    assert caught.value.rule == "damaged"


@pytest.mark.parametrize("name", ["a.txt.gz", "a.txt.ZST"])
def test_a_bomb_is_handed_out_in_bounded_blocks(name: str):
    bomb = PACK[name](bytes(100_000_000))
    assert len(bomb) < 200_000
    sizes = [len(block) for block in blocks(io.BytesIO(bomb), name)]
    assert sum(sizes) == 100_000_000
    assert max(sizes) <= 9_000_000


def chunks(data: bytes, size: int) -> Iterator[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))


@given(st.binary(max_size=200).map(lambda data: data.replace(b"\x01", b"\n")), st.integers(1, 50), st.integers(1, 30))
def test_lines_do_not_depend_on_where_blocks_end(data: bytes, size: int, limit: int):
    whole = data.split(b"\n")
    expected = [line if len(line) <= limit else TooLong(len(line)) for line in (whole if whole[-1] else whole[:-1])]
    assert list(lines(chunks(data, size), limit)) == list(enumerate(expected, start=1))


def test_a_line_above_the_limit_is_measured_and_the_next_one_read():
    assert list(lines(chunks(b"ab\n" + b"x" * 1000 + b"\ncd", 7), 10)) == [(1, b"ab"), (2, TooLong(1000)), (3, b"cd")]


def test_reading_a_whole_file_stops_soon_after_the_limit():
    taken = 0

    def endless() -> Iterator[bytes]:
        nonlocal taken
        while True:
            taken += 1
            yield b"x" * 10

    assert bounded(endless(), 95) == TooLong(100, complete=False)
    assert taken == 10
    assert bounded(iter([b"ab", b"c"]), 3) == b"abc"
