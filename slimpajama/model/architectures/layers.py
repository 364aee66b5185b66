"""Parts that the models share: norm, linear maps, causal transformer blocks with a cache, head and loss.

No biases, squared ReLU, RoPE, QK-norm, and output projections that start at zero, so that a block
starts as the identity. Weights are drawn from one explicit generator, in the order of construction.
"""

# B = batch, T = tokens (or latents) per row, D = channels, H = heads, V = vocabulary, N = B * T

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Cache = dict[int, tuple[Tensor, Tensor]]
"""Room for keys and values by block, (B, H, longest row, D / H); none before the first token."""

# Tokens whose logits stand at once: 512 x 8192 floats are 16 MB, which a level-3 cache holds.
LOSS_ROWS = 512
# A probability that underflows counts as this one: 87 nats.
LEAST = torch.finfo(torch.float32).tiny
# Up to here a plain matmul beats SDPA on a CPU, and its scores fit in memory.
SHORT_ROW = 512


def working(x: Tensor) -> Tensor:
    """Return `x` in the type that autocast computes in: a float32 residual stream would be cast at every layer."""
    device = x.device.type
    return x.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else x


def norm(x: Tensor) -> Tensor:
    """Return `x` divided by its root mean square over the last dimension; no learned scale."""
    return F.rms_norm(x, (x.size(-1),))


