"""The chunk autoencoder: K tokens become one latent, and text is restored from latents and continued over them.

- encoder: K token embeddings -> packed linear -> squared-ReLU MLP -> RMS norm -> latent z, the bottleneck, to which
  each token adds a learned code (`latent.py`);
- backbone: causal blocks over z_1..z_n predict the next chunk's condition (of a learned z_0 for the first);
- decoder: causal blocks over the previous token plus the condition, unpacked for its place in the chunk.

Objectives: *continue* scores each token from the predicted condition and the tokens before it; *restore*
reads a chunk back from its own z in one small step; *denoise* gives the decoder the z of the content words
only (all else is one learned gap embedding) and wants the full text.
"""

# B = batch, T = tokens per row, n = chunks per row, K = tokens a chunk, D = channels, V = vocabulary

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from slimpajama.model.architectures.base import OBJECTIVES, LanguageModel, State
from slimpajama.model.architectures.latent import Latent
from slimpajama.model.architectures.layers import Linear, Stack, head_loss, norm, working
from slimpajama.model.architectures.presets import Sizes

Between = Callable[[int, Tensor], Tensor]

RESTORE_EVERY = 8  # of the chunks
# Learned vectors: before the first token, first latent, left-out token, denoise.
FIRST, Z0, GAP, FLAG = range(4)
DENOISE_EVERY = 16  # of the tokens


