"""Columns of a shard: the same as the plain way gives, and in a file that says what it holds."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slimpajama.core.config import TextConfig, TokenizerConfig
from slimpajama.core.errors import InputError
from slimpajama.core.schema import SHARDS
from slimpajama.corpus.shards.columns import encode_words, features, shard_bytes, words_of
from slimpajama.text.tokenizer import SEPARATOR, Tokenizer, train_tokenizer

WORDS = ["今天", "天气", " the", " weather", "，", " ", "龘", "𠀀", "é"]
DOCUMENTS = st.lists(st.lists(st.sampled_from(WORDS), max_size=8), max_size=6)


@pytest.fixture(scope="module")
def encoder():
    return Tokenizer.load(train_tokenizer([SEPARATOR.join(WORDS * 3)], TokenizerConfig(vocab_size=300)), TextConfig())


def rows(documents: list[list[str]]) -> pa.Table:
    lengths = [[len(word.encode()) for word in words] for words in documents]
    return pa.table(
        {
            "text": pa.array(["".join(words) for words in documents], pa.large_string()),
            "lengths": pa.array([bytes(each) for each in lengths], pa.binary()),
        }
    )


# Words that differ in one byte of any eight, or in their length: a zero byte at the end is one of them.
ALIKE = ["a" * n + last for n in (0, 1, 6, 7, 8, 14, 15, 16, 31, 62, 63) for last in ("a", "b", "\0")] + [
    "\0a",
    "b" + "a" * 16,
    "aaaaaaaab" + "a" * 7,
]


@given(st.lists(st.lists(st.sampled_from([*WORDS, *ALIKE]) | st.text(max_size=16), max_size=8), max_size=6))
def test_words_are_numbered_by_their_first_places_and_cut_out_of_their_texts(documents):
    padded = rows([["前"], *documents, ["後"]]).slice(1, len(documents))
    words = words_of(padded)
    words.validate(full=True)
    assert words.to_pylist() == documents
    flat = [word for words in documents for word in words]
    assert words.values.dictionary.to_pylist() == list(dict.fromkeys(flat))


def test_more_different_words_than_the_table_first_holds():
    documents = [[f"{n:06x}" for n in range(first, first + 100_000)] for first in (0, 50_000, 100_000)]
    words = words_of(rows(documents))
    assert words.to_pylist() == documents
    assert len(words.values.dictionary) == 200_000


@pytest.mark.parametrize("lengths", [([3, 6], [3]), ([6, 3], [3]), ([3], [3]), ([6], [])])
def test_lengths_of_another_text_are_refused(lengths):
    wrong = pa.array([bytes(each) for each in lengths], pa.binary())
    table = rows([["今天"], ["天气"]]).set_column(1, "lengths", wrong)
    with pytest.raises(InputError, match="differ in length"):
        words_of(table)


@given(DOCUMENTS)
def test_tokens_mask_and_content_words_are_those_of_each_word_by_itself(encoder, documents):
    words = pa.array([["前"], *documents, ["後"]], pa.list_(pa.string()))
    words = pa.ListArray.from_arrays(words.offsets, words.values.dictionary_encode()).slice(1, len(documents))
    carries = np.array([word.strip() != "" for word in words.values.dictionary.to_pylist()])
    content_words, ids, mask = encode_words(words, carries, encoder)
    each = [[encoder.encode_joined([word])[0] for word in words] for words in documents]
    assert ids.type == pa.list_(pa.uint16())
    assert ids.to_pylist() == [[i for ids in tokens for i in ids] for tokens in each]
    assert mask.to_pylist() == [
        "".join("1" if word.strip() else "0" for word, ids in zip(words, tokens, strict=True) for _ in ids)
        for words, tokens in zip(documents, each, strict=True)
    ]
    assert content_words.to_pylist() == [[word for word in words if word.strip()] for words in documents]


def test_the_file_has_the_schema_and_tells_datasets_its_features():
    lists = pa.array([WORDS, []], pa.list_(pa.string()))
    indices = pa.ListArray.from_arrays(lists.offsets, lists.values.dictionary_encode())
    columns = {
        "id": ["a", "b"],
        "lang": ["zh", "en"],
        "source": ["s", "s"],
        "words": indices,
        "content_words": indices,
        "input_ids": pa.array([[1, 65_535], []], pa.list_(pa.uint16())),
        "content_mask": ["10", ""],
        "n_bytes": np.array([1, 2]),
    }
    file = shard_bytes(pa.table(columns))
    table = pq.read_table(io.BytesIO(file))
    assert table.schema.equals(SHARDS)
    assert table["words"].to_pylist() == lists.to_pylist()
    assert table["input_ids"].to_pylist() == [[1, 65_535], []]
    described = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert described == features()
    assert described["input_ids"] == {"feature": {"dtype": "uint16", "_type": "Value"}, "_type": "Sequence"}
