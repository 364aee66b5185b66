"""Likelihood and reconstruction of any text: every byte counts, every token is scored exactly once.

A document longer than the model's row is read in windows that overlap by half, and each window scores only what the
one before did not, so from the second window on a token has at least half a row of context. The first token follows
`<|document|>`, which itself is never scored. Float32 unless told otherwise.
"""

# D = documents, W = windows, B = batch, T = tokens a window

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from slimpajama.model.architectures import LanguageModel
from slimpajama.model.device import autocast, device_of
from slimpajama.text.tokenizer import Tokenizer

Ids = Sequence[int] | NDArray[Any]
# Logits of a batch: 268 MB in float32 at 8,192 pieces.
BATCH_TOKENS = 8192
DOCUMENT, START, END, FIRST = range(4)  # columns of a plan


@dataclass(frozen=True, slots=True)
class Reconstruction:
    """What came back through the bottleneck, for each document; every array has the shape (D,)."""

    correct: NDArray[np.int64]
    """Tokens restored exactly."""
    tokens: NDArray[np.int64]
    latents: NDArray[np.int64]
    """Latent vectors that carried them."""


def bits_per_byte(nll_nats: float, n_bytes: int) -> float:
    """Return `nll / (ln 2 * bytes)`; 0 for no bytes. Comparable between models with different tokenizers."""
    return nll_nats / (math.log(2) * n_bytes) if n_bytes else 0.0


