"""No text copies more than some words in a row out of one document, in both languages."""

import numpy as np
import pytest

from slimpajama.core.config import GenerateConfig, TextConfig, TokenizerConfig
from slimpajama.model.generate.sampling import generate_tokens
from slimpajama.model.memory.contexts import Corpus
from slimpajama.model.memory.copies import UNIT, CopyGuard
from slimpajama.text.suffixes import suffixes_of
from slimpajama.text.tokenizer import SEPARATOR, Tokenizer, train_tokenizer

ENGLISH = (
    "The committee met on the first Monday of the month to discuss whether the old bridge over the river should be"
    " repaired or replaced, and decided, after three hours and with one vote against, to ask the engineers once more."
)
CHINESE = (
    "委员会于本月第一个星期一开会讨论河上的旧桥应当修理还是更换，经过三个小时的讨论，"
    "以一票反对决定再次征求工程师的意见。"
)
OTHER = "Nothing of this stands in the other text, 这里写的是另外一件事情。"


@pytest.fixture(scope="module")
def tokenizer():
    words = [ENGLISH, CHINESE, OTHER] * 4
    loaded = Tokenizer.load(
        train_tokenizer([SEPARATOR.join(list(one)) for one in words], TokenizerConfig(vocab_size=600))
    )
    segmenter = loaded.segmenter
    joined = [SEPARATOR.join(segmenter.cut(one)) for one in words]
    return Tokenizer.load(train_tokenizer(joined, TokenizerConfig(vocab_size=600)), TextConfig())


@pytest.fixture(scope="module")
def corpus(tokenizer):
    document = tokenizer.document_id
    parts = []
    for texts in ((ENGLISH, OTHER), (CHINESE,)):
        stream = [document, *(token for text in texts for token in [*tokenizer.encode(text), document])]
        parts.append(suffixes_of(np.array(stream), tokenizer.vocab_size, document))
    return Corpus(parts, 4)


def words_of(text):
    return sum(0.5 if unit[1] else 1.0 for unit in UNIT.finditer(text))


def longest_copy(text):
    """Return the most words in a row that a text has in common with one of the documents."""
    units = list(UNIT.finditer(text))
    runs = (text[first.start() : last.end()] for number, first in enumerate(units) for last in units[number:])
    return max((words_of(run) for run in runs if any(run in one for one in (ENGLISH, CHINESE, OTHER))), default=0.0)


class Parrot:
    """Gives the document's next token nearly all likelihood, as a memory alone would."""

    def __init__(self, tokenizer, text):
        self.row_tokens, self.told = 1000, tokenizer.encode(text)
        self.size = tokenizer.vocab_size

    def start(self, tokens_BT):
        return [0], self._logits(0)

    def step(self, state, tokens_B):
        state[0] += 1
        return self._logits(state[0])

    def _logits(self, place):
        import torch

        logits = torch.zeros(1, self.size)
        logits[0, self.told[place % len(self.told)]] = 20.0
        return logits


@pytest.mark.parametrize("text", [ENGLISH, CHINESE])
@pytest.mark.parametrize("most", [4, 8, 12])
def test_a_parrot_is_stopped_before_it_has_copied_too_much(tokenizer, corpus, text, most):
    guard = CopyGuard(corpus, tokenizer, most)
    for seed in range(4):
        cfg = GenerateConfig(max_tokens=120, seed=seed, temperature=1.0, top_p=1.0)
        start = [tokenizer.document_id]
        free = tokenizer.decode(generate_tokens(Parrot(tokenizer, text), start, cfg, tokenizer.document_id))
        held = tokenizer.decode(
            generate_tokens(Parrot(tokenizer, text), start, cfg, tokenizer.document_id, allows=guard.allows)
        )
        assert longest_copy(free) > 12
        assert most / 2 - 2 <= longest_copy(held) <= most


@pytest.mark.parametrize("text", [ENGLISH, CHINESE])
def test_a_copy_is_seen_whatever_tokens_spell_it(tokenizer, corpus, text):
    guard = CopyGuard(corpus, tokenizer, 8)
    assert not guard.allows(tokenizer.encode(text)[:-2])
    # In the middle one word is spelt byte by byte.
    ids = tokenizer.encode(text)
    for place in range(len(ids) // 3, len(ids) // 2):
        bytes_ = [tokenizer.encode_bytes(bytes([byte]))[0] for byte in tokenizer.pieces[ids[place]]]
        assert not guard.allows([*ids[:place], *bytes_, *ids[place + 1 : -2]])


def test_own_words_and_short_quotes_are_allowed(tokenizer, corpus):
    guard = CopyGuard(corpus, tokenizer, 8)
    for text in ("", "桥", "A bridge", "We met on the first Monday, 在河边。", "别的文字与此无关，说的是天气。" * 4):
        ids = tokenizer.encode(text)
        assert all(guard.allows(ids[:end]) for end in range(len(ids) + 1))


def test_a_copy_that_runs_on_over_two_documents_is_none(tokenizer, corpus):
    guard = CopyGuard(corpus, tokenizer, 12)
    both = tokenizer.encode(" to ask the engineers once more." + "Nothing of this stands in")
    assert guard.allows(both)
