"""The arithmetic coder alone: any bits under any probabilities."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slimpajama.apps.compress.coder import ONE, PLACE, decode_bit, encode_bit, finish, new_coder, start_decoding

bits_and_probabilities = st.lists(
    st.tuples(st.integers(0, 1), st.one_of(st.integers(1, ONE - 1), st.sampled_from([1, ONE // 2, ONE - 1]))),
    max_size=300,
)


def coded(pairs: list[tuple[int, int]]) -> bytes:
    coder, data = new_coder(), np.zeros(8 * len(pairs), np.uint8)
    for bit, p in pairs:
        encode_bit(coder, data, bit, p)
    return data[: int(coder[PLACE])].tobytes() + finish(coder)


@given(bits_and_probabilities)
def test_bits_come_back_whatever_their_probabilities(pairs: list[tuple[int, int]]):
    data = np.frombuffer(bytearray(coded(pairs)), np.uint8)
    coder = new_coder()
    start_decoding(coder, data)
    assert [decode_bit(coder, data, p) for _, p in pairs] == [bit for bit, _ in pairs]


@pytest.mark.parametrize("seed", range(5))
def test_the_code_is_as_long_as_the_information(seed: int):
    random = np.random.default_rng(seed)
    # As likely to be near 0 or 1 as near a half. An adversary could let the interval shrink around a byte's border.
    near = np.exp2(random.uniform(0, 15, 3_000)).astype(int)
    probabilities = np.where(random.random(3_000) < 0.5, near, ONE - near)
    bits = random.random(3_000) < probabilities / ONE
    pairs = list(zip(bits.astype(int).tolist(), probabilities.tolist(), strict=True))
    information = sum(-math.log2((p if bit else ONE - p) / ONE) for bit, p in pairs)
    # an interval of 2^-I holds a number of I + 1 bits (Cover and Thomas, 5.9), in whole bytes; cuts round down
    assert 8 * len(coded(pairs)) < information + 1 + 8 + 1


def test_the_longest_end_that_a_code_can_have():
    assert len(coded([(0, 256), (1, 1), (1, 1), (1, 1), (1, 267)])) == 8  # of 55.94 bits


def test_what_is_certain_costs_next_to_nothing():
    assert len(coded([(1, ONE - 1)] * 10_000)) <= 2
