"""The kernel's normalisation against its definition in plain Python."""

import string
import unicodedata

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimpajama.corpus.dedup.normalise import RUN, normalise, normalise_block
from slimpajama.text.buffers import text_buffers

EVERY_CHARACTER = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]


def kernel(texts, **options):
    """Return each text as the kernel normalises it, read from both of its outputs."""
    block = normalise_block(*text_buffers(texts), **options)
    utf8, chars = block.utf8.tobytes(), block.chars.astype("<u4").tobytes()
    a, b = block.byte_offsets, block.char_offsets
    for d in range(len(texts)):
        text = utf8[a[d] : a[d + 1]].decode()
        assert chars[4 * b[d] : 4 * b[d + 1]].decode("utf-32-le") == text
        yield text


@pytest.mark.parametrize("drop", [False, True])
def test_every_code_point_is_normalised_as_defined_among_letters_and_white_space(drop):
    texts = [
        "".join(f"y {char} y" for char in EVERY_CHARACTER[start : start + 512])
        for start in range(0, len(EVERY_CHARACTER), 512)
    ]
    expected = [normalise(text, drop_punctuation=drop) for text in texts]
    assert list(kernel(pa.array(texts, pa.large_string()), drop_punctuation=drop)) == expected


def test_punctuation_and_symbols_are_left_out_by_unicode_category():
    kept = [char for char in EVERY_CHARACTER if unicodedata.category(char)[0] not in "PSZ"]
    array = pa.array([string.punctuation, "《你好》， 世界。⼤", "a-b — “c”", *kept], pa.large_string())
    left = list(kernel(array, drop_punctuation=True))
    assert left[:3] == ["", "你好世界大", "ab c"]
    assert left[3:] == [normalise(char) for char in kept]


@given(
    st.lists(st.text(st.sampled_from("aAΣςİ\u0307K \t\n\u3000\u00a0\x1f中⽣。，“1-ﬁ…\u200bＡｶ가𐐀𐐨😀é"))), st.booleans()
)
def test_texts_are_normalised_as_defined(texts, drop):
    expected = [normalise(text, drop_punctuation=drop) for text in texts]
    assert list(kernel(pa.array(texts, pa.large_string()), drop_punctuation=drop)) == expected


@settings(max_examples=300)
@given(st.lists(st.text()))
def test_any_texts_are_normalised_as_defined(texts):
    assert list(kernel(pa.array(texts, pa.large_string()))) == [normalise(text) for text in texts]


@given(st.lists(st.text(), min_size=1), st.data())
def test_a_slice_of_an_array_gives_its_own_texts(texts, data):
    start = data.draw(st.integers(0, len(texts)))
    array = pa.array(texts, pa.large_string())[start:]
    assert list(kernel(array)) == [normalise(text) for text in texts[start:]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  Hello \t\n WORLD ", "hello world"),
        ("你好，\u3000世界。\n", "你好,世界."),
        ("ＡＢＣ", "abc"),
        # str.lower would look around and write `ς` at the ends.
        ("ΟΔΟΣ ΟΔΟΣ", "οδοσ οδοσ"),
        ("İstanbul", "i\u0307stanbul"),
        (" \u2028\u3000 ", ""),
        ("", ""),
    ],
)
def test_known_texts_in_both_languages(text, expected):
    assert normalise(text) == expected
    assert list(kernel(pa.array([text], pa.large_string()))) == [expected]


WAYS_TO_WRITE = [
    # Wrapped lines, spaces between ideographs, white space of any kind, digits and marks that were torn apart.
    ("今年共花了9123元。", ["今年共\n花了9123元。", "今 年 共 花 了 9 1 2 3 元 。", "今年共花了91\r\n23\u3000元。\n"]),
    ("他说：“好。”“走吧。”", ["他说：\n“好。”\n“走吧。”", "他说： “ 好 。 ” “ 走 吧 。 ”", '他说:"好."\n"走吧."']),
    (
        "用Python写的程序，Java也行",
        ["用 Python 写的\n程序，\nJava 也行", "用Python写的程序, Java也行", "用Ｐｙｔｈｏｎ写的程序，Ｊａｖａ也行"],
    ),
    # Radicals, compatibility ideographs, and what nobody sees.
    (
        "生活在高山，见龙门",
        [
            "⽣活在⾼⼭，⻅⻰⻔",
            "生\u200b活\ufeff在高山，\u2060见龙门",
            "生活在高山\ufe00，见龍門".replace("龍門", "⻰⻔"),
        ],
    ),
    ("金樂", ["\uf90a樂", "金\uf914", "金\U000e0100樂"]),
    ("ガギ", ["ｶﾞｷﾞ", "カ\u3099 キ\u3099"]),
    # English: a line break is a space, and a font's ligatures, quotes and accents are letters and marks.
    (
        "the first office",
        ["the\nfirst  office", "The ﬁrst oﬃce", "the\r\n\tfirst\u00a0of\u00adfice", "the first\u200b office"],
    ),
    ('don\'t say "naïve" - ever', ["don’t say “naïve” – ever", "don’t say “nai\u0308ve” — ever"]),
    ("사과 하나", ["사과\n하나", "사과  하나"]),
]


@pytest.mark.parametrize(("text", "others"), WAYS_TO_WRITE, ids=[text for text, _ in WAYS_TO_WRITE])
def test_ways_to_write_the_same_text_are_one(text, others):
    assert {normalise(other) for other in others} == {normalise(text)}
    assert set(kernel(pa.array(others, pa.large_string()))) == {normalise(text)}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a b", "ab"),
        ("May 1, 2 024", "May 1, 2024"),
        ("사과 하나", "사과하나"),
        ("花了12元", "花了13元"),
        ("今天好，明天", "今天好。明天"),
        ("resume", "résumé"),
        ("⽇", "⽬"),
    ],
)
def test_what_a_reader_tells_apart_stays_apart(one, other):
    assert normalise(one) != normalise(other)


@pytest.mark.parametrize("length", [*range(6, 19), *range(RUN - 2, RUN + 3), 2 * RUN])
@pytest.mark.parametrize("behind", ["Z", " \n Z", "中", " 中 ", "\u3000 İ", " "])
def test_white_space_where_a_run_of_ascii_ends_is_squeezed(length, behind):
    texts = [start + "Ab \t" * (length // 4) + "C" * (length % 4) + behind for start in ("", "中", " ", "é ")]
    assert list(kernel(pa.array(texts, pa.large_string()))) == [normalise(text) for text in texts]


@given(st.text())
def test_normalising_twice_changes_nothing_more(text):
    assert normalise(normalise(text)) == normalise(text)


@given(st.binary(max_size=64))
def test_bytes_that_are_no_utf8_stay_within_their_document(data):
    """Parquet files are read without a check of their UTF-8; the neighbours of bad bytes must not be touched."""
    around = b"ab" + data + b"cd"
    offsets = np.array([0, 2, 2 + len(data), len(around)])
    block = normalise_block(offsets, np.frombuffer(around, np.uint8))
    assert block.chars[:2].tobytes() == np.array([97, 98], np.uint32).tobytes()
    assert block.chars[-2:].tobytes() == np.array([99, 100], np.uint32).tobytes()


def test_a_null_is_refused():
    with pytest.raises(ValueError, match="must not be null, found 1"):
        text_buffers(pa.array(["a", None], pa.large_string()))
