from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slimpajama.model.generate.measure import COPY_TOKENS, copied_share, ngram_hashes, repeated_share

ids = st.lists(st.integers(0, 3), max_size=40)


@given(ids, st.integers(1, 5))
def test_hashes_are_equal_exactly_where_the_runs_are(tokens: list[int], n: int):
    hashes = ngram_hashes(np.array(tokens, np.uint16), n).tolist()
    runs = [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]
    assert len(hashes) == len(runs)
    assert len(set(hashes)) == len(set(runs)) == len(set(zip(hashes, runs, strict=True)))


def test_a_text_that_says_one_thing_over_and_over_repeats_itself():
    assert repeated_share([5] * 104) == pytest.approx(1 - 1 / 101)
    assert repeated_share(list(range(100))) == 0.0
    assert repeated_share([1, 2]) == 0.0


def test_what_lies_in_the_training_data_counts_as_copied():
    train = [np.arange(100, 200, dtype=np.uint16), np.arange(300, 400, dtype=np.uint16)]
    copied, fresh = list(range(150, 190)), list(range(1000, 1040))
    assert copied_share([copied, fresh, copied + fresh, [1]], train) == [1.0, 0.0, 0.5, 0.0]
    assert copied_share([list(range(COPY_TOKENS - 1))], train) == [0.0]
    assert copied_share([], train) == []


def test_a_run_that_is_one_token_too_short_is_not_copied():
    train = [np.arange(100, 200, dtype=np.uint16)]
    short = [0, *range(120, 120 + COPY_TOKENS - 1), 0]
    assert copied_share([short], train) == [0.0]
