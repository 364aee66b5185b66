import csv
import io
import itertools
import json
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slimpajama.core.encodings import codec_of
from slimpajama.corpus.sources import files
from slimpajama.corpus.sources.decoding import (
    LEAST,
    SAMPLE,
    Text,
    decode_document,
    detect,
    everyday_share,
    page_encodings,
    utf8_blocks,
)
from slimpajama.corpus.sources.records import MARK, Note, ReadOptions, RejectedRecord

ZH = "秋收以后，摄影师在海边的灯塔旁修好了一台旧收音机，从此再也没有提起过。清晨，邮递员在铁路桥下种下了三棵银杏树。"
HANT = "秋收以後，攝影師在海邊的燈塔旁修好了一台舊收音機，從此再也沒有提起過。清晨，郵差在鐵路橋下種下了三棵銀杏樹。"
EN = "An honest baker counted the apples of this harvest while it was raining, but the bill was never paid. "
WRITTEN = [
    (ZH, "utf-8", ""),
    (ZH, "gb18030", "GB18030"),
    (HANT, "gb18030", "GB18030"),
    (HANT, "cp950", "Big5"),
    (ZH, "utf-16-le", "UTF-16-LE"),
    (HANT, "utf-16-be", "UTF-16-BE"),
    (EN, "utf-16-le", "UTF-16-LE"),
    (EN, "utf-16-be", "UTF-16-BE"),
]


def told(data: bytes, declared: Iterable[str] = (), encoding: str = "auto") -> tuple[str, list[str]]:
    """Return a document's text and the rules of its notes, or nothing and the rule that refuses it."""
    found = decode_document(data, "", encoding, declared)
    return (found.text, [note.rule for note in found.notes]) if isinstance(found, Text) else ("", [found.rule])


def read(name: str, data: bytes, **settings: str) -> tuple[list[str], list[RejectedRecord], list[Note]]:
    options = ReadOptions(max_document_bytes=10**6, **settings)
    batches = list(files.read(lambda: io.BytesIO(data), name, options))
    return (
        [text for batch in batches for text in batch.table["text"].to_pylist()],
        [bad for batch in batches for bad in batch.rejected],
        [note for batch in batches for _, note in batch.notes],
    )


def common(pair: tuple[str, str]) -> int:
    """Return how many characters two texts begin with alike."""
    return next((place for place, (a, b) in enumerate(zip(*pair, strict=False)) if a != b), min(map(len, pair)))


@pytest.mark.parametrize(("text", "codec", "name"), WRITTEN)
def test_an_encoding_that_nothing_declares_is_detected_and_its_confidence_is_on_record(text, codec, name):
    found = decode_document((text * 4).encode(codec), "")
    assert isinstance(found, Text)
    assert found.text == text * 4
    assert [(note.rule, note.value) for note in found.notes] == (
        [("detected-encoding", f"{name}, confidence 1.00")] if name else []
    )


@pytest.mark.parametrize(("text", "codec", "name"), WRITTEN)
def test_the_wrong_encodings_of_a_text_are_below_the_least_confidence(text, codec, name):
    for other in {"gb18030", "cp950"} - {codec}:
        wrong = (text * 4).encode(codec).decode(other, "replace")
        assert wrong.isascii() or wrong == text * 4 or everyday_share(wrong) < LEAST or "\0" in wrong