def plan_windows(lengths_D: NDArray[np.int64], row_tokens: int) -> NDArray[np.int64]:
    """Return windows that score every token of every document exactly once.

    Positions count within a document's sequence: 0 is `<|document|>`, token number i (from 0) is at i + 1.

    Args:
        lengths_D: Tokens a document.
        row_tokens: Longest window, at least 2.

    Returns:
        int64 array (W, 4): document, start, end (exclusive), first position that this window scores.
    """
    stride = max(1, row_tokens // 2)
    sequence_D = lengths_D + 1
    more_D = np.maximum(0, -(-(sequence_D - row_tokens) // stride))
    count_D = np.where(lengths_D > 0, 1 + more_D, 0)
    document_W, number_W = _numbered(count_D)
    start_W = number_W * stride
    end_W = np.minimum(start_W + row_tokens, sequence_D[document_W])
    first_W = np.where(number_W == 0, 1, start_W - stride + row_tokens)
    return np.stack([document_W, start_W, end_W, first_W], axis=1)


def plan_rows(lengths_D: NDArray[np.int64], row_tokens: int) -> NDArray[np.int64]:
    """Return windows side by side, in the columns of `plan_windows`: reconstruction needs no context."""
    document_W, number_W = _numbered(-(-lengths_D // row_tokens))
    start_W = 1 + number_W * row_tokens
    return np.stack([document_W, start_W, np.minimum(start_W + row_tokens, lengths_D[document_W] + 1), start_W], axis=1)


def _numbered(count_D: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return of each window its document, and its number there from 0."""
    document_W = np.repeat(np.arange(len(count_D)), count_D)
    return document_W, np.arange(len(document_W)) - np.repeat(np.cumsum(count_D) - count_D, count_D)


class Sequences:
    """Documents, each after `document_id`, as one flat array from which windows are cut."""

    def __init__(self, ids: Sequence[Ids], document_id: int) -> None:
        self.document_id = document_id
        self.lengths_D = np.array([len(document) for document in ids], np.int64)
        self.starts_D = np.cumsum(self.lengths_D + 1) - (self.lengths_D + 1)
        parts = (np.append(document_id, np.asarray(document, np.int64)) for document in ids)
        self.flat = np.concatenate([np.empty(0, np.int64), *parts])

    def batches(
        self, plan: NDArray[np.int64]
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]]:
        """Yield windows of about the same length: their rows of the plan, tokens_BT and which of them count."""
        # Longest first: memory peaks at once.
        order = np.argsort(plan[:, START] - plan[:, END], kind="stable")
        begin = 0
        while begin < len(order):
            length = int(plan[order[begin], END] - plan[order[begin], START])
            chosen = plan[order[begin : begin + max(1, BATCH_TOKENS // length)]]
            positions_BT = chosen[:, START, None] + np.arange(length)
            inside_BT = positions_BT < chosen[:, END, None]
            source_BT = np.where(inside_BT, self.starts_D[chosen[:, DOCUMENT], None] + positions_BT, 0)
            tokens_BT = np.where(inside_BT, self.flat[source_BT], self.document_id)
            yield chosen, tokens_BT, inside_BT & (positions_BT >= chosen[:, FIRST, None])
            begin += len(chosen)


def score_ids(
    model: LanguageModel, ids: Sequence[Ids], document_id: int, precision: str = "fp32"
) -> NDArray[np.float64]:
    """Return the negative log-likelihood of each document in nats, shape (D,).

    Args:
        ids: Token ids of each document, without `document_id`.
        precision: `fp32`, or `bf16` for autocast: faster, good to about three digits.
    """
    scored: NDArray[np.float64] = score_parts(model, ids, document_id, precision)[0]
    return scored


def score_parts(
    model: LanguageModel, ids: Sequence[Ids], document_id: int, precision: str = "fp32"
) -> NDArray[np.float64]:
    """Return what `score_ids` does, and behind it the same of parts of the model, (parts, D); see `nlls`."""
    sequences = Sequences(ids, document_id)
    device = device_of(model)
    found = []
    with torch.inference_mode(), autocast(device, precision):
        for plan, tokens_BT, counts_BT in sequences.batches(plan_windows(sequences.lengths_D, model.row_tokens)):
            nll_PBT = model.nlls(torch.from_numpy(tokens_BT).to(device)).double().cpu().numpy()
            found.append((plan[:, DOCUMENT], np.where(counts_BT, nll_PBT, 0.0).sum(axis=2)))
    nll_PD = np.zeros((len(found[0][1]) if found else 1, len(ids)))
    for document_W, nll_PW in found:
        for total_D, nll_W in zip(nll_PD, nll_PW, strict=True):
            np.add.at(total_D, document_W, nll_W)
    return nll_PD


def score_text(model: LanguageModel, tokenizer: Tokenizer, text: str) -> dict[str, float]:
    """Return what `slimpajama score` prints for one text, taken as one document.

    `network_bits_per_byte` is what the network takes without its memory, where there is one.
    """
    ids, n_bytes = tokenizer.encode(text), len(text.encode())
    nll, *parts = score_parts(model, [ids], tokenizer.document_id)[:, 0].tolist()
    found = {"bytes": n_bytes, "tokens": len(ids), "nll_nats": nll, "bits_per_byte": bits_per_byte(nll, n_bytes)}
    return found | ({"network_bits_per_byte": bits_per_byte(parts[0], n_bytes)} if parts else {})


def reconstruct_ids(model: LanguageModel, ids: Sequence[Ids], document_id: int) -> Reconstruction:
    """Send each document through the bottleneck and count the tokens that come back exactly.

    Raises:
        ModelError: If the architecture has no bottleneck.
    """
    sequences = Sequences(ids, document_id)
    device = device_of(model)
    correct_D, latents_D = np.zeros(len(ids), np.int64), np.zeros(len(ids), np.int64)
    with torch.inference_mode():
        for plan, tokens_BT, counts_BT in sequences.batches(plan_rows(sequences.lengths_D, model.row_tokens)):
            restored_BT = model.restore(torch.from_numpy(tokens_BT).to(device)).cpu().numpy()
            same_B = ((restored_BT == tokens_BT) & counts_BT).sum(axis=1)
            np.add.at(correct_D, plan[:, DOCUMENT], same_B)
            np.add.at(latents_D, plan[:, DOCUMENT], -(-counts_BT.sum(axis=1) // model.chunk_tokens))
    return Reconstruction(correct_D, sequences.lengths_D, latents_D)


def reconstruct_text(model: LanguageModel, tokenizer: Tokenizer, text: str) -> dict[str, float]:
    """Return what `slimpajama reconstruct` prints for one text.

    `compression_ratio` counts positions: tokens a latent vector. `text_bytes_per_latent_byte` is the honest one:
    bytes of text over bytes of latents in bfloat16, below 1 where the representation is larger than the text.
    """
    ids = tokenizer.encode(text)
    result = reconstruct_ids(model, [ids], tokenizer.document_id)
    tokens, latents = int(result.tokens[0]), int(result.latents[0])
    latent_bytes = latents * cast(int, model.describe()["latent"]["bytes"])
    return {
        "token_accuracy": int(result.correct[0]) / tokens if tokens else 1.0,
        "compression_ratio": tokens / latents if latents else 0.0,
        "text_bytes_per_latent_byte": len(text.encode()) / latent_bytes if latent_bytes else 0.0,
        "tokens": tokens,
    }


def split_pair(tokenizer: Tokenizer, context: str, continuation: str) -> tuple[list[int], int]:
    """Return the ids of `context + continuation`, and how many of them come before the continuation.

    Both are encoded as one text, as they would be met in a corpus, and split at the token where the continuation
    begins. White space that ends the context counts as part of the continuation, as in the harness: to the tokenizer
    it is the beginning of the next word. A token that holds characters of both, which words found by dictionary may do
    (上海 before 自来水), belongs to the continuation, whole. So no byte of the continuation ever goes unscored.
    """
    ids = tokenizer.encode(context + continuation)
    ends_T = np.cumsum(tokenizer.token_bytes[ids])
    return ids, int(np.searchsorted(ends_T, len(context.rstrip().encode()), side="right"))


def score_ends(
    model: LanguageModel, ids: Sequence[Ids], first_D: Sequence[int], document_id: int
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
    model: LanguageModel, tokenizer: Tokenizer, pairs: Sequence[tuple[str, str]]
) -> list[tuple[float, bool]]:
    """Return, of each (context, continuation), the log-likelihood in nats and whether greedy decoding would give it."""
    split = [split_pair(tokenizer, *pair) for pair in pairs]
    ids, first_D = [ids for ids, _ in split], [first for _, first in split]
    nll_D, greedy_D = score_ends(model, ids, first_D, tokenizer.document_id)
    return list(zip((-nll_D).tolist(), greedy_D.tolist(), strict=True))
