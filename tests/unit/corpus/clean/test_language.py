from typing import NamedTuple

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slimpajama.corpus.clean.language import identify
from slimpajama.corpus.clean.normalise import normalise
from slimpajama.corpus.clean.signals import scan
from slimpajama.text.buffers import text_buffers

ZH = "这家酒店的位置非常好，离地铁站只有五分钟的路程，房间也很干净，服务员的态度十分热情，下次还会再来住。"
HANT = "這家酒店的位置非常好，離地鐵站只有五分鐘的路程，房間也很乾淨，服務員的態度十分熱情，下次還會再來住。"
EN = "The hotel is close to the station, the rooms are clean and the staff were very friendly. We will come again."


class Language(NamedTuple):
    code: str
    zh: float
    en: float
    reliable: bool


def language(text: str) -> Language:
    offsets, data = text_buffers(pa.array([normalise(text)], pa.large_string()))
    found = identify(offsets, data, scan(offsets, data).counts)
    return Language(found.codes[0], *(float(column[0]) for column in found[1:3]), bool(found.reliable[0]))


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (ZH, "zh"),
        (HANT, "zh-Hant"),
        (EN, "en"),
        ("Das Hotel liegt in der Nähe des Bahnhofs, und die Zimmer sind wirklich sauber und freundlich.", "de"),
        ("このホテルは駅から近くて、部屋もとてもきれいでした。スタッフの対応も親切で、また泊まりたいです。", "ja"),
        (f"{ZH}{EN}" * 3, "mixed"),
        ("x = 1; qq", "unknown"),
        ("", "unknown"),
    ],
)
def test_languages_are_told_apart(text: str, code: str):
    assert language(text).code == code


@pytest.mark.parametrize(
    "text",
    [
        "质量不错，書也很好看，推荐給大家！",
        "3)运行速度快，我装过Vista和Windows7 RC，都能流畅的运行，我现在用Win7 RC，看电影都没有问题；",
        "这本書真的很好看，の字也认得，買了三本送给朋友们。",
        "很后悔，不怎么样的一本书，千万别买",
    ],
)
def test_a_short_chinese_review_is_chinese_whatever_it_quotes(text: str):
    assert language(text).code == "zh"


def test_shares_name_both_languages_of_a_mixed_text():
    found = language(f"{ZH}\n{EN}\n" * 4)
    assert found.zh > 0.2
    assert found.en > 0.2


def test_a_long_text_is_looked_at_from_beginning_to_end():
    assert language("The quick brown fox jumps. " * 400 + ZH * 200).code in ("zh", "mixed")
    assert language(ZH * 20 + "The quick brown fox jumps over the lazy dog. " * 1000).code in ("en", "mixed")


@given(st.text(max_size=200))
def test_no_text_breaks_the_identifier(text: str):
    found = language(text)
    assert found.code
    assert 0.0 <= found.zh <= 1.0
    assert 0.0 <= found.en <= 1.0
