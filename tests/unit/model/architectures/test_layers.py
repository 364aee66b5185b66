"""Parts of the models against plain formulas."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from slimpajama.model.architectures.layers import (
    LOSS_ROWS,
    SHORT_ROW,
    causal_attention,
    cross_entropy,
    head_loss,
    rope_tables,
    rotate,
)


def random(*shape: int, seed: int = 0) -> Tensor:
    """Return standard normal numbers in float64."""
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("count", [1, 7, LOSS_ROWS, LOSS_ROWS + 1])
def test_head_loss_and_its_gradients_equal_the_plain_cross_entropy(count: int) -> None:
    x = random(count, 8).float().requires_grad_()
    weight = random(50, 8, seed=1).float().requires_grad_()
    target = torch.randint(0, 50, (count,), generator=torch.Generator().manual_seed(2))
    expected = F.cross_entropy(x @ weight.T, target)
    expected_gradients = torch.autograd.grad(3 * expected, (x, weight))
    loss = head_loss(x[None], weight, target[None])
    gradients = torch.autograd.grad(3 * loss, (x, weight))
    torch.testing.assert_close(loss, expected)
    for gradient, plain in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(gradient, plain)
    each = cross_entropy(x[None], weight, target[None])
    assert each.shape == (1, count)
    torch.testing.assert_close(each.mean(), expected)


@pytest.mark.parametrize("new", [1, 3, 10])
def test_attention_of_the_last_positions_equals_that_of_the_whole_row(new: int) -> None:
    q, k, v = (random(2, 2, 10, 4, seed=i) for i in range(3))
    whole = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    torch.testing.assert_close(causal_attention(q[:, :, -new:], k, v), whole[:, :, -new:])


def test_long_rows_give_what_the_plain_product_gives() -> None:
    q, k, v = (random(1, 1, SHORT_ROW + 1, 4, seed=i) for i in range(3))
    # Fewer queries than keys: never the fused kernel.
    plain = causal_attention(q[:, :, 1:], k, v)
    torch.testing.assert_close(causal_attention(q, k, v)[:, :, 1:], plain)


def test_rotation_keeps_lengths_and_makes_products_depend_on_distance_only() -> None:
    cos, sin = (table.double() for table in rope_tables(40, 8))
    q, k = random(8), random(8, seed=1)
    q_TD, k_TD = rotate(q.expand(40, 8), cos, sin), rotate(k.expand(40, 8), cos, sin)
    torch.testing.assert_close(q_TD.norm(dim=1), q.norm().expand(40))
    products = q_TD @ k_TD.T
    tolerance = {"rtol": 0.0, "atol": 40 * torch.finfo(torch.float32).eps * float(q.norm() * k.norm())}
    # The tables are float32: an angle of up to 40 is known to 40 eps.
    for distance in (0, 1, 17):
        diagonal = products.diagonal(-distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), **tolerance)
