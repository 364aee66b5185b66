import re
import unicodedata

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slimpajama.corpus.clean.normalise import normalise
from slimpajama.corpus.clean.quality import measure, measure_text
from slimpajama.corpus.clean.signals import COUNTS, GOPHER_STOP_WORDS, HAN_STOP_WORDS, SHORT_LINE, scan
from slimpajama.text.buffers import text_buffers

HAN = re.compile("[\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
KANA = re.compile("[\u3041-\u30ff\u31f0-\u31ff\uff66-\uff9f\u1100-\u11ff\uac00-\ud7af]")
TEXT = st.text(st.sampled_from("aB9é中的の문 \t\u3000\n'’.…。!#{-•,\U00020000İ"), max_size=60) | st.text(max_size=40)


def counted(*texts: str) -> list[dict[str, int]]:
    found = scan(*text_buffers(pa.array(texts, pa.large_string())))
    return [dict(zip(COUNTS, row.tolist(), strict=True)) for row in found.counts]


def is_content(char: str) -> bool:
    return unicodedata.category(char)[0] in "LMN"


def units(text: str) -> list[str]:
    """The definition, one character at a time."""
    found, run = [], ""
    for place, char in enumerate(text):
        single = is_content(char) and (HAN.match(char) or KANA.match(char))
        if is_content(char) and not single:
            run += char
        elif run and char in "'’" and text[place - 1] not in "'’":
            continue
        else:
            found += [run] if run else []
            run = ""
        found += [char] if single else []
    return found + ([run] if run else [])


def reference(text: str) -> dict[str, int]:
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    words = units(text)
    lower = {"".join(c.lower()[0] if ord(c) < 0x600 else c for c in word) for word in words}
    han = HAN.findall("".join(filter(is_content, text)))
    return {
        "chars": len(text),
        "content": sum(map(is_content, text)),
        "beyond_ascii": sum(is_content(c) and c > "\x7f" for c in text),
        "han": len(han),
        "kana": len(KANA.findall("".join(filter(is_content, text)))),
        "units": len(words),
        "unit_chars": sum(map(len, words)),
        "alphabetic": sum(
            any(unicodedata.category(c)[0] in "LM" or HAN.match(c) or KANA.match(c) for c in word) for word in words
        ),
        "symbols_alone": sum(not any(map(is_content, run)) for run in text.split()),
        "stop_words": len(lower & {*GOPHER_STOP_WORDS, *HAN_STOP_WORDS}),
        "hashes": text.count("#") + text.count("＃"),
        "ellipses": len(re.findall(r"\.{3,}|…+", text)),
        "curly": text.count("{") + text.count("｛"),
        "newlines": text.count("\n"),
        "lines": len(lines),
        "line_chars": sum(len(" ".join(line.split())) for line in lines),
        "bullet_lines": sum(line[0] in "•‣◦●○▪■□◆◇▶►➢·・*-–—" for line in lines),
        "ellipsis_lines": sum(line.endswith(("…", "...")) for line in lines),
        "punctuated_lines": sum(line[-1] in ".!?…\"'”’。！？；｡．」』" for line in lines),
        "short_lines": sum(
            len(" ".join(line.split())) + 1.7 * sum(bool(HAN.match(c)) for c in filter(is_content, line))
            < SHORT_LINE - 1e-9
            for line in lines
        ),
    }


@given(TEXT)
def test_the_kernel_counts_what_the_definition_says(raw: str):
    text = normalise(raw)
    (found,) = counted(text)
    expected = reference(text)
    assert {name: found[name] for name in expected} == expected


@given(st.lists(TEXT, max_size=5))
def test_a_document_is_counted_alike_alone_and_among_others(raw: list[str]):
    texts = [normalise(text) for text in raw]
    assert counted(*texts) == [counted(text)[0] for text in texts]
    _, _, quality = measure(pa.array(texts, pa.large_string()))
    assert quality.to_pylist() == [measure_text(text) for text in texts]


def test_a_slice_of_a_block_is_read_at_its_place():
    texts = pa.array(["first 一", "second 二二", "third"], pa.large_string())
    assert scan(*text_buffers(texts.slice(1, 1))).counts[0].tolist() == tuple(counted("second 二二")[0].values())


def test_a_word_is_a_run_of_letters_and_a_han_character_is_a_unit_of_its_own():
    assert units("Don't stop, it’s 42nd: 你好world")[:4] == ["Dont", "stop", "its", "42nd"]
    english, chinese = counted("Don't stop, it’s 42nd", "你好，世界！")
    assert (english["units"], english["unit_chars"]) == (4, 15)
    assert (chinese["units"], chinese["unit_chars"]) == (4, 4)
    assert measure_text("你好，世界！")["words"] == 2


def test_scripts_are_told_apart_by_the_characters_that_only_one_has():
    simplified, traditional, neither = counted("这个图书馆", "這個圖書館", "天地人")
    assert (simplified["simplified"], simplified["traditional"]) == (5, 0)
    assert (traditional["simplified"], traditional["traditional"]) == (0, 5)
    assert (neither["simplified"], neither["traditional"]) == (0, 0)


def test_javascript_is_counted_by_line_and_lorem_ipsum_by_its_beginning():
    (found,) = counted("Please enable JavaScript, JAVASCRIPT!\nLorem ipsum dolor\nlorem, then ipsum")
    assert (found["javascript_lines"], found["lorem_ipsum"]) == (1, 1)


@pytest.mark.parametrize(
    ("text", "paragraphs", "lines"),
    [
        ("甲。\n乙。\n\n甲。\n乙。", (0.5, 0.5), (0.5, 0.5)),
        ("one\ntwo\n \t\none  \ntwo\n\n\nthree", (1 / 3, 6 / 17), (2 / 5, 6 / 17)),
        ("", (0, 0), (0, 0)),
    ],
)
def test_repeated_lines_and_paragraphs_are_measured_by_number_and_by_characters(
    text: str, paragraphs: tuple[float, float], lines: tuple[float, float]
):
    found = measure_text(text)
    values = [found[f"dup_{part}"] for part in ("paragraphs", "paragraph_chars", "lines", "line_chars")]
    assert values == pytest.approx([*paragraphs, *lines], abs=1e-6)


def test_shares_are_zero_where_there_is_nothing_to_have_a_share_of():
    found = measure_text("")
    assert not any(np.array([found[name] for name in found if not name.startswith("lang")], float))
