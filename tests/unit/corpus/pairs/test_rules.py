"""What is refused, and what has to stay, in both languages."""

import polars as pl
import pytest

from slimpajama.core.config import PairsConfig
from slimpajama.corpus.pairs.rules import language, refuse

EN, ZH = "Open the file in the editor.", "在编辑器中打开文件。"
LONG_EN, LONG_ZH = f"{EN} " * 40, ZH * 40


def verdict(source, target, task="translation", question="", langs=("en", "zh"), **settings):
    rows = pl.DataFrame(
        {
            "task": [task],
            "source": [source],
            "question": [question],
            "target": [target],
            "source_lang": [langs[0]],
            "target_lang": [langs[1]],
        }
    )
    if task != "translation":
        rows = rows.with_columns(source_lang=language("source"), target_lang=language("target"))
    return refuse(rows, PairsConfig(**settings)).row(0)


@pytest.mark.parametrize(
    ("source", "target", "options"),
    [
        (EN, ZH, {}),
        (ZH, EN, {"langs": ("zh", "en")}),
        # Hardly an ideograph: names and code.
        ("argparse: add_argument", "argparse：add_argument 方法", {}),
        # No letters, so no language to be wrong.
        ("3.1", "3.2", {}),
        ("Bonjour à tous.", ZH, {"langs": ("fr", "zh")}),
        (LONG_EN, EN, {"task": "summarization"}),
        (LONG_ZH, ZH, {"task": "summarization"}),
        ("TiDB 的 `TIKV_REGION_STATUS` 表展示 Region 的信息。" * 9, "TIKV_REGION_STATUS 表", {"task": "summarization"}),
        (LONG_ZH, "文件", {"task": "question-answering", "question": "打开什么？"}),
        (LONG_EN, "the file", {"task": "question-answering", "question": "What is opened?"}),
    ],
)
def test_good_pairs_stay(source, target, options):
    assert verdict(source, target, **options) == (None, None, None)


@pytest.mark.parametrize(
    ("source", "target", "options", "rule"),
    [
        ("", ZH, {}, "empty-side"),
        (EN, "。。。", {}, "empty-side"),
        (LONG_EN, "the file", {"task": "question-answering", "question": " ?"}, "empty-side"),
        (EN, EN, {}, "same-sides"),
        (ZH, EN, {}, "swapped-languages"),
        (EN, "Ouvrez le fichier.", {}, "wrong-language"),
        (ZH, f"{ZH}！", {}, "wrong-language"),
        (LONG_EN, ZH, {"task": "summarization"}, "wrong-language"),
        (EN, LONG_ZH, {}, "length-ratio"),
        (LONG_EN, ZH, {}, "length-ratio"),
        (EN, LONG_EN, {"task": "summarization"}, "length-ratio"),
        (LONG_EN, ZH, {"max_source_chars": 100}, "too-long"),
    ],
)
def test_each_rule_refuses_what_it_is_for(source, target, options, rule):
    found, value, threshold = verdict(source, target, **options)
    assert found == rule
    assert value
    assert threshold


def test_length_takes_an_ideograph_for_the_letters_that_stand_for_it():
    english, chinese = "x" * 270, "文" * 100
    assert verdict(english, chinese, max_length_ratio=1.01) == (None, None, None)
    assert verdict(english, chinese[:97], max_length_ratio=1.01)[:2] == ("length-ratio", "1.03")
