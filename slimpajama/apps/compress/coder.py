"""Binary arithmetic coding: bits in, as few bytes out as their probabilities allow, and back.

The coder holds an interval of 64 bits. Each bit cuts it in two by its probability and keeps one part; leading bytes
that both ends share are settled and leave. Integers only, so the bytes depend on nothing but bits and probabilities.

Source: Rissanen 1976; the carryless form as in Mahoney 2005, "Adaptive weighing of context models" (lpaq).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimpajama.text.kernels import compiled

# A probability of 1; those that are coded lie in [1, ONE - 1].
ONE = 1 << 16
# That a byte can stand for: the likeliest costs log2(ONE / (ONE - 1)), more than 1 / ONE.
MOST_BITS = 8 * ONE
LOW, HIGH, CODE, PLACE = range(4)
TOP = np.uint64(56)
BYTE = np.uint64(8)
LAST = np.uint64(0xFF)
P_BITS = np.uint64(16)


def new_coder() -> NDArray[np.uint64]:
    """Return the state: both ends of the interval, the decoder's place in it, and the bytes written or read."""
    return np.array([0, 2**64 - 1, 0, 0], np.uint64)


@compiled(inline=True)
def _cut(coder: Any, p: Any) -> Any:
    """Return the end of the lower part, which stands for a one; neither part is ever empty."""
    return coder[LOW] + ((coder[HIGH] - coder[LOW]) >> P_BITS) * np.uint64(p)


@compiled(inline=True)
def _keep(coder: Any, bit: Any, middle: Any) -> None:
    if bit:
        coder[HIGH] = middle
    else:
        coder[LOW] = middle + np.uint64(1)


@compiled(inline=True)
def encode_bit(coder: Any, data: Any, bit: Any, p: Any) -> None:
    """Write a bit that is one with probability `p / ONE`; `data` must have room for 8 bytes more."""
    _keep(coder, bit, _cut(coder, p))
    while (coder[LOW] ^ coder[HIGH]) >> TOP == 0:
        data[coder[PLACE]] = coder[HIGH] >> TOP
        coder[PLACE] += np.uint64(1)
        coder[LOW] <<= BYTE
        coder[HIGH] = (coder[HIGH] << BYTE) | LAST


@compiled(inline=True)
def decode_bit(coder: Any, data: Any, p: Any) -> Any:
    """Read the bit that was written with probability `p`; behind the end of `data` zeros are read."""
    middle = _cut(coder, p)
    bit = np.int64(coder[CODE] <= middle)
    _keep(coder, bit, middle)
    while (coder[LOW] ^ coder[HIGH]) >> TOP == 0:
        coder[LOW] <<= BYTE
        coder[HIGH] = (coder[HIGH] << BYTE) | LAST
        _shift_in(coder, data)
    return bit


@compiled(inline=True)
def _shift_in(coder: Any, data: Any) -> None:
    value = np.uint64(data[coder[PLACE]]) if coder[PLACE] < len(data) else np.uint64(0)
    coder[CODE] = (coder[CODE] << BYTE) | value
    coder[PLACE] += np.uint64(1)


@compiled
def start_decoding(coder: Any, data: Any) -> None:
    """Read the first bytes."""
    for _ in range(8):
        _shift_in(coder, data)


def finish(coder: NDArray[np.uint64]) -> bytes:
    """Return the bytes to write last: the fewest that name a place in the interval, with zeros behind them."""
    low, high = int(coder[LOW]), int(coder[HIGH])
    for n_bytes in range(9):
        tail = -(-low >> (64 - 8 * n_bytes)) << (64 - 8 * n_bytes)
        if tail <= high:
            return tail.to_bytes(8, "big")[:n_bytes]
    raise AssertionError("the interval is not empty")
