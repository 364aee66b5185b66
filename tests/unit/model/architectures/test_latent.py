"""The narrow latent: levels that a normal distribution takes equally often, and a gradient that passes through."""

from __future__ import annotations

import pytest
import torch

from slimpajama.core.config import ModelConfig
from slimpajama.model.architectures import build
from slimpajama.model.architectures.latent import Latent


def latent(levels: int) -> Latent:
    return Latent(8, levels, 16, 4, 100, torch.Generator().manual_seed(0))


@pytest.mark.parametrize("levels", [2, 4, 16, 256])
def test_every_level_is_taken_equally_often_by_normal_numbers(levels: int) -> None:
    x = torch.randn(100, 10, 100, generator=torch.Generator().manual_seed(0))
    values, counts = latent(levels).quantise(x).unique(return_counts=True)
    assert len(values) == levels
    mean = x.numel() / levels
    # Five standard deviations of a binomial's count.
    assert counts.sub(mean).abs().max() < 5 * mean**0.5


def test_rounding_twice_is_rounding_once_and_far_numbers_take_the_last_level() -> None:
    part = latent(16)
    once = part.quantise(torch.linspace(-50, 50, 1001).view(1, 1, -1))
    assert torch.equal(part.quantise(once), once)
    assert (once.min(), once.max()) == (part.values_L[0], part.values_L[-1])


def test_the_gradient_passes_as_if_nothing_was_rounded() -> None:
    x = torch.randn(1, 3, 8, requires_grad=True)
    latent(4).quantise(x).square().sum().backward()
    assert torch.equal(x.grad, 2 * latent(4).quantise(x.detach()))


def test_nothing_reaches_the_rest_of_the_model_but_the_levels() -> None:
    """Any two texts whose latents have the same levels look the same to backbone and reader."""
    model = build(ModelConfig(preset="tiny", latent_width=8, latent_levels=4), 300, seed=0)
    tokens_BT = torch.randint(0, 300, (2, 64), generator=torch.Generator().manual_seed(1))
    latents = model.encode(model.code(tokens_BT), tokens_BT)
    assert latents.shape == (2, 16, 8)
    assert set(latents.unique().tolist()) <= set(model.latent.values_L.tolist())
    assert model.describe()["latent"] == {"tokens": 4, "numbers": 8, "levels": 4, "bytes": 2.0}
