from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from slimpajama.core.config import ModelConfig
from slimpajama.model.architectures import LanguageModel, build
from slimpajama.model.evaluate.score import (
    BATCH_TOKENS,
    bits_per_byte,
    plan_rows,
    plan_windows,
    reconstruct_ids,
    reconstruct_text,
    score_ids,
    score_text,
)
from slimpajama.model.loading import load_model
from slimpajama.workspace.open import Workspace

DOCUMENT_ID = 0


class Counting:
    """Stands in for a model: the likelihood of a token tells how much context it was given in its row."""

    row_tokens, chunk_tokens = 8, 4

    def parameters(self) -> Any:
        return iter([torch.zeros(1)])

    def nll(self, tokens_BT: Tensor) -> Tensor:
        return torch.arange(tokens_BT.size(1), dtype=torch.float32).expand(tokens_BT.shape)

    def nlls(self, tokens_BT: Tensor) -> Tensor:
        return self.nll(tokens_BT)[None]

    def restore(self, tokens_BT: Tensor) -> Tensor:
        return torch.where(tokens_BT % 3 == 0, tokens_BT + 1, tokens_BT)

    def describe(self) -> dict[str, Any]:
        return {"latent": {"bytes": 10}}


class Uniform(Counting):
    """Every token of a vocabulary of 256 is equally likely."""

    def nll(self, tokens_BT: Tensor) -> Tensor:
        return torch.full(tokens_BT.shape, math.log(256))


class Bytes:
    """Stands in for a tokenizer: one token a byte."""

    document_id = DOCUMENT_ID

    def encode(self, text: str) -> list[int]:
        return list(text.encode())


lengths = st.lists(st.integers(0, 60), max_size=8).map(lambda values: np.array(values, np.int64))


@given(lengths, st.integers(2, 20))
def test_sliding_windows_score_every_token_exactly_once(lengths_D: np.ndarray, row_tokens: int):
    scored = [np.zeros(n + 1, int) for n in lengths_D]
    for document, start, end, first in plan_windows(lengths_D, row_tokens):
        assert 0 <= start < first < end <= start + row_tokens
        scored[document][first:end] += 1
    for counts in scored:
        assert counts[0] == 0  # the document token
        assert (counts[1:] == 1).all()


@given(lengths, st.integers(2, 20))
def test_after_the_first_window_a_token_has_at_least_half_a_row_of_context(lengths_D: np.ndarray, row_tokens: int):
    for _, start, _, first in plan_windows(lengths_D, row_tokens):
        assert start == 0 or first - start >= row_tokens // 2


@given(lengths, st.integers(2, 20))
def test_rows_for_reconstruction_hold_every_token_exactly_once(lengths_D: np.ndarray, row_tokens: int):
    scored = [np.zeros(n + 1, int) for n in lengths_D]
    for document, start, end, first in plan_rows(lengths_D, row_tokens):
        assert start == first < end <= start + row_tokens
        scored[document][first:end] += 1
    for counts in scored:
        assert counts[0] == 0
        assert (counts[1:] == 1).all()


@given(st.lists(st.integers(0, 40), min_size=1, max_size=12))
def test_each_document_gets_the_sum_over_its_own_tokens(sizes: list[int]):
    """Document by document the stand-in's answer is known: 1..7 in the first window of 8, then 4..7 again and again."""
    found = score_ids(Counting(), [[1] * n for n in sizes], DOCUMENT_ID)
    for n, value in zip(sizes, found, strict=True):
        assert value == sum(i + 1 if i < 7 else 4 + (i - 7) % 4 for i in range(n))


@pytest.mark.parametrize("text", ["今天天气很好。", "The quick brown fox.", "a", "\0\x1f\U0001f600 混合 text\r\n"])
def test_a_uniform_model_needs_the_logarithm_of_its_vocabulary_for_each_token(text: str):
    scores = score_text(Uniform(), Bytes(), text)
    n_bytes = int(scores["bytes"])
    expected = math.log2(256) * scores["tokens"] / n_bytes
    assert bits_per_byte(scores["nll_nats"], n_bytes) == pytest.approx(expected, rel=1e-6)  # float32 logarithms


def test_an_empty_text_has_no_bytes_no_tokens_and_no_bits():
    assert score_text(Uniform(), Bytes(), "") == {"bytes": 0, "tokens": 0, "nll_nats": 0.0, "bits_per_byte": 0.0}


@pytest.fixture(scope="module")
def tiny() -> LanguageModel:
    model = build(ModelConfig(preset="tiny", row_tokens=32), 300, seed=3)
    # Fresh weights predict the same for everything.
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) * 0.05)
    return model.eval()


def random_ids(seed: int, sizes: Sequence[int]) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    return [rng.integers(1, 300, n).tolist() for n in sizes]


def test_a_document_scores_the_same_alone_and_among_others(tiny: LanguageModel):
    """Batches and padding must not matter; float32 sums of up to 200 tokens of about 6 nats agree to 1e-5."""
    ids = random_ids(0, [1, 31, 32, 33, 200, 0, 64])
    together = score_ids(tiny, ids, DOCUMENT_ID)
    alone = [score_ids(tiny, [document], DOCUMENT_ID)[0] for document in ids]
    assert together == pytest.approx(alone, rel=1e-5)


def test_more_documents_than_fit_one_batch_are_all_scored(tiny: LanguageModel):
    ids = random_ids(1, [31] * (BATCH_TOKENS // 32 + 5))
    scores = score_ids(tiny, ids, DOCUMENT_ID)
    assert (scores > 31 * 3).all()
    assert np.array_equal(scores, score_ids(tiny, ids, DOCUMENT_ID))


def test_a_documents_score_is_the_sum_of_the_models_own_likelihoods(tiny: LanguageModel):
    ids = random_ids(2, [20])[0]
    nll_1T = tiny.nll(torch.tensor([[DOCUMENT_ID, *ids]]))
    assert score_ids(tiny, [ids], DOCUMENT_ID)[0] == pytest.approx(float(nll_1T[0, 1:].sum()), rel=1e-6)


def test_reconstruction_counts_exact_tokens_and_the_latents_that_carried_them():
    ids = [[1, 2, 3, 4, 5], [3, 6, 9], [], [1] * 17]
    result = reconstruct_ids(Counting(), ids, DOCUMENT_ID)
    assert result.correct.tolist() == [4, 0, 0, 17]
    assert result.tokens.tolist() == [5, 3, 0, 17]
    assert result.latents.tolist() == [2, 1, 0, 5]


def test_compression_is_reported_in_tokens_and_in_bytes():
    found = reconstruct_text(Counting(), Bytes(), "abcdefgh")
    assert found["compression_ratio"] == 4.0
    assert found["text_bytes_per_latent_byte"] == 8 / (2 * 10)
    assert found["token_accuracy"] == sum(byte % 3 > 0 for byte in b"abcdefgh") / 8


def test_every_byte_of_any_text_counts(trained: Any):
    space, model = trained
    loaded = load_model(Workspace(space.store), model)
    for text in ["今天学习语言模型。", "\x1f\x1f\0<|document|>", "𠮷野家 e\u0301 \r\n\t", " " * 100]:
        found = score_text(loaded.model, loaded.tokenizer, text)
        assert found["bytes"] == len(text.encode())
        assert found["tokens"] == len(loaded.tokenizer.encode(text))
        assert loaded.tokenizer.decode(loaded.tokenizer.encode(text)) == text
        assert 0 < found["nll_nats"] < math.inf
