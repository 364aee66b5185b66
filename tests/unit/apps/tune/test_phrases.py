"""Drafts: what words become is learnt from pairs alone, in both directions, and the file brings it back."""

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from slimpajama.apps.tune.phrases import Dictionary, with_drafts, with_drafts_of_others
from slimpajama.core.config import TextConfig
from slimpajama.text.segment import Segmenter
from slimpajama.workspace.parquet import parquet_bytes

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


def pairs(*rows):
    """Return translations as pairs are kept: source, target, target language, group."""
    frame = pl.DataFrame(rows, ["source", "target", "target_lang", "group"], orient="row")
    return frame.with_columns(task=pl.lit("translation"), targets=pl.concat_list("target"))


@pytest.fixture(scope="module")
def rows():
    """Texts of three words each, in another order on the other side; `old film` is two words for one."""
    rng, found = np.random.default_rng(0), []
    for n in range(200):
        chosen = [list(WORDS)[i] for i in rng.choice(len(WORDS), 3, replace=False)]
        chinese, english = "，".join(chosen) + "。", " ".join(WORDS[word] for word in reversed(chosen)) + "."
        found += [(chinese, english, "en", str(n)), (english, chinese, "zh", str(n))]
    return pairs(*found)


@pytest.fixture(scope="module")
def dictionary(rows, segmenter):
    return Dictionary.learn(rows, segmenter)


def test_words_are_told_apart_by_what_they_come_with(dictionary):
    for chinese, english in WORDS.items():
        assert dictionary.tables["en"][chinese] == english
        assert dictionary.tables["zh"][english] == chinese


def test_a_phrase_takes_the_order_it_had(segmenter):
    """The other language says it the other way round, and only the phrase knows."""
    words = [("红色", "red"), ("房子", "house"), ("蓝色", "blue"), ("汽车", "car"), ("白色", "white"), ("马", "horse")]
    rows = [(f"{a}{b}", f"{y} {x}", "en", "") for a, x in words[::2] for b, y in words[1::2] for _ in range(3)]
    table = Dictionary.learn(pairs(*rows), segmenter)
    assert drafts(table, segmenter, "en", "红色房子") == ["House red"]
    assert drafts(table, segmenter, "en", "房子红色") == ["House red"]


def drafts(dictionary, segmenter, lang, *texts):
    return dictionary.drafts(pa.array(texts, pa.large_string()), lang, segmenter).to_pylist()


def test_a_draft_is_written_as_its_language_is(dictionary, segmenter):
    assert drafts(dictionary, segmenter, "en", "老师学校") == ["Teacher school"]
    # As they stood in pairs.
    assert drafts(dictionary, segmenter, "zh", "Teacher school", "") == ["学校，老师", ""]


def test_what_is_not_known_stays_as_it_is(dictionary, segmenter):
    assert "CamelCase" in drafts(dictionary, segmenter, "zh", "school CamelCase")[0]
    assert drafts(dictionary, segmenter, "fr", "school") == ["School"]


def test_the_file_brings_it_back(dictionary):
    assert Dictionary.load(parquet_bytes(dictionary.table())) == dictionary
    assert Dictionary.load(parquet_bytes(Dictionary({}).table())) == Dictionary({})


def test_the_same_pairs_give_the_same_dictionary_and_none_an_empty_one(rows, dictionary, segmenter):
    assert Dictionary.learn(rows, segmenter) == dictionary
    assert Dictionary.learn(rows.clear(), segmenter) == Dictionary({})


def test_a_pair_is_drafted_by_others_alone(segmenter):
    """What only one group says cannot be in its own draft, and is in everybody else's."""
    common = [("机器", "machine", "en", str(n)) for n in range(40)]
    own = [("报纸", "newspaper", "en", "own")] * 5
    found = with_drafts_of_others(pairs(*common, *own), segmenter)
    assert found["draft"].to_list() == ["Machine"] * 40 + ["报纸"] * 5
    assert found["source"].to_list() == ["机器"] * 40 + ["报纸"] * 5
    everything = Dictionary.learn(pairs(*common, *own), segmenter)
    assert with_drafts(pairs(*own), everything, segmenter)["draft"].to_list() == ["Newspaper"] * 5
