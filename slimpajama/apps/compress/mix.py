"""What the model expects and what the file itself has shown, mixed bit by bit, and coded.

A token is coded as a walk down a binary tree over the vocabulary in order of bytes, so that a branch stands for pieces
that begin alike. At every fork each source says how likely the right branch is:

- the model: the probabilities of the pieces on either side;
- counts of what came after the last 0, 1, 2, 3, 4 and 6 tokens, in hashed slots: two small counts a fork, which forget
  what recent text contradicts, read through a table of what such counts have turned out to mean so far;
- the longest match: what followed where the last tokens stood before.

Their log-odds are weighed by an online logistic regression, whose weights start by trusting the model. Nothing is
stored of all this: the decoder learns the same from the tokens it has decoded.

Source: Mahoney 2005, "Adaptive weighing of context models for lossless data compression" (PAQ); Knoll 2016 (cmix) for
mixing a neural model in.
"""

# B = streams side by side, V = vocabulary, N = tokens of all streams

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from slimpajama.apps.compress.coder import ONE, decode_bit, encode_bit
from slimpajama.text.kernels import GOLDEN, compiled

ORDERS = np.array([0, 1, 2, 3, 4, 6])
MODEL, MATCH, INPUTS = len(ORDERS), len(ORDERS) + 1, len(ORDERS) + 2
# The model's probabilities as integers; each piece has one share more.
SHARES = float(1 << 30)
LEAST_MATCH, LONGEST_MATCH = 5, 24  # tokens
# Where the sets of weights begin that are chosen so.
BY_KNOWN = LONGEST_MATCH + 1
BY_LEVEL = BY_KNOWN + len(ORDERS) + 1
RATE, CALIBRATION = 0.004, 0.008
# log-odds of the model beyond it say no more, and would make steps of learning too long.
SUREST = 8.0
# No table is surer than this: it would take long to learn otherwise.
SURE = 1 / 4096