class ChunkModel(LanguageModel):
    """See the module's header."""

    def __init__(self, sizes: Sizes, vocab_size: int, generator: torch.Generator) -> None:
        super().__init__(sizes, vocab_size)
        D, K = sizes.width, sizes.chunk_tokens
        self.embedding = nn.Parameter(torch.empty(vocab_size, D))
        nn.init.normal_(self.embedding, std=0.02, generator=generator)
        self.special = nn.Parameter(torch.empty(4, D))
        nn.init.normal_(self.special, std=0.02, generator=generator)
        self.pack = Linear(D, D, generator, stack=K)
        self.pack_up = Linear(D, 4 * D, generator)
        self.pack_down = Linear(4 * D, D, generator, zero=True)
        self.backbone = Stack(
            sizes.backbone_blocks, D, sizes.heads, sizes.row_tokens // sizes.chunk_tokens + 1, generator
        )
        self.unpack = Linear(D, D, generator, stack=K)
        self.decoder = Stack(sizes.token_blocks, D, sizes.heads, sizes.row_tokens, generator)
        self.latent = Latent(sizes.latent_width, sizes.latent_levels, D, K, vocab_size, generator)

    def embed(self, tokens_BT: Tensor) -> Tensor:
        """Return normed token embeddings (B, T, D)."""
        return norm(working(F.embedding(tokens_BT, self.embedding)))

    def code(self, tokens_BT: Tensor) -> Tensor:
        """Return what the encoder reads (B, T, D): embeddings without what all share, which tells none apart."""
        return norm(working(F.embedding(tokens_BT, self.embedding) - self.embedding.detach().mean(dim=0)))

    def encode(self, u_BTD: Tensor, tokens_BT: Tensor) -> Tensor:
        """Return the latents (B, n, `latent_width`) of each K tokens, given what the encoder reads of them.

        `tokens_BT` holds V where a token was left out.
        """
        B, T, D = u_BTD.shape
        x = F.linear(
            u_BTD.reshape(B, T // self.chunk_tokens, self.chunk_tokens * D), self.pack.weight.transpose(0, 1).flatten(1)
        )
        z_BnD = norm(x + self.pack_down(F.relu(self.pack_up(norm(x))).square()))
        latents_Bnd: Tensor = self.latent(z_BnD, tokens_BT)
        return latents_Bnd

    def wide(self, latents_Bnd: Tensor) -> Tensor:
        """Return what backbone and decoder read of the latents (B, n, D)."""
        return norm(self.latent.widen(latents_Bnd))

    def begin(self, which: int, x_BTD: Tensor) -> Tensor:
        """Return `x_BTD` with a learned vector before it, (B, T + 1, D)."""
        return torch.cat((norm(self.special[which]).to(x_BTD.dtype).expand(x_BTD.size(0), 1, -1), x_BTD), dim=1)

    def predict(self, z_BnD: Tensor) -> Tensor:
        """Return the condition (B, n, D) of each chunk, from the latents before it."""
        c: Tensor = self.backbone(self.begin(Z0, z_BnD[:, :-1]))
        return c

    def decode(self, e_BTD: Tensor, condition_BnD: Tensor, *, denoise: bool = False) -> Tensor:
        """Return the states (B, T, D) that score each token, from the tokens before it and its chunk's condition."""
        B, T, D = e_BTD.shape
        x = self.begin(FIRST, e_BTD[:, :-1]) + self.unpack(condition_BnD).view(B, T, D)
        if denoise:
            x = x + norm(self.special[FLAG]).to(x.dtype)
        y: Tensor = self.decoder(norm(x))
        return y

    def forward(
        self, tokens_BT: Tensor, content_BT: Tensor, weights: Mapping[str, float] = OBJECTIVES
    ) -> dict[str, Tensor]:
        tokens_BT, content_BT = self.whole_chunks(tokens_BT), self.whole_chunks(content_BT)
        e_BTD, u_BTD = self.embed(tokens_BT), self.code(tokens_BT)
        losses = {"continue": self.continue_loss(tokens_BT, e_BTD, u_BTD)}
        if weights["restore"]:
            losses["restore"] = self.restore_loss(tokens_BT)
        if weights["denoise"]:
            losses["denoise"] = self.denoise_loss(tokens_BT, content_BT, e_BTD, u_BTD)
        total = sum((weights[name] * loss for name, loss in losses.items()), torch.zeros_like(losses["continue"]))
        return {"total": total} | {name: loss.detach() for name, loss in losses.items()}

    def continue_loss(self, tokens_BT: Tensor, e_BTD: Tensor, u_BTD: Tensor) -> Tensor:
        """Return the loss of every token given the latents of the chunks before and the tokens before it."""
        y_BTD = self.decode(e_BTD, self.predict(self.wide(self.encode(u_BTD, tokens_BT))))
        return head_loss(y_BTD, self.embedding, tokens_BT)

    def restore_loss(self, tokens_BT: Tensor) -> Tensor:
        """Return the loss of some chunks' tokens given their own latent, and of as many chunks of any tokens whatever.

        Text holds rare tokens too seldom to keep their codes apart from those of frequent ones, which grow away from
        them: of quantised latents 97.1 % of Chinese tokens came back after 120,000 tokens, fewer later; with chunks of
        any tokens 98.6 %. They are drawn by a hash of the text, for a step consumes no randomness.
        """
        chosen_Br = tokens_BT.unflatten(1, (-1, self.chunk_tokens))[:, ::RESTORE_EVERY].flatten(1, 2)
        any_Br = (chosen_Br.cumsum(dim=1) * 7919).remainder(1_000_003).remainder(self.vocab_size)
        tokens_Br = torch.cat((chosen_Br, any_Br))
        latents_Brd = self.latent.quantise(self.encode(self.code(tokens_Br).detach(), tokens_Br))
        return head_loss(self.latent.read_back(latents_Brd), self.latent.table(), tokens_Br)

    def denoise_loss(self, tokens_BT: Tensor, content_BT: Tensor, e_BTD: Tensor, u_BTD: Tensor) -> Tensor:
        """Return the loss of some rows' beginnings given the latents of their content words alone."""
        B, T = tokens_BT.shape
        rows = -(-B // DENOISE_EVERY)
        piece = slice(-rows, None), slice(-(-B * T // (DENOISE_EVERY * rows * self.chunk_tokens)) * self.chunk_tokens)
        u_bdD = torch.where(content_BT[piece][..., None], u_BTD[piece], norm(self.special[GAP]).to(e_BTD.dtype))
        known_bd = tokens_BT[piece].masked_fill(~content_BT[piece], self.vocab_size)
        y_bdD = self.decode(e_BTD[piece], self.wide(self.encode(u_bdD, known_bd)), denoise=True)
        return head_loss(y_bdD, self.embedding, tokens_BT[piece])

    def whole_chunks(self, x_BT: Tensor) -> Tensor:
        """Return `x_BT` padded with zeros to a whole number of chunks."""
        return F.pad(x_BT, (0, -x_BT.size(1) % self.chunk_tokens))

    def hidden(self, tokens_BT: Tensor) -> Tensor:
        padded = self.whole_chunks(tokens_BT)
        y_BTD = self.decode(self.embed(padded), self.predict(self.wide(self.encode(self.code(padded), padded))))
        return y_BTD[:, : tokens_BT.size(1)]

    @torch.no_grad()
    def restore(self, tokens_BT: Tensor) -> Tensor:
        padded = self.whole_chunks(tokens_BT)
        x_BTk = self.latent.read_back(self.encode(self.code(padded), padded))
        codes_Vk = self.latent.table()
        rows = [F.linear(x_Tk, codes_Vk).argmax(dim=-1) for x_Tk in x_BTk[:, : tokens_BT.size(1)]]
        return torch.stack(rows)

    def advance(
        self, state: State, first_BD: Tensor | None = None, decoder: Stack | None = None, between: Between | None = None
    ) -> Tensor:
        """Read the tokens that both levels have not read yet; return the states (B, D) that score those after them.

        Place p of the decoder reads token p - 1, so n tokens make n + 1 places; place i of the backbone reads
        chunk i - 1. Place 0 of either reads a learned vector, the decoder's `first_BD` where it is given. Another
        decoder of the same shape may take the place of the model's own; `between` is `Stack.forward`'s.
        """
        K, n, read = self.chunk_tokens, state.tokens_BT.size(1), state.read
        known, wanted = state.conditions_BTD.size(1) // K, n // K + 1
        if known < wanted:
            fresh_BT = state.tokens_BT[:, max(known - 1, 0) * K : (wanted - 1) * K]
            z_BnD = self.wide(self.encode(self.code(fresh_BT), fresh_BT))
            z_BnD = z_BnD if known else self.begin(Z0, z_BnD)
            c_BnD = self.backbone(z_BnD, state.backbone, start=known)
            fresh_BTD = self.unpack(c_BnD).view(len(c_BnD), -1, self.sizes.width)
            state.conditions_BTD = torch.cat((state.conditions_BTD, fresh_BTD), dim=1)
        e_BTD = self.embed(state.tokens_BT[:, max(read - 1, 0) :])
        if not read:
            e_BTD = self.begin(FIRST, e_BTD) if first_BD is None else torch.cat((first_BD[:, None], e_BTD), dim=1)
        x_BTD = e_BTD + state.conditions_BTD[:, read : n + 1]
        y_BTD: Tensor = (decoder or self.decoder)(norm(x_BTD), state.decoder, start=read, between=between)
        state.read = n + 1
        return y_BTD[:, -1]

    def describe(self) -> dict[str, Any]:
        numbers, levels = self.sizes.latent_width, self.sizes.latent_levels
        # Unquantised numbers are kept as bfloat16.
        size = numbers * math.log2(levels) / 8 if levels else 2 * numbers
        return super().describe() | {
            "latent": {"tokens": self.chunk_tokens, "numbers": numbers, "levels": levels, "bytes": size}
        }
