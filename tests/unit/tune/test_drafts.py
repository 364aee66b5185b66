"""Drafts: what words become is learnt from pairs alone, in both directions, and the file brings it back."""

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from slimpajama.config import TextConfig
from slimpajama.storage import parquet_bytes
from slimpajama.text.segment import Segmenter
from slimpajama.tune.drafts import Dictionary

WORDS = {
    "图书馆": "library",
    "机器": "machine",
    "报纸": "newspaper",
    "电影": "film",
    "学校": "school",
    "老师": "teacher",
}


@pytest.fixture(scope="module")
def segmenter():
    return Segmenter(TextConfig())


@pytest.fixture(scope="module")
def dictionary(segmenter):
    """Learn from texts of three words each, in another order on the other side."""
    rng, rows = np.random.default_rng(0), []
    for _ in range(200):
        chosen = [list(WORDS)[i] for i in rng.choice(len(WORDS), 3, replace=False)]
        chinese, english = "，".join(chosen) + "。", " ".join(WORDS[word] for word in reversed(chosen)) + "."
        rows += [(chinese, english, "en"), (english, chinese, "zh")]
    return Dictionary.learn(pl.DataFrame(rows, ["source", "target", "target_lang"], orient="row"), segmenter)


def test_words_are_told_apart_by_what_they_come_with(dictionary):
    for chinese, english in WORDS.items():
        assert dictionary.tables["en"][chinese] == english
        assert dictionary.tables["zh"][english] == chinese


def drafts(dictionary, segmenter, lang, *texts):
    return dictionary.drafts(pa.array(texts, pa.large_string()), lang, segmenter).to_pylist()


def test_a_draft_is_written_as_its_language_is(dictionary, segmenter):
    assert drafts(dictionary, segmenter, "en", "老师学校") == ["teacher school"]
    assert drafts(dictionary, segmenter, "zh", "Teacher school", "") == ["老师学校", ""]


def test_what_is_not_known_stays_as_it_is(dictionary, segmenter):
    assert "CamelCase" in drafts(dictionary, segmenter, "zh", "school CamelCase")[0]
    assert drafts(dictionary, segmenter, "fr", "school") == ["school"]


def test_the_file_brings_it_back(dictionary):
    assert Dictionary.load(parquet_bytes(dictionary.table())) == dictionary
    assert Dictionary.load(parquet_bytes(Dictionary({}).table())) == Dictionary({})


def test_the_same_pairs_give_the_same_dictionary_and_none_an_empty_one(segmenter):
    rows = pl.DataFrame([("图书馆 开门", "library opens", "en")] * 3, ["source", "target", "target_lang"], orient="row")
    once, again = Dictionary.learn(rows, segmenter), Dictionary.learn(rows, segmenter)
    assert once == again
    assert Dictionary.learn(rows.clear(), segmenter) == Dictionary({})
