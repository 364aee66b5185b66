"""Bits per byte while training: a few packed rows of each language, the same ones every time.

A guide for the loss curve only; what decides about a model is `slimpajama.model.evaluate`.
"""

# B = rows a batch, T = tokens a row

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from slimpajama.model.architectures import LanguageModel
from slimpajama.model.device import autocast, device_of
from slimpajama.model.evaluate.score import Sequences

# Two languages take about 2 s a time on one core.
LANGUAGE_TOKENS = 16_384


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


@dataclass(frozen=True, slots=True)
class Validation:
    """Callable that measures the model as it is; it draws no random number and changes no state."""

    model: LanguageModel[Any]
    rows: dict[str, NDArray[np.int64]]
    token_bytes: NDArray[np.int64]
    """UTF-8 bytes of each id; tokens without bytes are not counted."""
    precision: str
    batch_rows: int = 32

    def __call__(self) -> dict[str, float]:
        """Return bits per byte by language."""
        return {lang: self._bits(rows) for lang, rows in self.rows.items() if self.token_bytes[rows].any()}

    def _bits(self, rows_BT: NDArray[np.int64]) -> float:
        device = device_of(self.model)
        nats = 0.0
        with torch.inference_mode(), autocast(device, self.precision):
            for start in range(0, len(rows_BT), self.batch_rows):
                tokens_BT = rows_BT[start : start + self.batch_rows]
                nll_BT = self.model.nll(torch.from_numpy(tokens_BT).to(device)).double().cpu().numpy()
                nats += float(nll_BT[self.token_bytes[tokens_BT] > 0].sum())
        return nats / (math.log(2) * int(self.token_bytes[rows_BT].sum()))
