"""The vocabulary: exact for any text, bounded by words, the same in every process."""

import json
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slimpajama.core.config import TextConfig, TokenizerConfig
from slimpajama.core.errors import ModelError
from slimpajama.text.segment import Segmenter
from slimpajama.text.tokenizer import DOCUMENT, SEPARATOR, Tokenizer, train_tokenizer

TEXTS = [
    "今天天气很好，我们去公园散步。公园里有很多人在散步。",
    "The weather is fine today, so we walk in the park. Many people walk in the park.",
    "Python 3.11 很快；the parser is fast.",
] * 20


def trained(vocab_size=400):
    segmenter = Segmenter(TextConfig())
    return train_tokenizer([SEPARATOR.join(segmenter.cut(t)) for t in TEXTS], TokenizerConfig(vocab_size=vocab_size))


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.load(trained())


@given(st.text())
def test_every_text_comes_back_exactly(tokenizer, text):
    ids = tokenizer.encode(text)
    assert tokenizer.decode_bytes(ids).decode("utf-8", "surrogatepass") == text
    assert tokenizer.token_bytes[ids].sum() == len(text.encode())


def test_text_that_holds_the_separator_or_spells_a_special_token_comes_back(tokenizer):
    for text in (f"a{SEPARATOR}b", SEPARATOR * 3, DOCUMENT, f"好{DOCUMENT}好"):
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        assert tokenizer.document_id not in ids


def test_no_piece_crosses_a_word(tokenizer):
    words = Segmenter(TextConfig()).cut("今天天气很好，we walk in the park")
    ends = np.cumsum([len(word.encode()) for word in words])
    (ids,) = tokenizer.encode_joined([SEPARATOR.join(words)])
    token_ends = set(np.cumsum(tokenizer.token_bytes[ids]).tolist())
    assert set(ends.tolist()) <= token_ends


def test_frequent_words_became_one_piece(tokenizer):
    assert len(tokenizer.encode("散步")) == 1
    assert len(tokenizer.encode(" park")) == 1


def test_it_is_a_standard_tokenizer_json(tokenizer):
    data = json.loads(trained())
    assert data["model"]["type"] == "BPE"
    assert data["model"]["vocab"][DOCUMENT] == tokenizer.document_id
    assert tokenizer.vocab_size <= 400


def test_the_vocabulary_does_not_depend_on_the_hash_seed():
    program = (
        "import sys; sys.path.insert(0, {here!r}); from test_tokenizer import trained;"
        "import hashlib; print(hashlib.sha256(trained()).hexdigest())"
    ).format(here=str(__import__("pathlib").Path(__file__).parent))
    digests = {
        subprocess.run(
            [sys.executable, "-c", program], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1


def test_something_that_is_no_tokenizer_is_refused():
    with pytest.raises(ModelError, match="not a tokenizer"):
        Tokenizer.load(b"{}")


@pytest.mark.parametrize(
    "change",
    [
        {"normalizer": {"type": "Lowercase"}},
        {"pre_tokenizer": {"type": "Whitespace"}},
        {"truncation": {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0}},
        {
            "padding": {
                "strategy": {"Fixed": 99},
                "direction": "Right",
                "pad_to_multiple_of": None,
                "pad_id": 9999,
                "pad_type_id": 0,
                "pad_token": "x",
            }
        },
        {
            "added_tokens": [
                {
                    "id": 9999,
                    "content": "散步",
                    "single_word": False,
                    "lstrip": False,
                    "rstrip": False,
                    "normalized": False,
                    "special": False,
                }
            ]
        },
        {"model": {"dropout": 0.9}},
        {"model": {"end_of_word_suffix": "e"}},
        # The library would end the process' thread over it.
        {"model": {"continuing_subword_prefix": "##"}},
    ],
)
def test_whatever_else_a_file_asks_for_every_byte_comes_back(change):
    data = json.loads(trained())
    changed = data | change | {"model": data["model"] | change.get("model", {})}
    tokenizer, text = Tokenizer.load(json.dumps(changed).encode()), "去散步 散步 The  Park"
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.encode(text) == Tokenizer.load(trained()).encode(text)


def test_merges_that_make_a_special_token_of_text_or_stand_twice_are_refused():
    data = json.loads(trained())
    vocabulary, merges = data["model"]["vocab"], data["model"]["merges"]
    for end in range(2, len(DOCUMENT)):
        vocabulary.setdefault(DOCUMENT[:end], len(vocabulary))
    spelt = [[DOCUMENT[:end], DOCUMENT[end]] for end in range(1, len(DOCUMENT))]
    for wrong in (merges + spelt, merges + merges[:1]):
        changed = data | {"model": data["model"] | {"merges": wrong}}
        with pytest.raises(ModelError, match="a merge stands twice, or makes text a document's token"):
            Tokenizer.load(json.dumps(changed).encode())


@given(st.lists(st.text(max_size=16) | st.text("散步parkweht 天", min_size=8, max_size=21), max_size=9))
def test_each_word_gets_the_ids_that_the_library_gives_it(tokenizer, words):
    ids, begins = tokenizer.encode_each(pa.array(["", *words, ""], pa.string()).slice(1, len(words)))
    assert len(begins) == len(words) + 1
    border = tokenizer.pieces.index(SEPARATOR.encode())
    for word, a, b in zip(words, begins, begins[1:], strict=False):
        first, *others = [tokenizer.encode_joined([part])[0] for part in word.split(SEPARATOR)]
        assert ids[a:b].tolist() == first + [index for other in others for index in (border, *other)]


def test_a_word_that_no_segmenter_makes_is_refused(tokenizer):
    with pytest.raises(ValueError, match="at most 64 bytes, found 66"):
        tokenizer.encode_each(pa.array(["散步", "散" * 22]))
