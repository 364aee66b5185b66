"""The yardstick: a decoder-only transformer of the size of `small`, without a bottleneck."""

# B = batch, T = tokens per row, D = channels, V = vocabulary

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from slimpajama.model.architectures.base import OBJECTIVES, LanguageModel, window
from slimpajama.model.architectures.layers import Cache, Stack, head_loss, norm, working
from slimpajama.model.architectures.presets import Sizes


@dataclass(slots=True)
class GPTState:
    """Tokens of the window, and keys and values of the positions that were read."""

    tokens_BT: Tensor
    cache: Cache


class GPT(LanguageModel[GPTState]):
    """Causal blocks over tokens; tied embeddings."""

    def __init__(self, sizes: Sizes, vocab_size: int, generator: torch.Generator) -> None:
        super().__init__(sizes, vocab_size)
        self.embedding = nn.Parameter(torch.empty(vocab_size, sizes.width))
        nn.init.normal_(self.embedding, std=0.02, generator=generator)
        self.first = nn.Parameter(torch.zeros(sizes.width))
        nn.init.normal_(self.first, std=0.02, generator=generator)
        self.decoder = Stack(sizes.token_blocks, sizes.width, sizes.heads, sizes.row_tokens, generator)

    def hidden(self, tokens_BT: Tensor) -> Tensor:
        """Return the states (B, T, D) that score each token: state t has seen the tokens before t."""
        e_BTD = F.embedding(tokens_BT[:, :-1], self.embedding)
        first_B1D = self.first.expand(tokens_BT.size(0), 1, -1)
        x_BTD: Tensor = self.decoder(norm(working(torch.cat((first_B1D, e_BTD), dim=1))))
        return x_BTD

    def forward(
        self, tokens_BT: Tensor, content_BT: Tensor, weights: Mapping[str, float] = OBJECTIVES
    ) -> dict[str, Tensor]:
        loss = head_loss(self.hidden(tokens_BT), self.embedding, tokens_BT)
        return {"total": loss, "continue": loss.detach()}

    def states(self, tokens_BT: Tensor) -> tuple[Tensor, Tensor]:
        return self.hidden(tokens_BT), self.embedding

    @torch.no_grad()
    def start(self, tokens_BT: Tensor) -> tuple[GPTState, Tensor]:
        tokens_BT = window(tokens_BT.to(self.embedding.device), self.row_tokens, 1)
        state = GPTState(tokens_BT, [None] * len(self.decoder.blocks))
        first_B1D = self.first.expand(tokens_BT.size(0), 1, -1)
        e_BTD = torch.cat((first_B1D, F.embedding(tokens_BT, self.embedding)), dim=1)
        return state, self.logits(self.decoder(norm(working(e_BTD)), state.cache))

    @torch.no_grad()
    def step(self, state: GPTState, tokens_B: Tensor) -> Tensor:
        tokens_B1 = tokens_B[:, None].to(state.tokens_BT.device)
        state.tokens_BT = torch.cat((state.tokens_BT, tokens_B1), dim=1)
        if state.tokens_BT.size(1) >= self.row_tokens:
            fresh, logits_BV = self.start(state.tokens_BT)
            state.tokens_BT, state.cache = fresh.tokens_BT, fresh.cache
            return logits_BV
        e_B1D = F.embedding(tokens_B1, self.embedding)
        return self.logits(self.decoder(norm(working(e_B1D)), state.cache, start=state.tokens_BT.size(1)))

    def logits(self, x_BTD: Tensor) -> Tensor:
        """Return the logits (B, V) of the last position, float32."""
        return F.linear(x_BTD[:, -1], self.embedding).float()
