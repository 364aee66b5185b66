"""What a missing document does to the rows of the others."""

from __future__ import annotations

import numpy as np
import pytest

from slimpajama.core.split import hashes
from slimpajama.model.train.order import Order

T = 256


def documents(n: int, mean: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    lengths = 1 + np.random.default_rng(3).geometric(1 / mean, n).astype(np.int64)
    return hashes([str(i) for i in range(n)], "test", 0), np.cumsum(lengths) - lengths, lengths


def rows_of(order: Order) -> dict[bytes, int]:
    """Return each row's number by its tokens, as places in the array of all tokens."""
    return {row.tobytes(): number for number, row in enumerate(order.places(0, len(order)))}


@pytest.mark.parametrize("mean", [60, 600, 6000])
def test_every_place_comes_once_but_those_that_fill_up_the_last_row(mean: int):
    keys, starts, lengths = documents(3000, mean)
    order = Order(keys, starts, lengths, T, np.uint64(1))
    places, times = np.unique(order.places(0, len(order)), return_counts=True)
    assert np.array_equal(places, np.arange(lengths.sum()))
    assert (times - 1).sum() == len(order) * T - lengths.sum() < T


@pytest.mark.parametrize(("mean", "least"), [(60, 0.5), (600, 0.85), (6000, 0.95)])
def test_a_hundredth_of_the_documents_missing_leaves_most_rows_as_they_are_and_where_they_are(mean: int, least: float):
    keys, starts, lengths = documents(4000, mean)
    kept = np.random.default_rng(4).random(4000) >= 0.01
    before = Order(keys, starts, lengths, T, np.uint64(1))
    after = Order(keys[kept], starts[kept], lengths[kept], T, np.uint64(1))
    old, new = rows_of(before), rows_of(after)
    same = old.keys() & new.keys()
    assert len(same) > least * len(new)
    moved = np.array([old[row] / len(before) - new[row] / len(after) for row in same])
    # Kolmogorov and Smirnov: d rows that differ, at random places among n, move no other further, 999 times in 1,000.
    assert np.abs(moved).max() < 3 * np.sqrt(len(new) - len(same)) / len(new)


def test_one_document_missing_changes_a_row_here_and_there():
    keys, starts, lengths = documents(4000, 600)
    kept = np.arange(4000) != 1234
    old, new = (rows_of(Order(keys[k], starts[k], lengths[k], T, np.uint64(1))) for k in (kept | True, kept))
    assert len(old.keys() & new.keys()) > 0.95 * len(new)


@pytest.mark.parametrize("mean", [600, 6000])
def test_another_salt_cuts_and_orders_the_rows_anew(mean: int):
    keys, starts, lengths = documents(500, mean)
    one, two = (rows_of(Order(keys, starts, lengths, T, np.uint64(salt))) for salt in (1, 2))
    assert len(one.keys() & two.keys()) < 0.05 * len(one)
