"""Two figures about generated text: how much it repeats itself, and how much it copies from the corpus."""

# N = tokens

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from slimpajama.text.suffixes import Ids, Suffixes, walk

REPEAT_TOKENS = 4
# About 50 bytes: nobody writes that much word for word by chance.
COPY_TOKENS = 16


def repeated_share(ids: Sequence[int]) -> float:
    """Return the share of 4-grams of tokens that occurred before in the same text, from 0 to nearly 1."""
    runs = max(0, len(ids) - REPEAT_TOKENS + 1)
    different = {tuple(ids[start : start + REPEAT_TOKENS]) for start in range(runs)}
    return 1 - len(different) / runs if runs else 0.0


def copied_share(ids_N: Ids, parts: Iterable[Suffixes]) -> float:
    """Return the share of a text's tokens that lie in a run of 16 which a document of the corpus holds too.

    Args:
        ids_N: The text.
        parts: The corpus's index; all of the text's vocabulary.
    """
    copied = np.zeros(len(ids_N), np.bool_)
    for part in parts:
        lo, hi = walk(part, ids_N, COPY_TOKENS)
        copied |= hi[:, -1] > lo[:, -1]
    return _covered(len(ids_N), copied)


def _covered(length: int, copied: NDArray[np.bool_]) -> float:
    """Return the share of `length` tokens that lie in a run flagged at its start."""
    if not copied.any():
        return 0.0
    marks = np.zeros(length + 1, np.int64)
    np.add.at(marks, np.flatnonzero(copied), 1)
    np.add.at(marks, np.flatnonzero(copied) + COPY_TOKENS, -1)
    return float((np.cumsum(marks)[:length] > 0).mean())
