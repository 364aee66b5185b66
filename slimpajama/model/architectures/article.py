"""The seed article's model: embedding, one dense layer, softmax; the next token from the previous one only."""

# B = batch, T = tokens per row, D = channels, V = vocabulary

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from slimpajama.model.architectures.base import OBJECTIVES, LanguageModel
from slimpajama.model.architectures.layers import Linear, head_loss
from slimpajama.model.architectures.presets import Sizes

HIDDEN = 256
LEAST_CLASSES = 10_000


class Article(LanguageModel[None]):
    """Embedding (128) -> dense (256, ReLU) -> softmax over at least 10,000 classes."""

    def __init__(self, sizes: Sizes, vocab_size: int, generator: torch.Generator) -> None:
        super().__init__(sizes, vocab_size)
        self.classes = max(LEAST_CLASSES, vocab_size)
        self.embedding = nn.Parameter(torch.empty(self.classes, sizes.width))
        nn.init.normal_(self.embedding, generator=generator)
        self.first = nn.Parameter(torch.zeros(sizes.width))
        self.dense = Linear(sizes.width, HIDDEN, generator)
        self.head = nn.Parameter(torch.zeros(self.classes, HIDDEN))

    def hidden(self, tokens_BT: Tensor) -> Tensor:
        """Return the states (B, T, 256) that score each token: state t has seen token t - 1."""
        e_BTD = F.embedding(tokens_BT[:, :-1], self.embedding)
        first_B1D = self.first.expand(tokens_BT.size(0), 1, -1)
        return F.relu(self.dense(torch.cat((first_B1D, e_BTD), dim=1)))

    def forward(
        self, tokens_BT: Tensor, content_BT: Tensor, weights: Mapping[str, float] = OBJECTIVES
    ) -> dict[str, Tensor]:
        loss = head_loss(self.hidden(tokens_BT), self.head, tokens_BT)
        return {"total": loss, "continue": loss.detach()}

    def states(self, tokens_BT: Tensor) -> tuple[Tensor, Tensor]:
        return self.hidden(tokens_BT), self.head[: self.vocab_size]

    @torch.no_grad()
    def start(self, tokens_BT: Tensor) -> tuple[None, Tensor]:
        if tokens_BT.size(1):
            return None, self.step(None, tokens_BT[:, -1])
        return None, self.logits(self.first.expand(tokens_BT.size(0), -1))

    @torch.no_grad()
    def step(self, state: None, tokens_B: Tensor) -> Tensor:
        return self.logits(F.embedding(tokens_B, self.embedding))

    def logits(self, x_BD: Tensor) -> Tensor:
        """Return the logits (B, V): classes beyond the vocabulary never occur and are left out."""
        return F.linear(F.relu(self.dense(x_BD)), self.head[: self.vocab_size]).float()

    def describe(self) -> dict[str, Any]:
        return super().describe() | {"classes": self.classes, "hidden": HIDDEN}