def _counted() -> NDArray[np.uint16]:
    """Return [bit, counts]: the counts after a bit; of the other kind a count above two loses half of what is above."""
    same, other = np.minimum(np.arange(16) + 1, 15), np.array([n if n < 3 else (n + 2) // 2 for n in range(16)])
    ones, zeros = np.divmod(np.arange(256), 16)
    return np.array([other[ones] << 4 | same[zeros], same[ones] << 4 | other[zeros]], np.uint16)


COUNTED = _counted()


class Mixer(NamedTuple):
    """All that is learnt while coding. Arrays are changed in place."""

    order_V: NDArray[np.int64]
    """Ids of the pieces in order of their bytes: rank to id."""
    slots: NDArray[np.uint16]
    """[contexts, slots]: eight bits of the hash, four of the count of ones, four of the count of zeros."""
    meaning: NDArray[np.float64]
    """[inputs, 256]: how often a one came where these counts stood; for the match, how often it held by its length."""
    weights: NDArray[np.float64]
    """[sets, inputs]; one set each by the match's length, by how many contexts are known and by the fork's level."""
    heads: NDArray[np.int64]
    """Place after the last occurrence of each hash of LEAST_MATCH tokens; -1 for none."""
    match_B: NDArray[np.int64]
    """Place whose token each stream expects; -1 for none."""
    length_B: NDArray[np.int64]
    """Tokens that agreed before it."""


def new_mixer(pieces: tuple[bytes, ...], tokens: int, streams: int) -> Mixer:
    """Return a mixer that has seen nothing, with room for `tokens`."""
    bits = min(24, max(16, (8 * tokens).bit_length()))
    ones, zeros = np.divmod(np.arange(256), 16)
    meaning = np.tile((ones + 0.4) / (ones + zeros + 0.8), (INPUTS, 1))
    meaning[MATCH] = 1 - 0.5 / (np.arange(256) + 2)
    weights = np.zeros((BY_LEVEL + len(pieces).bit_length(), INPUTS))
    weights[:BY_LEVEL, MODEL], weights[:BY_LEVEL, :MODEL] = 0.35, 0.08
    weights[:BY_KNOWN, MATCH] = 0.25
    return Mixer(
        np.array(sorted(range(len(pieces)), key=lambda index: (pieces[index], index)), np.int64),
        np.zeros((len(ORDERS), 1 << bits), np.uint16),
        meaning,
        weights,
        np.full(1 << (bits - 2), -1, np.int64),
        np.full(streams, -1, np.int64),
        np.zeros(streams, np.int64),
    )


@compiled(inline=True)
def _hash(value: Any, more: Any) -> Any:
    mixed = (value ^ np.uint64(more + 1)) * GOLDEN
    return mixed ^ (mixed >> np.uint64(29))


@compiled(inline=True)
def _learn(meaning: Any, i: Any, at: Any, bit: Any) -> None:
    meaning[i, at] += (min(max(float(bit), SURE), 1 - SURE) - meaning[i, at]) * CALIBRATION


@compiled
def _find_match(mixer: Any, ranks: Any, b: Any, length: Any, now: Any) -> None:
    """Go on with the match of stream `b`, or look for one; remember this place.

    It is compared within its own stream only: the end of the one before is not decoded yet.
    """
    first = b * length
    at = mixer.match_B[b]
    if at >= 0 and at + 1 < len(ranks) and ranks[at] == ranks[now - 1]:
        mixer.match_B[b], mixer.length_B[b] = at + 1, min(mixer.length_B[b] + 1, LONGEST_MATCH)
    else:
        mixer.match_B[b], mixer.length_B[b] = -1, 0
    if now - first < LEAST_MATCH:
        return
    key = np.uint64(0)
    for back in range(1, LEAST_MATCH + 1):
        key = _hash(key, ranks[now - back])
    slot = np.int64(key & np.uint64(len(mixer.heads) - 1))
    at = mixer.heads[slot]
    if mixer.match_B[b] < 0 and at >= 0:
        same = 0
        while same < min(LONGEST_MATCH, at % length, now - first) and ranks[at - 1 - same] == ranks[now - 1 - same]:
            same += 1
        if same >= LEAST_MATCH:
            mixer.match_B[b], mixer.length_B[b] = at, same
    mixer.heads[slot] = now


@compiled
def _begin(mixer: Any, probabilities_V: Any, ranks: Any, first: Any, now: Any, shares: Any, keys: Any) -> None:
    """Set the shares of the pieces, added up, and the hash of each context of the next token."""
    V = len(mixer.order_V)
    for rank in range(V):
        shares[rank + 1] = shares[rank] + np.int64(probabilities_V[mixer.order_V[rank]] * SHARES) + 1
    for rank in range(V, len(shares) - 1):
        shares[rank + 1] = shares[rank]
    for i in range(len(ORDERS)):
        keys[i] = np.uint64(i)
        for back in range(1, ORDERS[i] + 1):
            keys[i] = _hash(keys[i], ranks[now - back] if now - back >= first else V)


@compiled(inline=True)
def _look_up(mixer: Any, keys: Any, node: Any, places: Any, counts: Any, x: Any) -> Any:
    """Set place, counts and log-odds of each context at a fork; return how many contexts are known."""
    known = 0
    for i in range(len(ORDERS)):
        key = _hash(keys[i], node)
        places[i] = np.int64((key >> np.uint64(20)) & np.uint64(mixer.slots.shape[1] - 1))
        check = np.uint16((key >> np.uint64(56)) << np.uint64(8))
        found = mixer.slots[i, places[i]]
        if found & 0xFF00 != check:
            found = check
            mixer.slots[i, places[i]] = found
        counts[i] = found & 0xFF
        p = mixer.meaning[i, counts[i]]
        x[i] = math.log(p / (1 - p)) if counts[i] else 0.0
        known += counts[i] > 0
    return known


@compiled(inline=True)
def _mixed(weights: Any, x: Any) -> Any:
    """Return the chance of a one: the log-odds, weighed by three sets of weights at once."""
    total = 0.0
    for i in range(INPUTS):
        total += (weights[0][i] + weights[1][i] + weights[2][i]) * x[i]
    return 1 / (1 + math.exp(-min(max(total, -20.0), 20.0)))


@compiled(inline=True)
def _weigh(weights: Any, x: Any, error: Any) -> None:
    """Learn the weights: a step of logistic regression."""
    for i in range(INPUTS):
        weights[0][i] += error * x[i]
        weights[1][i] += error * x[i]
        weights[2][i] += error * x[i]


@compiled(inline=True)
def _count(mixer: Any, places: Any, counts: Any, bit: Any) -> None:
    """Learn what the counts meant, and count the bit."""
    for i in range(len(ORDERS)):
        _learn(mixer.meaning, i, counts[i], bit)
        mixer.slots[i, places[i]] = (mixer.slots[i, places[i]] & 0xFF00) | COUNTED[bit, counts[i]]


@compiled(allocates=True)
def code_step(
    mixer: Any, coder: Any, data: Any, probabilities_BV: Any, ranks: Any, length: Any, t: Any, decode: Any
) -> None:
    """Code token `t` of every stream.

    Args:
        coder, data: As `coder.encode_bit` and `decode_bit` take them.
        probabilities_BV: The model's; they need not sum to one exactly.
        ranks: int64 (N,), the streams end to end, `length` tokens each, the last one perhaps shorter. What is decoded
            is written there.
        t: Number of the token within its stream.
        decode: Whether bits are read.
    """
    depth = 0
    while (1 << depth) < len(mixer.order_V):
        depth += 1
    shares, keys = np.zeros((1 << depth) + 1, np.int64), np.zeros(len(ORDERS), np.uint64)
    places, x, counts = np.zeros(len(ORDERS), np.int64), np.zeros(INPUTS), np.zeros(len(ORDERS), np.int64)
    for b in range(len(probabilities_BV)):
        now = b * length + t
        if now >= len(ranks):
            continue
        _begin(mixer, probabilities_BV[b], ranks, b * length, now, shares, keys)
        if t:
            _find_match(mixer, ranks, b, length, now)
        expected = ranks[mixer.match_B[b]] if mixer.match_B[b] >= 0 else -1
        node = 1
        for level in range(depth):
            width = 1 << (depth - level)
            low = node * width - (1 << depth)
            ones = shares[low + width] - shares[low + width // 2]
            zeros = shares[low + width // 2] - shares[low]
            # Behind the last piece.
            if ones == 0:
                node *= 2
                continue
            known = _look_up(mixer, keys, node, places, counts, x)
            x[MODEL] = min(max(math.log(ones / zeros), -SUREST), SUREST)
            bit_expected, x[MATCH], held = -1, 0.0, 0
            if expected >= 0 and (expected + (1 << depth)) >> (depth - level) == node:
                bit_expected = ((expected + (1 << depth)) >> (depth - level - 1)) & 1
                held = mixer.length_B[b]
                p = mixer.meaning[MATCH, held]
                x[MATCH] = math.log(p / (1 - p)) * (1 if bit_expected else -1)
            weights = mixer.weights[held], mixer.weights[BY_KNOWN + known], mixer.weights[BY_LEVEL + level]
            p = _mixed(weights, x)
            coded = min(max(np.int64(p * ONE), 1), ONE - 1)
            if decode:
                bit = decode_bit(coder, data, coded)
            else:
                bit = ((ranks[now] + (1 << depth)) >> (depth - level - 1)) & 1
                encode_bit(coder, data, bit, coded)
            _weigh(weights, x, (bit - p) * RATE)
            _count(mixer, places, counts, bit)
            if bit_expected >= 0:
                _learn(mixer.meaning, MATCH, held, np.int64(bit == bit_expected))
            node = 2 * node + bit
        ranks[now] = node - (1 << depth)
