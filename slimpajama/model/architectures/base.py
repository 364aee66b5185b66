"""What every model can do: train, score, restore, generate. Nothing else in the project knows an architecture."""

# B = batch, T = tokens per row, D = channels, V = vocabulary

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from slimpajama.core.errors import ModelError
from slimpajama.model.architectures.layers import Cache, cross_entropy, head_loss, likeliest, outlook
from slimpajama.model.architectures.presets import Sizes

OBJECTIVES: Mapping[str, float] = MappingProxyType({"continue": 1.0, "restore": 0.5, "denoise": 0.1})
"""Weights of the losses where a training does not say otherwise. A restore weight of 2 restored no more; an eighth of
the tokens denoised at 0.125 cost `continue` 0.01 bits per byte."""


@dataclass(slots=True)
class State:
    """Rows under way: the tokens of the window, and what a model keeps of those that it has read."""

    tokens_BT: Tensor
    conditions_BTD: Tensor
    """What a backbone says of each place in the chunks that it knows and in the next one."""
    backbone: Cache = field(default_factory=dict)
    decoder: Cache = field(default_factory=dict)
    read: int = 0
    """Places of the decoder that its cache holds; place 0 is before the first token."""

    def take(self, rows: Tensor) -> "State":
        """Return the state of some rows, in their order."""
        backbone, decoder = (
            {block: (k[rows], v[rows]) for block, (k, v) in cache.items()} for cache in (self.backbone, self.decoder)
        )
        return State(self.tokens_BT[rows], self.conditions_BTD[rows], backbone, decoder, self.read)


class LanguageModel(nn.Module, ABC):
    """A causal language model over rows of token ids."""

    embedding: nn.Parameter

    def __init__(self, sizes: Sizes, vocab_size: int) -> None:
        super().__init__()
        self.sizes = sizes
        self.vocab_size = vocab_size
        self.chunk_tokens = sizes.chunk_tokens
        self.row_tokens = sizes.row_tokens

    def forward(
        self, tokens_BT: Tensor, content_BT: Tensor, weights: Mapping[str, float] = OBJECTIVES
    ) -> dict[str, Tensor]:
        """Return scalar losses in nats a token: `total`, `continue` and, where they apply, `restore` and `denoise`.

        Args:
            tokens_BT: Token ids, `T` at most `row_tokens`.
            content_BT: True where the token belongs to a content word.
            weights: Of the losses in `total`; one of weight 0 is not computed.
        """
        loss = head_loss(self.hidden(tokens_BT), self.classes(), tokens_BT)
        return {"total": loss, "continue": loss.detach()}

    @abstractmethod
    def hidden(self, tokens_BT: Tensor) -> Tensor:
        """Return the states (B, T, D) that score each token given those before it in its row."""

    @abstractmethod
    def advance(self, state: State) -> Tensor:
        """Read the tokens that were not read yet; return the states (B, D) that score those after them."""

    def classes(self) -> Tensor:
        """Return the vectors that states are compared with in training; there may be more than V."""
        return self.embedding

    def states(self, tokens_BT: Tensor) -> tuple[Tensor, Tensor]:
        """Return the states (B, T, D) that score each token given those before it in its row, and the head (V, D)."""
        return self.hidden(tokens_BT), self.classes()[: self.vocab_size]

    @torch.no_grad()
    def nll(self, tokens_BT: Tensor) -> Tensor:
        """Return the negative log-likelihood of each token given those before it in its row: float32 (B, T), nats."""
        return cross_entropy(*self.states(tokens_BT), tokens_BT)

    def nlls(self, tokens_BT: Tensor) -> Tensor:
        """Return `nll`, and behind it what parts of the model say without the others, (parts, B, T)."""
        return self.nll(tokens_BT)[None]

    @torch.no_grad()
    def nll_and_likeliest(self, tokens_BT: Tensor) -> tuple[Tensor, Tensor]:
        """Return what `nll` does, and the likeliest token at each place, int64 (B, T)."""
        x_BTD, head_VD = self.states(tokens_BT)
        return cross_entropy(x_BTD, head_VD, tokens_BT), likeliest(x_BTD, head_VD)

    @torch.no_grad()
    def outlook(self, tokens_BT: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return what `nll` does, the entropy at each place and the log of the largest probability, all in nats."""
        return outlook(*self.states(tokens_BT), tokens_BT)

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

    @torch.no_grad()
    def start(self, tokens_BT: Tensor) -> tuple[State, Tensor]:
        """Read prompts of one length, T from 0 on; return a state for `step` and the logits (B, V) of the next tokens.

        A row holds fewer than `row_tokens`. A full one is cut to its last three quarters, so that reading them again
        pays off over the following quarter. Rows do not see each other, but the last bits of their logits may depend on
        how many there are.
        """
        if tokens_BT.size(1) >= self.row_tokens:
            drop = max(self.chunk_tokens, self.row_tokens // 4 // self.chunk_tokens * self.chunk_tokens)
            tokens_BT = tokens_BT[:, -(self.row_tokens - drop) :]
        state = self.unread(tokens_BT.to(self.embedding.device))
        return state, self._logits(state)

    def unread(self, tokens_BT: Tensor) -> State:
        """Return the state before `tokens_BT` are read."""
        return State(tokens_BT, self.embedding.new_empty(len(tokens_BT), 0, self.sizes.width))

    @torch.no_grad()
    def step(self, state: State, tokens_B: Tensor) -> Tensor:
        """Append one token to each row; `state` is changed in place. Return the logits (B, V) of the tokens after."""
        state.tokens_BT = torch.cat((state.tokens_BT, tokens_B[:, None].to(state.tokens_BT.device)), dim=1)
        if state.tokens_BT.size(1) < self.row_tokens:
            return self._logits(state)
        fresh, logits_BV = self.start(state.tokens_BT)
        for name in State.__slots__:
            setattr(state, name, getattr(fresh, name))
        return logits_BV

    def _logits(self, state: State) -> Tensor:
        return F.linear(self.advance(state), self.classes()[: self.vocab_size]).float()

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
