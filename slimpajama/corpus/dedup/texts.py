"""The decision of `decide` over texts that stand in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from slimpajama.core.config import DedupConfig
from slimpajama.corpus.dedup.decide import Outcome, decide
from slimpajama.corpus.dedup.history_join import Documents
from slimpajama.corpus.dedup.kernel import sketch


def decide_texts(ids: pa.Array, texts: pa.LargeStringArray, cfg: DedupConfig, workers: int = 1) -> Outcome:
    """Find exact and near-duplicates among N texts.

    Memory: `cfg.bands` keys of 8 bytes a text besides what `decide` takes.

    Args:
        ids: Strings [N].
        texts: [N].
        cfg: Threshold, shingles and bands.
        workers: Threads; the answer does not depend on it.
    """
    found = sketch(texts, cfg, workers)
    # As a key file's row groups.
    columns = [found.content[:, :8].copy().view(np.uint64).ravel(), *found.keys.T]
    documents = Documents(
        ids, np.zeros(len(texts), np.int32), found.n_chars, found.content, np.zeros(min(1, len(texts)), np.int64)
    )

    def keys(groups: Sequence[int]) -> Iterator[npt.NDArray[np.uint64]]:
        if len(texts):
            yield np.stack([columns[group] for group in groups])

    return decide(documents, keys, None, lambda _, rows: texts.take(pa.array(rows)), cfg, workers)
