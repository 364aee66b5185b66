"""The mixer: never sure of anything, whatever the model and the file say."""

from __future__ import annotations

import numpy as np
import pytest

from slimpajama.apps.compress.coder import PLACE, finish, new_coder, start_decoding
from slimpajama.apps.compress.mix import code_step, new_mixer

# Not a power of two.
PIECES = tuple(bytes([byte]) for byte in range(97, 97 + 11))


def run(ranks: np.ndarray, p_BV: np.ndarray, code: bytes | None = None) -> bytes:
    """Code one stream under the same prediction at every step; or decode into `ranks`."""
    mixer, coder, out = new_mixer(PIECES, len(ranks), 1), new_coder(), b""
    data = np.zeros(16 * 8, np.uint8) if code is None else np.frombuffer(bytearray(code), np.uint8)
    if code is not None:
        start_decoding(coder, data)
    for t in range(len(ranks)):
        code_step(mixer, coder, data, p_BV, ranks, len(ranks), t, code is not None)
        if code is None:
            out += data[: int(coder[PLACE])].tobytes()
            coder[PLACE] = 0
    return out + finish(coder)


@pytest.mark.parametrize("p", [0.0, 1.0, np.nan])
def test_a_token_that_the_model_rules_out_is_coded_all_the_same(p: float):
    p_BV = np.zeros((1, len(PIECES)), np.float32)
    p_BV[0, 0] = 1.0 if np.isnan(p) else p
    ranks = np.array([10, 10, 0, 10, 5] * 40)
    back = np.zeros_like(ranks)
    run(back, p_BV, run(ranks, p_BV))
    assert back.tolist() == ranks.tolist()


def test_a_wrong_model_costs_less_and_less():
    p_BV = np.full((1, len(PIECES)), 1e-9, np.float32)
    p_BV[0, 3] = 1.0
    rng = np.random.default_rng(0)
    short, long = (len(run(rng.choice([1, 8], n), p_BV)) for n in (500, 4000))
    # A bit each; the model alone would pay thirty.
    assert long - short < 1.1 * 3500 / 8


def test_a_model_that_knows_is_believed():
    rng = np.random.default_rng(0)
    ranks = rng.choice(11, 2000, p=[0.9] + [0.01] * 10)
    p_BV = np.array([[0.9] + [0.01] * 10], np.float32)
    entropy = -(0.9 * np.log2(0.9) + 0.1 * np.log2(0.01)) * 2000 / 8
    assert len(run(ranks, p_BV)) < 1.25 * entropy
