"""Sampling: temperature, top-k, top-p, seeds, and whole characters."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
import torch

from slimpajama.core.config import GenerateConfig, ModelConfig
from slimpajama.model.architectures import build
from slimpajama.model.generate.sampling import generate_tokens, penalise, sample

PROBABILITIES = [0.5, 0.3, 0.15, 0.05]
LOGITS = torch.tensor(PROBABILITIES).log()


def drawn(cfg: GenerateConfig, n: int = 2000) -> Counter[int]:
    """Return how often each token was drawn."""
    generator = torch.Generator().manual_seed(0)
    return Counter(sample(LOGITS, cfg, generator) for _ in range(n))


def test_draws_follow_the_probabilities_within_four_standard_errors() -> None:
    counts = drawn(GenerateConfig(temperature=1.0, top_p=1.0), n=4000)
    for token, p in enumerate(PROBABILITIES):
        assert abs(counts[token] / 4000 - p) < 4 * (p * (1 - p) / 4000) ** 0.5


def test_temperature_sharpens_the_distribution() -> None:
    counts = drawn(GenerateConfig(temperature=0.5, top_p=1.0), n=4000)
    p = PROBABILITIES[0] ** 2 / sum(q * q for q in PROBABILITIES)
    assert abs(counts[0] / 4000 - p) < 4 * (p * (1 - p) / 4000) ** 0.5


def test_temperature_zero_takes_the_likeliest_and_the_smallest_id_of_equals() -> None:
    cfg = GenerateConfig(temperature=0.0)
    assert set(drawn(cfg, n=5)) == {0}
    assert sample(torch.tensor([0.0, 2.0, 2.0]), cfg, torch.Generator()) == 1


def test_top_k_keeps_the_k_likeliest() -> None:
    assert set(drawn(GenerateConfig(temperature=1.0, top_k=2, top_p=1.0))) == {0, 1}


@pytest.mark.parametrize(("top_p", "kept"), [(0.0, {0}), (0.4, {0}), (0.6, {0, 1}), (0.9, {0, 1, 2})])
def test_top_p_keeps_the_smallest_set_that_holds_the_probability(top_p: float, kept: set[int]) -> None:
    assert set(drawn(GenerateConfig(temperature=1.0, top_p=top_p))) == kept


@pytest.mark.parametrize(("min_p", "kept"), [(0.0, {0, 1, 2, 3}), (0.2, {0, 1, 2}), (0.59, {0, 1}), (1.0, {0})])
def test_min_p_keeps_what_is_likely_enough_beside_the_likeliest(min_p: float, kept: set[int]) -> None:
    assert set(drawn(GenerateConfig(temperature=1.0, top_p=1.0, min_p=min_p))) == kept


@pytest.mark.parametrize("temperature", [1e-300, 1e-30, 100.0])
def test_no_temperature_is_too_low_or_too_high_that_the_settings_take(temperature: float) -> None:
    counts = drawn(GenerateConfig(temperature=temperature, top_p=1.0), n=200)
    assert len(counts) == (1 if temperature < 1 else 4)


def test_a_penalty_makes_seen_tokens_less_likely_and_leaves_the_others() -> None:
    logits_V = torch.tensor([2.0, -2.0, 0.0, 3.0, -torch.inf])
    assert penalise(logits_V, [0, 1, 2, 4], 2.0).tolist() == [1.0, -4.0, 0.0, 3.0, -torch.inf]
    assert logits_V.tolist()[0] == 2.0


def test_a_penalty_breaks_a_loop_but_never_puts_off_the_end_of_the_text() -> None:
    class Loop:
        """Says 1 for ever, 2 a little less likely; the stop token is 0 and stands before every prompt."""

        row_tokens = 8

        def start(self, _: torch.Tensor) -> tuple[None, torch.Tensor]:
            return None, torch.tensor([[0.1, 2.0, 1.9]])

        def step(self, _: None, __: torch.Tensor) -> torch.Tensor:
            return torch.tensor([[1.2, 2.0, 1.9]])

    free = GenerateConfig(temperature=0.0, max_tokens=4)
    assert list(generate_tokens(Loop(), [0], free, 0)) == [1, 1, 1, 1]
    assert list(generate_tokens(Loop(), [0], replace(free, repetition_penalty=2.0), 0)) == [1, 2]


def test_the_same_seed_gives_the_same_tokens_and_another_seed_others() -> None:
    model = build(ModelConfig(preset="tiny"), 300, seed=0)
    a, b, c = (list(generate_tokens(model, [5, 6, 7], GenerateConfig(seed=s, max_tokens=80), None)) for s in (1, 1, 2))
    assert a == b != c
    assert len(a) == 80


def test_generation_ends_before_the_stop_token() -> None:
    model = build(ModelConfig(preset="tiny"), 300, seed=0)
    cfg = GenerateConfig(max_tokens=40)
    free = list(generate_tokens(model, [], cfg, None))
    stop = free[10]
    assert list(generate_tokens(model, [], cfg, stop)) == free[: free.index(stop)]
