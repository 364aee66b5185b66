"""The seed article's model: embedding, one dense layer, softmax; the next token from the previous one only."""

# B = batch, T = tokens per row, D = channels, V = vocabulary

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from slimpajama.model.architectures.base import LanguageModel, State
from slimpajama.model.architectures.layers import Linear
from slimpajama.model.architectures.presets import Sizes

HIDDEN = 256
LEAST_CLASSES = 10_000


class Article(LanguageModel):
    """Embedding (128) -> dense (256, ReLU) -> softmax over at least 10,000 classes."""

    def __init__(self, sizes: Sizes, vocab_size: int, generator: torch.Generator) -> None:
        super().__init__(sizes, vocab_size)
        classes = max(LEAST_CLASSES, vocab_size)
        self.embedding = nn.Parameter(torch.empty(classes, sizes.width))
        nn.init.normal_(self.embedding, generator=generator)
        self.first = nn.Parameter(torch.zeros(sizes.width))
        self.dense = Linear(sizes.width, HIDDEN, generator)
        self.head = nn.Parameter(torch.zeros(classes, HIDDEN))

    def hidden(self, tokens_BT: Tensor) -> Tensor:
        e_BTD = F.embedding(tokens_BT[:, :-1], self.embedding)
        first_B1D = self.first.expand(tokens_BT.size(0), 1, -1)
        return F.relu(self.dense(torch.cat((first_B1D, e_BTD), dim=1)))

    def advance(self, state: State) -> Tensor:
        last_BT = state.tokens_BT[:, -1:]
        x_BD = F.embedding(last_BT[:, 0], self.embedding) if last_BT.size(1) else self.first.expand(len(last_BT), -1)
        return F.relu(self.dense(x_BD))

    def classes(self) -> Tensor:
        return self.head

    def describe(self) -> dict[str, Any]:
        return super().describe() | {"classes": len(self.head), "hidden": HIDDEN}
