"""Likelihood of a continuation given its context: what multiple-choice tests ask of a model.

Context and continuation are encoded as one text, as they would be met in a corpus, and split at the token where the
continuation begins. White space that ends the context counts as part of the continuation, as in the harness: to the
tokenizer it is the beginning of the next word. A token that holds characters of both, which words found by dictionary
may do (上海 before 自来水), belongs to the continuation, whole. So no byte of the continuation ever goes unscored.
"""

# D = requests, B = batch, T = tokens a window

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from slimpajama.model.architectures import LanguageModel
from slimpajama.model.device import device_of
from slimpajama.model.evaluate.score import DOCUMENT, END, FIRST, Ids, Sequences, plan_windows
from slimpajama.text.tokenizer import Tokenizer


def split_pair(tokenizer: Tokenizer, context: str, continuation: str) -> tuple[list[int], int]:
    """Return the ids of `context + continuation`, and how many of them come before the continuation."""
    ids = tokenizer.encode(context + continuation)
    ends_T = np.cumsum(tokenizer.token_bytes[ids])
    return ids, int(np.searchsorted(ends_T, len(context.rstrip().encode()), side="right"))


def score_ends(
    model: LanguageModel[Any], ids: Sequence[Ids], first_D: Sequence[int], document_id: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Score the tokens of each sequence from number `first_D` on (from 0), by the windows of `plan_windows`.

    Returns:
        float64 (D,), their negative log-likelihood in nats; bool (D,), whether each was the likeliest at its place.
    """
    sequences = Sequences(ids, document_id)
    plan = plan_windows(sequences.lengths_D, model.row_tokens)
    plan[:, FIRST] = np.maximum(plan[:, FIRST], 1 + np.asarray(first_D, np.int64)[plan[:, DOCUMENT]])
    device = device_of(model)
    nll_D, greedy_D = np.zeros(len(ids)), np.ones(len(ids), np.bool_)
    with torch.inference_mode():
        for some, tokens_BT, counts_BT in sequences.batches(plan[plan[:, FIRST] < plan[:, END]]):
            nll_BT, likeliest_BT = model.nll_and_likeliest(torch.from_numpy(tokens_BT).to(device))
            same_BT = (likeliest_BT.cpu().numpy() == tokens_BT) | ~counts_BT
            np.add.at(nll_D, some[:, DOCUMENT], np.where(counts_BT, nll_BT.double().cpu().numpy(), 0.0).sum(axis=1))
            np.logical_and.at(greedy_D, some[:, DOCUMENT], same_BT.all(axis=1))
    return nll_D, greedy_D


def score_continuations(
    model: LanguageModel[Any], tokenizer: Tokenizer, pairs: Sequence[tuple[str, str]]
) -> list[tuple[float, bool]]:
    """Return, of each (context, continuation), the log-likelihood in nats and whether greedy decoding would give it."""
    split = [split_pair(tokenizer, *pair) for pair in pairs]
    ids, first_D = [ids for ids, _ in split], [first for _, first in split]
    nll_D, greedy_D = score_ends(model, ids, first_D, tokenizer.document_id)
    return list(zip((-nll_D).tolist(), greedy_D.tolist(), strict=True))
