import bz2
import gzip
import io
import lzma
import tracemalloc
from collections.abc import Callable, Iterator

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from slimpajama.corpus.sources import streams
from slimpajama.corpus.sources.streams import BrokenStreamError, TooLong, Unpacked, blocks, bounded, whole_lines

DATA = "".join(f"line {number} 第{number}行\n" for number in range(20_000)).encode()
PACK: dict[str, Callable[[bytes], bytes]] = {
    "a.txt": bytes,
    "a.txt.gz": gzip.compress,
    "a.txt.bz2": bz2.compress,
    "a.txt.xz": lzma.compress,
    "a.txt.ZST": zstandard.ZstdCompressor().compress,
}


def read(name: str, data: bytes) -> bytes:
    return b"".join(blocks(io.BytesIO(data), name))


@pytest.mark.parametrize("name", PACK)
def test_a_file_reads_the_same_however_it_is_packed(name: str):
    assert read(name, PACK[name](DATA)) == DATA


@pytest.mark.parametrize("name", [*PACK][1:])
def test_archives_of_several_members_are_read_to_the_end(name: str):
    assert read(name, PACK[name](DATA) + PACK[name](b"more")) == DATA + b"more"


def with_dictionary(packed: bool) -> bytes:
    """Return a file as Common Crawl's successors write them: a skippable frame with the dictionary, then frames."""
    dictionary = zstandard.train_dictionary(4000, [DATA[start : start + 200] for start in range(0, len(DATA), 200)])
    held = dictionary.as_bytes()
    held = zstandard.compress(held) if packed else held
    pack = zstandard.ZstdCompressor(dict_data=dictionary).compress
    frames = (pack(DATA[start : start + 50_000]) for start in range(0, len(DATA), 50_000))
    return b"\x5d\x2a\x4d\x18" + len(held).to_bytes(4, "little") + held + b"".join(frames)


@pytest.mark.parametrize("packed", [False, True])
def test_a_zstd_file_brings_the_dictionary_of_its_frames(packed: bool):
    whole = with_dictionary(packed)
    assert read("a.warc.zst", whole) == DATA
    with pytest.raises(BrokenStreamError) as caught:
        read("a.warc.zst", whole[:500])
    assert caught.value.rule == "truncated"


def test_a_zstd_dictionary_of_gigabytes_is_refused_at_once():
    with pytest.raises(BrokenStreamError, match="a dictionary of 4294967295 bytes"):
        read("a.zst", b"\x5d\x2a\x4d\x18\xff\xff\xff\xff" + DATA)


@pytest.mark.parametrize("name", [*PACK][1:])
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


@pytest.mark.parametrize("name", [*PACK][1:])
def test_what_is_no_archive_is_damaged(name: str):
    with pytest.raises(BrokenStreamError) as caught:
        read(name, b"this is not an archive at all")
    assert caught.value.rule == "damaged"


def test_zeros_may_follow_a_stream_of_xz():
    zeros = bytes(20_000)
    assert read("a.xz", lzma.compress(DATA) + zeros + lzma.compress(b"more") + bytes(4)) == DATA + b"more"


@pytest.mark.parametrize("packing", ["zst", "xz"])
def test_long_windows_are_unpacked_within_a_quarter_of_the_memory(packing: str, monkeypatch: pytest.MonkeyPatch):
    if packing == "zst":
        settings = zstandard.ZstdCompressionParameters.from_level(1, window_log=28, enable_ldm=True)
        stream = zstandard.ZstdCompressor(compression_params=settings).compressobj()
        packed = stream.compress(DATA) + stream.flush()
    else:
        filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 1 << 28}]
        packed = lzma.compress(DATA, filters=filters)
    monkeypatch.setattr(streams, "usable_memory", lambda: 1 << 31)
    assert read(f"a.{packing}", packed) == DATA
    monkeypatch.setattr(streams, "usable_memory", lambda: 1 << 29)
    with pytest.raises(BrokenStreamError, match="needs more than 128 MiB") as caught:
        read(f"a.{packing}", packed)
    assert caught.value.rule == "too-large"


@pytest.mark.parametrize("name", [*PACK][1:])
def test_a_bomb_is_handed_out_in_bounded_blocks(name: str):
    bomb = PACK[name](bytes(100_000_000))
    assert len(bomb) < 200_000
    sizes = [len(block) for block in blocks(io.BytesIO(bomb), name)]
    assert sum(sizes) == 100_000_000
    assert max(sizes) <= 9_000_000


def parts_of(data: bytes, size: int) -> Iterator[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))


TEXT = st.binary(max_size=200).map(lambda data: data.replace(b"\x01", b"\n"))


@given(TEXT, st.integers(1, 50), st.integers(1, 50), st.integers(1, 30), st.integers(1, 30))
def test_chunks_do_not_depend_on_where_blocks_end(data: bytes, block: int, other: int, size: int, limit: int):
    found = list(whole_lines(parts_of(data, block), size, limit))
    assert found == list(whole_lines(parts_of(data, other), size, limit))
    lines, number = data.split(b"\n"), 1
    for first, chunk in found:
        assert first == number
        if isinstance(chunk, TooLong):
            assert len(lines[number - 1]) == chunk.n_bytes > limit
            number += 1
        else:
            assert (
                chunk.removesuffix(b"\n").split(b"\n")
                == lines[number - 1 : number - 1 + chunk.count(b"\n") + (chunk[-1:] != b"\n")]
            )
            number += chunk.count(b"\n")


def test_a_line_of_gigabytes_is_measured_and_the_next_one_read():
    block, count = b"x" * (1 << 20), 3000

    def parts() -> Iterator[bytes]:
        yield b"ab\n"
        for _ in range(count):
            yield block
        yield b"\ncd"

    tracemalloc.start()
    assert list(whole_lines(parts(), 1 << 20, 4 << 20)) == [(1, b"ab\n"), (2, TooLong(count << 20)), (3, b"cd")]
    assert tracemalloc.get_traced_memory()[1] < 30e6
    tracemalloc.stop()


def test_whole_lines_before_a_break_are_handed_out():
    def parts() -> Iterator[bytes]:
        yield b"one\ntwo\nthr"
        raise BrokenStreamError("truncated", "cut")

    found = whole_lines(parts(), 100, 100)
    assert next(found) == (1, b"one\ntwo\n")
    with pytest.raises(BrokenStreamError):
        next(found)


def test_an_unpacked_file_gives_what_is_there_and_keeps_why_it_ends():
    file = Unpacked(blocks(io.BytesIO(gzip.compress(DATA)[:-9]), "a.gz"))
    assert file.peek(4) == file.read(4) == DATA[:4]
    assert DATA[4:].startswith(file.read(1 << 40))
    assert file.error is not None
    assert file.error.rule == "truncated"


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
