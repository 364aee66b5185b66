"""Every architecture: shapes, no leak, cached generation equals scoring, restoring through the bottleneck."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import Tensor

from slimpajama.core.config import ModelConfig
from slimpajama.core.errors import ConfigError, ModelError
from slimpajama.model.architectures import LanguageModel, Optimiser, build
from slimpajama.model.architectures.presets import PRESETS

VOCABULARY = 300
CONFIGS = {
    "chunk": ModelConfig(preset="tiny"),
    "chunk-2": ModelConfig(preset="tiny", chunk_tokens=2),
    "chunk-8": ModelConfig(preset="tiny", chunk_tokens=8),
    "chunk-16": ModelConfig(preset="tiny", chunk_tokens=16),
    "chunk-narrow": ModelConfig(preset="tiny", latent_width=20),
    "chunk-quantised": ModelConfig(preset="tiny", latent_width=20, latent_levels=16),
    "gpt": ModelConfig(preset="gpt", width=64, row_tokens=64),
    "article": ModelConfig(preset="article", row_tokens=64),
}
CHUNKED = [name for name in CONFIGS if name.startswith("chunk")]


def rows(count: int, length: int, seed: int = 0, vocabulary: int = VOCABULARY) -> Tensor:
    """Return token ids (count, length)."""
    return torch.randint(0, vocabulary, (count, length), generator=torch.Generator().manual_seed(seed))


@cache
def trained(name: str, steps: int = 4) -> LanguageModel:
    """Return a model after a few steps, for reading only: fresh blocks are the identity and would hide a leak."""
    model = build(CONFIGS[name], VOCABULARY, seed=0)
    optimiser = Optimiser(model, 1.0)
    for step in range(steps):
        tokens_BT = rows(8, model.row_tokens, seed=step)
        model(tokens_BT, tokens_BT % 3 > 0)["total"].backward()
        optimiser.step(1.0)
        model.zero_grad()
    return model.eval()


def tolerance(logits: Tensor) -> float:
    """Rounding in float32: the same sums in another order, through some tens of layers of a few hundred terms."""
    return float(64 * torch.finfo(torch.float32).eps * logits.abs().max().clamp(min=1.0) * 4)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_builds_with_the_size_that_describe_states(preset: str) -> None:
    with torch.device("meta"):
        model = build(ModelConfig(preset=preset), 8192, seed=0)
    described = model.describe()
    assert described["parameters"] == sum(p.numel() for p in model.parameters())
    assert (model.row_tokens, model.chunk_tokens) == (described["row_tokens"], described["chunk_tokens"])
    assert model.vocab_size == described["vocab_size"] == 8192


def test_small_and_gpt_have_about_the_same_size() -> None:
    small, gpt = (build(ModelConfig(preset=preset), 8192, 0).describe()["parameters"] for preset in ("small", "gpt"))
    assert small == pytest.approx(gpt, rel=0.1)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_same_seed_gives_the_same_weights_and_another_seed_others(name: str) -> None:
    a, b, c = (build(CONFIGS[name], VOCABULARY, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert any(not torch.equal(a[key], c[key]) for key in a)


@pytest.mark.parametrize("name", CONFIGS)
def test_tokens_from_t_on_do_not_change_the_score_of_tokens_before_t(name: str) -> None:
    model = trained(name)
    tokens_BT = rows(2, model.row_tokens, seed=9)
    before_BT = model.nll(tokens_BT)
    for t in range(model.row_tokens):
        other_BT = tokens_BT.clone()
        other_BT[:, t:] = rows(2, model.row_tokens - t, seed=t + 100)
        assert torch.equal(model.nll(other_BT)[:, :t], before_BT[:, :t]), f"position {t} leaks"


@pytest.mark.parametrize("name", CONFIGS)
def test_the_score_of_a_token_depends_on_the_token_itself(name: str) -> None:
    model = trained(name)
    tokens_BT = rows(1, model.row_tokens, seed=9)
    other_BT = tokens_BT.clone()
    other_BT[0, 7] = (other_BT[0, 7] + 1) % VOCABULARY
    assert model.nll(tokens_BT)[0, 7] != model.nll(other_BT)[0, 7]


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("length", [1, 5, 16, 63])
def test_a_row_of_any_length_scores_like_the_beginning_of_a_longer_one(name: str, length: int) -> None:
    model = trained(name)
    tokens_BT = rows(2, model.row_tokens, seed=9)
    whole_BT, part_BT = model.nll(tokens_BT), model.nll(tokens_BT[:, :length])
    assert part_BT.shape == (2, length)
    assert part_BT.dtype == torch.float32
    torch.testing.assert_close(part_BT, whole_BT[:, :length], rtol=0, atol=tolerance(whole_BT))


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("prompt", [0, 1, 6, 32])
def test_cached_steps_give_the_probabilities_that_nll_gives(name: str, prompt: int) -> None:
    model = trained(name)
    tokens_BT = rows(3, model.row_tokens - 1, seed=9)
    state, logits_BV = model.start(tokens_BT[:, :prompt])
    stepped = []
    for tokens_B in tokens_BT[:, prompt:].unbind(dim=1):
        stepped.append(-logits_BV.log_softmax(dim=1).gather(1, tokens_B[:, None]))
        logits_BV = model.step(state, tokens_B)
    expected_BT = model.nll(tokens_BT)[:, prompt:]
    torch.testing.assert_close(torch.cat(stepped, dim=1), expected_BT, rtol=0, atol=tolerance(expected_BT))


@pytest.mark.parametrize("name", CONFIGS)
def test_generation_goes_on_past_the_row_as_from_a_fresh_start(name: str) -> None:
    model = trained(name)
    tokens_BT = rows(2, 2 * model.row_tokens + 3, seed=9)
    state, logits_BV = model.start(tokens_BT[:, :1])
    for tokens_B in tokens_BT[:, 1:].unbind(dim=1):
        logits_BV = model.step(state, tokens_B)
    read_BT = tokens_BT if state is None else state.tokens_BT
    assert read_BT.size(1) < model.row_tokens or state is None
    assert torch.equal(read_BT, tokens_BT[:, -read_BT.size(1) :])
    _, fresh_BV = model.start(read_BT)
    torch.testing.assert_close(logits_BV, fresh_BV, rtol=0, atol=tolerance(fresh_BV))


@pytest.mark.parametrize("name", CONFIGS)
def test_total_is_differentiable_and_every_loss_is_reported(name: str) -> None:
    model = build(CONFIGS[name], VOCABULARY, seed=0)
    tokens_BT = rows(4, model.row_tokens)
    losses = model(tokens_BT, tokens_BT % 3 > 0)
    assert set(losses) == ({"total", "continue", "restore", "denoise"} if name in CHUNKED else {"total", "continue"})
    losses["total"].backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("name", CHUNKED)
def test_total_weighs_the_losses_and_leaves_out_those_of_weight_zero(name: str) -> None:
    model, tokens_BT = trained(name), rows(4, trained(name).row_tokens)
    every = model(tokens_BT, tokens_BT % 3 > 0, {"continue": 2.0, "restore": 3.0, "denoise": 0.5})
    total = 2 * every["continue"] + 3 * every["restore"] + 0.5 * every["denoise"]
    assert float(every["total"].detach()) == pytest.approx(float(total.detach()), rel=1e-6)
    one = model(tokens_BT, tokens_BT % 3 > 0, {"continue": 1.0, "restore": 0.0, "denoise": 0.0})
    assert set(one) == {"total", "continue"}
    assert torch.equal(one["total"], one["continue"])


@pytest.mark.parametrize("name", CONFIGS)
def test_training_loss_is_the_mean_of_what_nll_measures(name: str) -> None:
    model = trained(name)
    tokens_BT = rows(4, model.row_tokens, seed=9)
    measured = float(model(tokens_BT, tokens_BT % 3 > 0)["continue"])
    # Whose training also spreads probability over classes that never occur.
    if name != "article":
        assert measured == pytest.approx(float(model.nll(tokens_BT).mean()), abs=tolerance(torch.tensor(measured)))


@pytest.mark.parametrize("name", CHUNKED)
def test_restore_reads_each_chunk_from_its_own_latent_only(name: str) -> None:
    model = trained(name)
    tokens_BT, K = rows(2, model.row_tokens, seed=9), model.chunk_tokens
    other_BT = tokens_BT.clone()
    other_BT[:, K : 2 * K] = rows(2, K, seed=10)
    same_BT = model.restore(tokens_BT) == model.restore(other_BT)
    assert bool(same_BT[:, :K].all())
    assert bool(same_BT[:, 2 * K :].all())


@pytest.mark.parametrize("name", ["chunk-2", "chunk", "chunk-quantised"])
def test_restore_learns_a_small_text_exactly(name: str) -> None:
    model = build(CONFIGS[name], VOCABULARY, seed=0)
    optimiser = Optimiser(model, 1.0)
    tokens_BT = rows(4, model.row_tokens, seed=3)
    for step in range(120):
        # Some chunks of a row are restored a step.
        moved_BT = tokens_BT.roll(step * model.chunk_tokens, dims=1)
        model(moved_BT, moved_BT % 3 > 0)["total"].backward()
        optimiser.step(1.0)
        model.zero_grad()
    assert torch.equal(model.restore(tokens_BT[:1]), tokens_BT[:1])
    assert model.restore(tokens_BT[:, :7]).shape == (4, 7)


@pytest.mark.parametrize("name", ["gpt", "article"])
def test_a_model_without_a_bottleneck_says_which_one_can_restore(name: str) -> None:
    model = build(CONFIGS[name], VOCABULARY, seed=0)
    with pytest.raises(ModelError, match=r"no bottleneck.*Train a chunk model"):
        model.restore(rows(1, 8))


def test_article_never_proposes_a_class_beyond_the_vocabulary() -> None:
    model = build(CONFIGS["article"], VOCABULARY, seed=0)
    _, logits_1V = model.start(rows(1, 3))
    assert model.describe()["classes"] == 10_000
    assert logits_1V.shape == (1, VOCABULARY)


@pytest.mark.parametrize(
    ("cfg", "field"),
    [
        (ModelConfig(preset="small", width=191), "model.width"),
        (ModelConfig(preset="small", chunk_tokens=7), "model.row_tokens"),
        (ModelConfig(preset="small", chunk_tokens=16, row_tokens=32), "model.row_tokens"),
        (ModelConfig(preset="small", latent_width=22), "model.latent_width"),
    ],
)
def test_sizes_that_do_not_fit_are_refused_by_name(cfg: ModelConfig, field: str) -> None:
    with pytest.raises(ConfigError, match=field):
        build(cfg, VOCABULARY, seed=0)


def test_autocast_to_bfloat16_changes_the_loss_by_its_rounding_only() -> None:
    model = trained("chunk")
    tokens_BT = rows(4, model.row_tokens, seed=9)
    full = float(model(tokens_BT, tokens_BT % 3 > 0)["total"].detach())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = float(model(tokens_BT, tokens_BT % 3 > 0)["total"].detach())
    assert low == pytest.approx(full, rel=4 * torch.finfo(torch.bfloat16).eps)
