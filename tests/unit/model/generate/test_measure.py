import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slimpajama.model.generate.measure import COPY_TOKENS, copied_share, repeated_share
from slimpajama.text.suffixes import suffixes_of

DOCUMENT, VOCAB = 0, 2000


def index(*documents):
    stream = [DOCUMENT]
    for document in documents:
        stream += [*document, DOCUMENT]
    return suffixes_of(np.array(stream), VOCAB, DOCUMENT)


def test_a_text_that_says_one_thing_over_and_over_repeats_itself():
    assert repeated_share([5] * 104) == pytest.approx(1 - 1 / 101)
    assert repeated_share(list(range(100))) == 0.0
    assert repeated_share([1, 2]) == 0.0


def test_what_lies_in_the_corpus_counts_as_copied():
    parts = [index(range(100, 200)), index(range(300, 400))]
    copied, fresh = [*range(150, 190)], [*range(1000, 1040)]
    shares = [copied_share(np.array(text, np.uint32), parts) for text in (copied, fresh, copied + fresh, [1], [])]
    assert shares == [1.0, 0.0, 0.5, 0.0, 0.0]


def test_a_run_that_is_one_token_too_short_or_lies_in_two_documents_is_not_copied():
    parts = [index(range(100, 200), range(200, 300))]
    short = [1, *range(120, 120 + COPY_TOKENS - 1), 1]
    assert copied_share(np.array(short, np.uint32), parts) == 0.0
    assert copied_share(np.arange(190, 210, dtype=np.uint32), parts) == 0.0


@given(st.lists(st.integers(1, 3), max_size=60), st.lists(st.integers(1, 3), max_size=300))
def test_it_is_the_share_of_tokens_in_a_run_that_stands_in_the_document(text, document):
    runs = {tuple(document[i : i + COPY_TOKENS]) for i in range(len(document) - COPY_TOKENS + 1)}
    covered = set()
    for i in range(len(text) - COPY_TOKENS + 1):
        if tuple(text[i : i + COPY_TOKENS]) in runs:
            covered |= {*range(i, i + COPY_TOKENS)}
    share = copied_share(np.array(text, np.uint32), [index(document)])
    assert share == pytest.approx(len(covered) / max(1, len(text)))