class Linear(nn.Module):
    """A linear map without bias; `stack` maps that read the same input are stored as (stack, out, in).

    The optimiser orthogonalises each (out, in) matrix by itself.
    """

    def __init__(
        self, n_in: int, n_out: int, generator: torch.Generator, *, stack: int = 1, zero: bool = False
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(stack, n_out, n_in))
        if not zero:
            # Uniform with variance 1 / n_in.
            bound = math.sqrt(3.0 / n_in)
            nn.init.uniform_(self.weight, -bound, bound, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        """Return (..., stack * out)."""
        return F.linear(x, self.weight.flatten(0, 1))


def rope_tables(length: int, head_dim: int) -> tuple[Tensor, Tensor]:
    """Return cosine and sine of rotary positions, (length, head_dim / 2) each.

    Source: Su et al. 2021, "RoFormer". Base 10,000.
    """
    frequency = 10_000.0 ** (-torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim)
    angle = torch.outer(torch.arange(length, dtype=torch.float32), frequency)
    return angle.cos(), angle.sin()


def rotate(x_BHTD: Tensor, cos_TD: Tensor, sin_TD: Tensor) -> Tensor:
    """Rotate the two halves of the channels by the position's angle."""
    a, b = x_BHTD.chunk(2, dim=-1)
    return torch.cat((a * cos_TD + b * sin_TD, b * cos_TD - a * sin_TD), dim=-1)


class Block(nn.Module):
    """Pre-norm self-attention, causal unless it is told what is there, and squared-ReLU MLP."""

    def __init__(self, width: int, heads: int, generator: torch.Generator) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = Linear(width, width, generator, stack=3)
        self.out = Linear(width, width, generator, zero=True)
        self.up = Linear(width, 4 * width, generator)
        self.down = Linear(4 * width, width, generator, zero=True)

    def forward(
        self,
        x_BTD: Tensor,
        cos: Tensor,
        sin: Tensor,
        past: tuple[Tensor, Tensor] | None = None,
        start: int = 0,
        there_BT: Tensor | None = None,
    ) -> Tensor:
        """Return the block's output at new positions, of which `cos` and `sin` are the rotary tables.

        Args:
            past: Keys and values, of which `start` positions are there; those of the new ones are written behind them.
            start: First of the new positions.
            there_BT: Positions that all see, before and behind them; without it each sees those up to itself.
        """
        B, T, D = x_BTD.shape
        q, k, v = self.qkv(norm(x_BTD)).view(B, T, 3, self.heads, D // self.heads).permute(2, 0, 3, 1, 4)
        q, k = rotate(norm(q), cos.to(q.dtype), sin.to(q.dtype)), rotate(norm(k), cos.to(k.dtype), sin.to(k.dtype))
        if past is not None:
            for kept, new in zip(past, (k, v), strict=True):
                kept[:, :, start : start + T] = new
            k, v = past[0][:, :, : start + T], past[1][:, :, : start + T]
        y_BHTD = causal_attention(q, k, v) if there_BT is None else attention(q, k, v, there_BT)
        x_BTD = x_BTD + self.out(y_BHTD.transpose(1, 2).reshape(B, T, D))
        y_BTD: Tensor = x_BTD + self.down(F.relu(self.up(norm(x_BTD))).square())
        return y_BTD


def causal_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attend from the last positions of `k` and `v` (B, H, S, D): query i sees keys up to S - T + i."""
    T, S = q.size(2), k.size(2)
    if S > SHORT_ROW and T == S:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)
    return _plain(q, k, v, torch.full((T, S), -torch.inf, dtype=q.dtype, device=q.device).triu(S - T + 1))


def attention(q: Tensor, k: Tensor, v: Tensor, there_BS: Tensor) -> Tensor:
    """Attend from all positions of `q` (B, H, T, D) to those of `k` and `v` (B, H, S, D) that are there."""
    if k.size(2) > SHORT_ROW:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=there_BS[:, None, None])
    return _plain(q, k, v, torch.zeros_like(there_BS, dtype=q.dtype).masked_fill(~there_BS, -torch.inf)[:, None, None])


def _plain(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    # Softmax sums in float32 anyway; autocast would copy for it.
    with torch.autocast(q.device.type, enabled=False):
        y_BHTD: Tensor = ((q * q.size(-1) ** -0.5) @ k.transpose(2, 3) + mask).softmax(dim=-1) @ v
    return y_BHTD


class Stack(nn.Module):
    """Blocks over one sequence, with rotary tables for its longest length."""

    def __init__(self, blocks: int, width: int, heads: int, length: int, generator: torch.Generator) -> None:
        super().__init__()
        self.heads = heads
        self.blocks = nn.ModuleList(Block(width, heads, generator) for _ in range(blocks))
        cos, sin = rope_tables(length, width // heads)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        self.cos: Tensor
        self.sin: Tensor

    def forward(
        self,
        x_BTD: Tensor,
        cache: Cache | None = None,
        start: int = 0,
        between: Callable[[int, Tensor], Tensor] | None = None,
        there_BT: Tensor | None = None,
    ) -> Tensor:
        """Return the normed output of the last block; `cache` is brought up to date in place.

        Args:
            x_BTD: Positions `start` to `start + T`.
            cache: Holds the positions before `start`. Room for the longest row is made at once: growing it by every
                position would copy all of it each time.
            between: What becomes of the output of block i, before the next block reads it.
            there_BT: As `Block.forward` has it; not together with a cache.
        """
        cos, sin = self.cos[start : start + x_BTD.size(1)], self.sin[start : start + x_BTD.size(1)]
        for i, block in enumerate(self.blocks):
            if cache is not None and i not in cache:
                room = x_BTD.size(0), self.heads, self.cos.size(0), 2 * self.cos.size(1)
                cache[i] = x_BTD.new_empty(room), x_BTD.new_empty(room)
            x_BTD = block(x_BTD, cos, sin, cache[i] if cache is not None else None, start, there_BT)
            x_BTD = between(i, x_BTD) if between else x_BTD
        return norm(x_BTD)


class _HeadLoss(torch.autograd.Function):
    """Mean cross-entropy of a linear head whose gradients are taken in the forward pass, a few rows at a time.

    The logits never stand whole, and nothing is computed twice: three matmuls where checkpointing takes four.
    """

    @staticmethod
    def forward(ctx: Any, x_ND: Tensor, weight_VD: Tensor, target_N: Tensor) -> Tensor:
        w, grad_w, grad_x = weight_VD.to(x_ND.dtype), torch.zeros_like(weight_VD), torch.empty_like(x_ND)
        total = torch.zeros((), dtype=torch.float32, device=x_ND.device)
        rows = min(LOSS_ROWS, x_ND.size(0))
        # Used again and again, like the next two:
        low = x_ND.new_empty(rows, w.size(0))
        # On a CPU, fresh pages cost more than the arithmetic.
        full = low.new_empty(low.shape, dtype=torch.float32)
        step_w, step_w_full = torch.empty_like(w), torch.empty_like(weight_VD)
        for x, target, out in zip(*(t.split(rows) for t in (x_ND, target_N[:, None], grad_x)), strict=True):
            p, g = full[: x.size(0)], low[: x.size(0)]
            p.copy_(torch.mm(x, w.T, out=g))
            torch.softmax(p, dim=1, out=p)
            total -= p.gather(1, target).clamp_min_(LEAST).log_().sum()
            p.scatter_add_(1, target, p.new_full((1, 1), -1.0).expand_as(target))
            g.copy_(p)
            torch.mm(g, w, out=out)
            grad_w += step_w_full.copy_(torch.mm(g.T, x, out=step_w))
        ctx.save_for_backward(grad_x, grad_w)
        ctx.count = x_ND.size(0)
        return total / x_ND.size(0)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, Tensor, None]:
        grad_x, grad_w = ctx.saved_tensors
        scale = grads[0] / ctx.count
        return grad_x * scale.to(grad_x.dtype), grad_w * scale, None


def head_loss(x_BTD: Tensor, weight_VD: Tensor, target_BT: Tensor) -> Tensor:
    """Return the mean cross-entropy in nats a token, for training."""
    loss: Tensor = _HeadLoss.apply(x_BTD.flatten(0, -2), weight_VD, target_BT.flatten())
    return loss


def cross_entropy(x_BTD: Tensor, weight_VD: Tensor, target_BT: Tensor) -> Tensor:
    """Return the cross-entropy of every token in nats, float32 (B, T), for measuring."""
    x_ND, target_N = x_BTD.flatten(0, -2), target_BT.flatten()
    parts = [
        F.cross_entropy(F.linear(x, weight_VD).float(), target, reduction="none")
        for x, target in zip(x_ND.split(LOSS_ROWS), target_N.split(LOSS_ROWS), strict=True)
    ]
    return torch.cat(parts).view(target_BT.shape) if parts else x_ND.new_zeros(target_BT.shape)


def likeliest(x_BTD: Tensor, weight_VD: Tensor) -> Tensor:
    """Return the token of the largest logit at every place, int64 (B, T)."""
    x_ND = x_BTD.flatten(0, -2)
    parts = [F.linear(x, weight_VD).argmax(dim=1) for x in x_ND.split(LOSS_ROWS)]
    return torch.cat(parts).view(x_BTD.shape[:-1])


def outlook(x_BTD: Tensor, weight_VD: Tensor, target_BT: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return of every place, float32 (B, T) each, in nats: cross-entropy, entropy, log of the largest probability."""
    found = []
    x_ND, target_N = x_BTD.flatten(0, -2), target_BT.flatten()
    for x, target in zip(x_ND.split(LOSS_ROWS), target_N.split(LOSS_ROWS), strict=True):
        log_p = F.linear(x, weight_VD).float().log_softmax(dim=1)
        entropy = -(log_p.exp() * log_p).sum(dim=1)
        found.append(torch.stack((-log_p.gather(1, target[:, None])[:, 0], entropy, log_p.amax(dim=1))))
    nll, entropy, peak = torch.cat(found, dim=1).view(3, *target_BT.shape)
    return nll, entropy, peak
