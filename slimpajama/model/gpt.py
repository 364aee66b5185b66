"""The yardstick: a decoder-only transformer of the size of `small`, without a bottleneck."""

# B = batch, T = tokens per row, D = channels, V = vocabulary

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from slimpajama.errors import ModelError
from slimpajama.model.base import OBJECTIVES, LanguageModel, window
from slimpajama.model.layers import Cache, Stack, head_loss, norm, working
from slimpajama.model.presets import Sizes

__all__ = ["GPT"]


@dataclass(slots=True)
class GPTState:
    """Tokens of the window, and keys and values of the positions that were read."""

    tokens: list[int] = field(default_factory=list)
    cache: Cache = field(default_factory=list)


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

    def restore(self, tokens_BT: Tensor) -> Tensor:
        raise ModelError(
            "has no bottleneck to restore text from",
            where="model.preset gpt",
            hint="Train a chunk model (tiny, small, base or large) for `reconstruct`.",
        )

    @torch.no_grad()
    def start(self, tokens_1T: Tensor) -> tuple[GPTState, Tensor]:
        tokens = window([int(token) for token in tokens_1T.flatten()], self.row_tokens, 1)
        state = GPTState(tokens=tokens, cache=[None] * len(self.decoder.blocks))
        previous = torch.tensor([tokens], dtype=torch.long, device=self.embedding.device)
        e_1TD = torch.cat((self.first[None, None], F.embedding(previous, self.embedding)), dim=1)
        return state, self.logits(self.decoder(norm(working(e_1TD)), state.cache))

    @torch.no_grad()
    def step(self, state: GPTState, token: int) -> Tensor:
        state.tokens.append(token)
        if len(state.tokens) >= self.row_tokens:
            fresh, logits_V = self.start(torch.tensor([state.tokens]))
            state.tokens, state.cache = fresh.tokens, fresh.cache
            return logits_V
        e_11D = self.embedding[token][None, None]
        return self.logits(self.decoder(norm(working(e_11D)), state.cache, start=len(state.tokens)))

    def logits(self, x_1TD: Tensor) -> Tensor:
        """Return the logits (V,) of the last position, float32."""
        return F.linear(x_1TD[0, -1], self.embedding).float()
