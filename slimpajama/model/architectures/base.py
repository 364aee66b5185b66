"""What every model can do: train, score, restore, generate. Nothing else in the project knows an architecture."""

# B = batch, T = tokens per row, D = channels, V = vocabulary

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from slimpajama.core.errors import ModelError
from slimpajama.model.architectures.layers import cross_entropy, likeliest
from slimpajama.model.architectures.presets import Sizes

State = TypeVar("State")

OBJECTIVES: Mapping[str, float] = MappingProxyType({"continue": 1.0, "restore": 0.5, "denoise": 0.1})
"""Weights of the losses where a training does not say otherwise. A restore weight of 2 restored no more; an eighth of
the tokens denoised at 0.125 cost `continue` 0.01 bits per byte."""


class LanguageModel(nn.Module, ABC, Generic[State]):
    """A causal language model over rows of token ids."""

    def __init__(self, sizes: Sizes, vocab_size: int) -> None:
        super().__init__()
        self.sizes = sizes
        self.vocab_size = vocab_size
        self.chunk_tokens = sizes.chunk_tokens
        self.row_tokens = sizes.row_tokens

    @abstractmethod
    def forward(
        self, tokens_BT: Tensor, content_BT: Tensor, weights: Mapping[str, float] = OBJECTIVES
    ) -> dict[str, Tensor]:
        """Return scalar losses in nats a token: `total`, `continue` and, where they apply, `restore` and `denoise`.

        Args:
            tokens_BT: Token ids, `T` at most `row_tokens`.
            content_BT: True where the token belongs to a content word.
            weights: Of the losses in `total`; one of weight 0 is not computed.
        """

    @abstractmethod
    def states(self, tokens_BT: Tensor) -> tuple[Tensor, Tensor]:
        """Return the states (B, T, D) that score each token given those before it in its row, and the head (V, D)."""

    @torch.no_grad()
    def nll(self, tokens_BT: Tensor) -> Tensor:
        """Return the negative log-likelihood of each token given those before it in its row: float32 (B, T), nats."""
        return cross_entropy(*self.states(tokens_BT), tokens_BT)

    @torch.no_grad()
    def nll_and_likeliest(self, tokens_BT: Tensor) -> tuple[Tensor, Tensor]:
        """Return what `nll` does, and the likeliest token at each place, int64 (B, T)."""
        x_BTD, head_VD = self.states(tokens_BT)
        return cross_entropy(x_BTD, head_VD, tokens_BT), likeliest(x_BTD, head_VD)

    def restore(self, tokens_BT: Tensor) -> Tensor:
        """Return the likeliest tokens (B, T) given only the latents of the tokens.

        Raises:
            ModelError: If the architecture has no bottleneck, as here.
        """
        raise ModelError(
            "has no bottleneck to restore text from",
            where=f"model.preset {self.sizes.kind}",
            hint="Train a chunk model (tiny, small, base or large) for `reconstruct`.",
        )

    @abstractmethod
    def start(self, tokens_BT: Tensor) -> tuple[State, Tensor]:
        """Read prompts of one length, T from 0 on; return a state for `step` and the logits (B, V) of the next tokens.

        Of a prompt of `row_tokens` or more, the last part is kept: see `window`. Rows do not see each other, but the
        last bits of their logits may depend on how many there are.
        """

    @abstractmethod
    def step(self, state: State, tokens_B: Tensor) -> Tensor:
        """Append one token to each row; `state` is changed in place. Return the logits (B, V) of the tokens after."""

    def describe(self) -> dict[str, Any]:
        """Return parameters, sizes and compression as plain JSON values."""
        return {
            "kind": self.sizes.kind,
            "parameters": sum(p.numel() for p in self.parameters()),
            "vocab_size": self.vocab_size,
            "width": self.sizes.width,
            "heads": self.sizes.heads,
            "row_tokens": self.row_tokens,
            "chunk_tokens": self.chunk_tokens,
            "token_blocks": self.sizes.token_blocks,
            "backbone_blocks": self.sizes.backbone_blocks,
        }


def window(tokens_BT: Tensor, row_tokens: int, chunk_tokens: int) -> Tensor:
    """Return the part of each row that generation goes on from: fewer than `row_tokens`.

    A full row is cut to its last three quarters, so that reading them again pays off over the
    following quarter of a row.
    """
    if tokens_BT.size(1) < row_tokens:
        return tokens_BT
    drop = max(chunk_tokens, row_tokens // 4 // chunk_tokens * chunk_tokens)
    return tokens_BT[:, -(row_tokens - drop) :]
