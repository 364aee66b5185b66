"""Bits per byte while training: a few packed rows of each language, the same ones every time.

A guide for the loss curve only; what decides about a model is `slimpajama.model.evaluate`.
"""

# B = rows a batch, T = tokens a row

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from slimpajama.model.architectures import LanguageModel
from slimpajama.model.device import autocast, device_of
from slimpajama.model.evaluate.score import Sequences, bits_per_byte

# Two languages take about 2 s a time on one core.
LANGUAGE_TOKENS = 16_384
BATCH_ROWS = 32


def validation_rows(
    documents: Mapping[str, list[NDArray[np.uint16]]], document_id: int, row_tokens: int
) -> dict[str, NDArray[np.int64]]:
    """Return packed rows (B, T) of each language, at most LANGUAGE_TOKENS; `document_id` fills the last."""
    rows = {}
    for lang, texts in sorted(documents.items()):
        lengths = np.array([len(ids) + 1 for ids in texts])
        taken = texts[: np.searchsorted(np.cumsum(lengths), LANGUAGE_TOKENS) + 1]
        flat = Sequences(taken, document_id).flat[: max(1, LANGUAGE_TOKENS // row_tokens) * row_tokens]
        filled = np.pad(flat, (0, -len(flat) % row_tokens), constant_values=document_id)
        rows[lang] = filled.reshape(-1, row_tokens)
    return rows


def validation_bits(
    model: LanguageModel, rows: Mapping[str, NDArray[np.int64]], token_bytes: NDArray[np.int64], precision: str
) -> dict[str, float]:
    """Return bits per byte by language of the model as it is; draws no random number and changes no state.

    `token_bytes` are the UTF-8 bytes of each id; tokens without bytes are not counted.
    """
    device, found = device_of(model), {}
    with torch.inference_mode(), autocast(device, precision):
        for lang, rows_BT in rows.items():
            nats, n_bytes = 0.0, int(token_bytes[rows_BT].sum())
            if not n_bytes:
                continue
            for start in range(0, len(rows_BT), BATCH_ROWS):
                tokens_BT = rows_BT[start : start + BATCH_ROWS]
                nll_BT = model.nll(torch.from_numpy(tokens_BT).to(device)).double().cpu().numpy()
                nats += float(nll_BT[token_bytes[tokens_BT] > 0].sum())
            found[lang] = bits_per_byte(nats, n_bytes)
    return found