@pytest.mark.parametrize("codec", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_says_the_encoding_and_is_no_part_of_the_text(codec: str):
    assert told(ZH.encode(codec)) == (ZH, [])
    assert told(f"\ufeff{ZH}".encode("gb18030"), ["big5"]) == (ZH, [])


def test_what_a_format_declares_is_believed_before_anything_is_detected():
    assert told("联通".encode("gbk"), ["gb2312"]) == ("联通", [])  # valid UTF-8 by chance
    assert told("café".encode("cp1252"), ["iso-8859-1"]) == ("café", [])
    assert told("日本語のページ".encode("cp932"), ["Shift_JIS"]) == ("日本語のページ", [])
    assert told("朱镕基".encode("gbk"), ["gb2312"]) == ("朱镕基", [])  # GBK has the second, GB 2312 has not
    assert told("～鉅".encode("cp950"), ["big5"]) == ("～鉅", [])
    assert told("衞𨋢".encode("big5hkscs"), ["big5"]) == ("衞𨋢", [])


def test_a_declaration_that_the_bytes_contradict_is_not_believed():
    zh, hant = ZH * 2, HANT * 2
    assert told(zh.encode(), ["gbk"]) == (zh, [])
    assert told(zh.encode("gbk"), ["utf-8"]) == (zh, ["detected-encoding"])
    assert told(zh.encode("gbk"), ["iso-8859-1"]) == (zh, ["detected-encoding"])
    assert told(hant.encode("cp950"), ["gb2312"]) == (hant, ["detected-encoding"])
    assert told(zh.encode("gbk"), ["klingon", "utf-16"]) == (zh, ["detected-encoding"])
    assert told("日本語のページです。".encode("cp932") * 9, ["gb2312"]) == ("", ["unknown-encoding"])


def test_the_first_declaration_counts():
    assert told("café".encode("cp1252"), ["windows-1252", "gbk"]) == ("café", [])


@pytest.mark.parametrize(
    ("page", "names"),
    [
        (b"<meta charset=gb2312>", ["gb2312"]),
        (b'<META http-equiv="Content-Type" content="text/html; charset=GBK">', ["GBK"]),
        (b'<?xml version="1.0" encoding="Big5"?><html>', ["Big5"]),
        (b"<?xml version='1.0' encoding='gbk'?><meta charset='utf-8'>", ["utf-8", "gbk"]),
        (b"<p>charset=gbk", []),
        (b" " * 1100 + b"<meta charset=gbk>", []),
    ],
)
def test_a_page_names_its_encoding_in_a_meta_or_in_its_xml_declaration(page: bytes, names: list[str]):
    assert page_encodings(page) == names


@pytest.mark.parametrize("text", [ZH * 900, EN * 1000])
def test_one_bad_byte_in_a_long_page_costs_one_mark_that_is_on_record(text: str):
    half = len(text) // 2
    for codec in ("utf-8", "gb18030"):
        found = decode_document(text[:half].encode(codec) + b"\xff" + text[half:].encode(codec), "")
        assert isinstance(found, Text)
        assert found.text == text[:half] + MARK + text[half:]
        assert found.notes[-1].rule == "replaced-bytes"
        assert found.notes[-1].value.startswith("1: bytes ff ")


def test_a_page_that_is_mostly_broken_is_refused_and_a_short_one_has_no_byte_to_lose():
    assert told(b"\xff".join([ZH.encode()] * 9), ["utf-8"]) == ("", ["invalid-utf8"])
    assert told(b"\xff".join([ZH.encode("gbk")] * 9), encoding="gbk") == ("", ["unknown-encoding"])
    assert told(b"caf\xe9") == ("", ["unknown-encoding"])


@pytest.mark.parametrize(("text", "codec"), [(ZH, "gb18030"), (HANT, "gb18030"), (HANT, "cp950"), (HANT, "big5hkscs")])
@pytest.mark.parametrize("taken", [0, 1])
def test_one_wrong_byte_where_nothing_declares_the_encoding_costs_a_few_characters(text, codec, taken):
    whole = f"{text}\n" * 20
    data = whole.encode(codec)
    lost = []
    for place in range(1000, 1020):
        found = decode_document(data[:place] + b"\xff" + data[place + taken :], "")
        assert isinstance(found, Text)
        assert [note.rule for note in found.notes][:1] == ["detected-encoding"]
        same = sum(map(common, ((whole, found.text), (whole[::-1], found.text[::-1]))))
        lost.append(len(whole) - same)
    assert sum(lost) <= 5 * len(lost)
    assert max(lost) <= 12


def test_marks_that_stood_in_the_text_are_not_counted():
    data = (MARK * 9 + ZH * 50).encode()
    assert decode_document(data + b"\xff", "") == Text(
        MARK * 9 + ZH * 50 + MARK,
        [Note("replaced-bytes", f"1: bytes ff at byte {len(data) + 1}", "at most 16, of 8278 bytes")],
    )


ENGLISH = f"The café owner’s naïve fiancée said: “It costs £5—or €6.” {EN * 4}"


def test_english_in_windows_1252_is_detected_and_other_text_is_never_taken_for_it():
    assert told(ENGLISH.encode("cp1252")) == (ENGLISH, ["detected-encoding"])
    assert read("a.jsonl", json.dumps({"text": ENGLISH}, ensure_ascii=False).encode("cp1252"))[0] == [ENGLISH]
    # In UTF-16 an arrow has the byte of an apostrophe in windows-1252.
    arrows = f"{EN} from here → to there. " * 5
    for codec in ("utf-16-le", "utf-16-be"):
        assert told(arrows.encode(codec)) == (arrows, ["detected-encoding"])
    words = {
        "mac-roman": "café don’t naïve",
        "cp437": "café naïve",
        "cp1254": "ağaç ışık şehir",
        "cp1250": "Łódź žluťoučký żółć",
        "cp950": "臺灣 訊 書",
        "gb18030": "白 北 音",
        "cp932": "東京 カナ",
    }
    for codec, written in words.items():
        data = " ".join(f"{EN} {word} {EN}" for word in written.split() * 2).encode(codec)
        text, rules = told(data)
        assert text in ("", data.decode(codec)), codec
        assert text or rules == ["unknown-encoding"]


@pytest.mark.parametrize("text", ["Это не китайский текст. ", "日本語のページです。", "le café était fermé à Orléans "])
@pytest.mark.parametrize("codec", ["cp1251", "cp932", "cp1252"])
def test_text_in_no_encoding_that_is_detected_is_refused_and_never_guessed(text: str, codec: str):
    data = text.encode(codec, "ignore") * 9
    if not data.isascii() and b"    " not in data:
        assert told(data) == ("", ["unknown-encoding"])


def test_an_encoding_that_is_set_is_used_whatever_the_page_declares():
    assert told("Привет".encode("cp1251"), ["gbk"], "windows-1251") == ("Привет", [])
    assert told(ZH.encode("utf-16-be"), encoding="utf-16-be") == (ZH, [])
    assert told(ZH.encode("utf-16"), encoding="utf-16") == (ZH, [])


@pytest.mark.parametrize("name", ["idna", "punycode", "undefined", "unicode_escape", "utf-7", "zlib", "klingon", "\0"])
def test_what_is_no_encoding_of_the_web_is_none_here(name: str):
    with pytest.raises((LookupError, ValueError)):
        codec_of(name)


@pytest.mark.parametrize(("text", "codec", "name"), WRITTEN)
@pytest.mark.parametrize("size", [7, 1000, 1 << 20])
def test_a_table_is_the_same_in_every_encoding_and_in_blocks_of_any_size(text, codec, name, size):
    rows = [EN, *(f"{number} {text}" for number in range(300))] if codec != "utf-8" else [text]
    whole = "".join(json.dumps({"text": row}, ensure_ascii=False) + "\n" for row in rows)
    data, notes = whole.encode(codec), list[Note]()
    blocks = [data[start : start + size] for start in range(0, len(data), size)]
    assert b"".join(utf8_blocks(blocks, "auto", notes)).decode() == whole
    assert [note.value.partition(",")[0] for note in notes] == ([name] if name else [])
    assert read("a.jsonl", data)[:2] == (rows, [])


def test_a_table_that_begins_in_ascii_is_detected_where_it_goes_on():
    lines = [json.dumps({"text": EN}).encode()] * 3000 + [
        json.dumps({"text": ZH}, ensure_ascii=False).encode("gbk")
    ] * 9
    texts, bad, notes = read("a.jsonl", b"\n".join(lines))
    assert (texts, bad) == ([EN] * 3000 + [ZH] * 9, [])
    assert [note.rule for note in notes] == ["detected-encoding"]


def test_a_bad_byte_in_a_table_costs_one_mark_in_one_record():
    good, broken = json.dumps({"text": ZH}, ensure_ascii=False).encode(), b'{"text": "' + EN.encode() * 2 + b'\xff"}'
    texts, bad, notes = read("a.jsonl", b"\n".join([good, broken, good]))
    assert (texts, bad) == ([ZH, EN * 2 + MARK, ZH], [])
    assert [note.rule for note in notes] == ["replaced-bytes"]
    texts, bad, notes = read("a.csv", f"text\n{ZH}\n{HANT * 2}".encode() + b"\xff\n")
    assert (texts, bad) == ([ZH, HANT * 2 + MARK], [])
    assert [note.rule for note in notes] == ["replaced-bytes"]
    texts, bad, notes = read(
        "a.jsonl", b"\n".join([*[json.dumps({"text": ZH}, ensure_ascii=False).encode("gbk")] * 9, b'{"text": "\xff"}'])
    )
    assert texts == [ZH] * 9 + [MARK]
    assert [note.value for note in notes] == ["GB18030, confidence 1.00", "1 in the file"]


def sheet(rows: list[list[str]], **how: str | int) -> str:
    out = io.StringIO()
    csv.writer(out, **how).writerows(rows)  # type: ignore[arg-type]
    return out.getvalue()


ROWS = [["编号", "text"], ["1", ZH], ["2", f'He said "hello", and\nleft; {EN}\t|'], ["3", HANT]]


@pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig", "gb18030", "utf-16", "utf-16-le"])
@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
@pytest.mark.parametrize("quote", ['"', "'"])
def test_csv_as_a_spreadsheet_writes_it_is_read_without_a_setting(codec: str, delimiter: str, quote: str):
    data = sheet(ROWS, delimiter=delimiter, quotechar=quote, quoting=csv.QUOTE_ALL).encode(codec)
    assert read("a.csv", data)[:2] == ([row[1] for row in ROWS[1:]], [])


def test_a_first_line_for_excel_sets_the_delimiter_and_is_no_row():
    assert read("a.csv", b"sep=;\r\n" + sheet(ROWS, delimiter=";").encode())[0] == [row[1] for row in ROWS[1:]]


def test_a_delimiter_and_quotes_that_are_set_are_used():
    data = f'id^text\n1^"{ZH}\n2^x,y\n'.encode()
    assert read("a.csv", data, delimiter="^", quote="")[:2] == ([f'"{ZH}', "x,y"], [])
    assert read("a.tsv", f'id\ttext\n1\t"{EN}" he said\n'.encode(), quote="")[0] == [f'"{EN}" he said']


def test_one_column_is_never_cut_where_the_header_names_it():
    assert read("a.csv", b"text\na;b|c\td\n")[0] == ["a;b|c\td"]


def test_cells_that_the_header_does_not_name_are_on_record():
    texts, _, notes = read("a.csv", f"id,text\n1,{ZH},more,\n2,{HANT},\n".encode())
    assert texts == [ZH, HANT]
    assert notes == [Note("extra-cells", "4 cells", "2, as in the header")]


@given(st.text(), st.sampled_from(["utf-8", "gb18030", "utf-16", "big5hkscs"]), st.binary(max_size=3))
def test_no_bytes_break_the_decoding(text: str, codec: str, tail: bytes):
    data = text.encode(codec, "replace") + tail
    for declared in ([], ["gbk"], ["big5"], ["utf-8"]):
        found = decode_document(data, "", declared=declared)
        assert isinstance(found, RejectedRecord) or isinstance(found.text, str)
    detect(data)
    b"".join(utf8_blocks([data], "auto", [])).decode("utf-8", "replace")


def test_what_is_detected_does_not_depend_on_the_blocks():
    data = EN.encode() * 400 + ZH.encode("gbk") * 300 + b"\xff" * 9
    cuts = [range(0, len(data), step) for step in (999, 65_536, len(data))]
    outcomes = set()
    for starts in cuts:
        notes: list[Note] = []
        ends = [*starts[1:], len(data)]
        blocks = [data[start:end] for start, end in zip(starts, ends, strict=True)]
        outcomes.add((b"".join(utf8_blocks(blocks, "auto", notes)), *notes))
    assert len(outcomes) == 1
    assert len(data) > 2 * SAMPLE


def test_every_known_name_leads_to_one_codec():
    names = ["gb2312", "GBK", "x-gbk", "gb18030"]
    assert {codec_of(name) for name in names} == {"gb18030"}
    assert [codec_of(name) for name in ("Big5", "big5-hkscs", "latin1", "UTF8")] == [
        "cp950",
        "big5hkscs",
        "cp1252",
        "utf-8",
    ]
    assert all(codec_of(codec_of(name)) == codec_of(name) for name in itertools.chain(names, ["utf-16", "euc-kr"]))
