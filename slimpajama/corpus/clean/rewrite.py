"""What cleaning makes of a text before any rule looks at it: the one form, simplified and masked by option."""

from __future__ import annotations

from collections import Counter

import opencc
import pyarrow as pa

from slimpajama.core.config import CleanConfig
from slimpajama.corpus.clean.normalise import normalise_block
from slimpajama.corpus.clean.pii import mask_block


def rewrite(texts: pa.LargeStringArray, cfg: CleanConfig) -> tuple[pa.LargeStringArray, Counter[str]]:
    """Return texts in the one form, with what the options ask for, and how many items of personal data were masked."""
    texts = normalise_block(texts, fold_width=cfg.fold_width)
    if cfg.simplify:
        converter = opencc.OpenCC("t2s")
        texts = pa.array(
            [text if text.isascii() else converter.convert(text) for text in texts.to_pylist()], texts.type
        )
    return mask_block(texts) if cfg.mask_pii else (texts, Counter())
