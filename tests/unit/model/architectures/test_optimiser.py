"""Muon and AdamW: orthogonal updates, exact resume, learning rate."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load, save

from slimpajama.core.config import ModelConfig
from slimpajama.model.architectures import LanguageModel, Optimiser, build
from slimpajama.model.architectures.optimiser import orthogonal


def small_step(model: LanguageModel, optimiser: Optimiser, seed: int) -> None:
    """Take one training step on seeded rows."""
    tokens_BT = torch.randint(0, 300, (4, 64), generator=torch.Generator().manual_seed(seed))
    model(tokens_BT, tokens_BT % 2 > 0)["total"].backward()
    optimiser.step(0.5)
    model.zero_grad()


def test_state_that_went_through_safetensors_gives_a_bit_identical_next_step() -> None:
    model = build(ModelConfig(preset="tiny"), 300, seed=0)
    optimiser = Optimiser(model, 1.0)
    for seed in range(3):
        small_step(model, optimiser, seed)
    weights, state = save(model.state_dict()), save(optimiser.state_tensors())
    other = build(ModelConfig(preset="tiny"), 300, seed=1)
    resumed = Optimiser(other, 1.0)
    other.load_state_dict(load(weights))
    resumed.load_state_tensors(load(state))
    for seed in range(3, 6):
        small_step(model, optimiser, seed)
        small_step(other, resumed, seed)
    after, before = other.state_dict(), model.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_a_fresh_state_differs_from_a_resumed_one() -> None:
    """Otherwise the test above could not fail."""
    results = []
    for resume in (True, False):
        model = build(ModelConfig(preset="tiny"), 300, seed=0)
        optimiser = Optimiser(model, 1.0)
        small_step(model, optimiser, 0)
        small_step(model, optimiser if resume else Optimiser(model, 1.0), 1)
        results.append(model.state_dict())
    assert any(not torch.equal(results[0][name], results[1][name]) for name in results[0])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_orthogonal_brings_singular_values_near_one_for_wide_tall_and_square_matrices(dtype: torch.dtype) -> None:
    """0.5 to 1.5: the quintic's own range is 0.68 to 1.13, bfloat16 rounds products of 5 steps by some per cent."""
    for shape in ((3, 32, 32), (1, 32, 96), (2, 96, 32)):
        m = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        singular = torch.linalg.svdvals(orthogonal(m, dtype).float())
        large = torch.linalg.svdvals(m) > 0.05 * torch.linalg.matrix_norm(m)[:, None]
        assert float(singular[large].min()) > 0.5
        assert float(singular.max()) < 1.5


def test_a_learning_rate_of_zero_changes_no_weight() -> None:
    model = build(ModelConfig(preset="tiny"), 300, seed=0)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    tokens_BT = torch.arange(64)[None]
    model(tokens_BT, tokens_BT > 3)["total"].backward()
    optimiser = Optimiser(model, 1.0)
    optimiser.step(0.0)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_every_weight_moves() -> None:
    model = build(ModelConfig(preset="tiny"), 300, seed=0)
    optimiser = Optimiser(model, 1.0)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    # What starts at zero lets gradients through from the second step on; two in a row, from the third.
    for seed in range(3):
        small_step(model, optimiser, seed)
    assert all(not torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
