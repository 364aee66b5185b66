"""The yardstick: a decoder-only transformer of the size of `small`, without a bottleneck."""

# B = batch, T = tokens per row, D = channels, V = vocabulary

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from slimpajama.model.architectures.base import LanguageModel, State
from slimpajama.model.architectures.layers import Stack, norm, working
from slimpajama.model.architectures.presets import Sizes


class GPT(LanguageModel):
    """Causal blocks over tokens; tied embeddings."""

    def __init__(self, sizes: Sizes, vocab_size: int, generator: torch.Generator) -> None:
        super().__init__(sizes, vocab_size)
        self.embedding = nn.Parameter(torch.empty(vocab_size, sizes.width))
        nn.init.normal_(self.embedding, std=0.02, generator=generator)
        self.first = nn.Parameter(torch.zeros(sizes.width))
        nn.init.normal_(self.first, std=0.02, generator=generator)
        self.decoder = Stack(sizes.token_blocks, sizes.width, sizes.heads, sizes.row_tokens, generator)

    def embed(self, tokens_BT: Tensor, read: int = 0) -> Tensor:
        """Return what the decoder reads at the places from `read` on; at place 0 that is a learned vector."""
        e_BTD = F.embedding(tokens_BT[:, max(read - 1, 0) :], self.embedding)
        if not read:
            e_BTD = torch.cat((self.first.expand(len(e_BTD), 1, -1), e_BTD), dim=1)
        return norm(working(e_BTD))

    def hidden(self, tokens_BT: Tensor) -> Tensor:
        x_BTD: Tensor = self.decoder(self.embed(tokens_BT[:, :-1]))
        return x_BTD

    def advance(self, state: State) -> Tensor:
        x_BTD: Tensor = self.decoder(self.embed(state.tokens_BT, state.read), state.decoder, start=state.read)
        state.read = state.tokens_BT.size(1) + 1
        return x_BTD[:, -1]
