"""The chunk autoencoder: K tokens become one latent, and text is restored from latents and continued over them.

- encoder: K token embeddings -> packed linear -> squared-ReLU MLP -> linear -> RMS norm = z, the bottleneck;
- backbone: causal blocks over z_1..z_n predict the next chunk's condition (of a learned z_0 for the first);
- decoder: causal blocks over the previous token plus the condition, unpacked for its place in the chunk.

Objectives: *continue* scores each token from the predicted condition and the tokens before it; *restore*
reads a chunk back from its own z in one small step; *denoise* gives the decoder the z of the content words
only (all else is one learned gap embedding) and wants the full text.
"""

# B = batch, T = tokens per row, n = chunks per row, K = tokens a chunk, D = channels, V = vocabulary

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from slimpajama.model.base import LanguageModel, window
from slimpajama.model.layers import Cache, Linear, Stack, cross_entropy, head_loss, norm, working
from slimpajama.model.presets import Sizes

__all__ = ["ChunkModel"]

RESTORE_EVERY, RESTORE_WEIGHT = 8, 0.5  # of the chunks; a weight of 2 restored no more
SHARPNESS = 32.0  # cosine to logit: neighbours of a random code then differ by about ten nats
FIRST, Z0, GAP, FLAG = range(4)  # learned vectors: before the first token, first latent, left-out token, denoise
DENOISE_EVERY, DENOISE_WEIGHT = 16, 0.1  # of the tokens; an eighth at 0.125 cost `continue` 0.01 bits per byte


@dataclass(slots=True)
class ChunkState:
    """Tokens of the window, conditions of its chunks, and both levels' keys and values."""

    tokens_BT: Tensor
    conditions_BnD: Tensor
    backbone: Cache
    decoder: Cache
    read: int = 0
    """Places of the decoder that its cache holds."""


class ChunkModel(LanguageModel[ChunkState]):
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
        self.reader = Linear(D, D, generator, stack=K, zero=True)
        self.reader_up = Linear(D, 2 * D, generator)
        self.reader_down = Linear(2 * D, D, generator, zero=True)
        self.sharpness = nn.Parameter(torch.tensor(SHARPNESS / D))
        self.start_as_projection(generator)

    @torch.no_grad()
    def start_as_projection(self, generator: torch.Generator) -> None:
        """Let each token begin with channels of its own in z, an orthonormal projection that the reader undoes.

        Any embedding survives it by nearest neighbour, seen or not, so that `restore` need not be learnt from
        nothing and hardly pulls at the rest: rare tokens are what it otherwise gets wrong.
        """
        size, K = self.sizes.width // self.chunk_tokens, self.chunk_tokens
        self.pack.weight.zero_()
        for k in range(K):
            rows = torch.empty(size, self.sizes.width)
            nn.init.orthogonal_(rows, generator=generator)
            self.pack.weight[k, k * size : (k + 1) * size] = rows
        self.reader.weight.copy_(self.pack.weight.transpose(1, 2))

    def embed(self, tokens_BT: Tensor) -> Tensor:
        """Return normed token embeddings (B, T, D)."""
        return norm(working(F.embedding(tokens_BT, self.embedding)))

    def code(self, tokens_BT: Tensor) -> Tensor:
        """Return what the encoder reads (B, T, D): embeddings without what all share, which tells none apart."""
        return norm(working(F.embedding(tokens_BT, self.embedding) - self.embedding.detach().mean(dim=0)))

    def codes(self) -> Tensor:
        """Return the code of every token (V, D); no gradient, so restoring does not move the embeddings."""
        table = self.embedding.detach()
        return norm(table - table.mean(dim=0))

    def encode(self, e_BTD: Tensor) -> Tensor:
        """Return one latent z (B, n, D) of each K token embeddings."""
        B, T, D = e_BTD.shape
        x = F.linear(
            e_BTD.reshape(B, T // self.chunk_tokens, self.chunk_tokens * D), self.pack.weight.transpose(0, 1).flatten(1)
        )
        return norm(x + self.pack_down(F.relu(self.pack_up(norm(x))).square()))

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

    def read_back(self, z_BnD: Tensor) -> Tensor:
        """Return states (B, T, D) that restore each chunk's tokens from its latent alone."""
        x: Tensor = self.reader(z_BnD).view(z_BnD.size(0), -1, z_BnD.size(-1))
        x = norm(x + self.reader_down(F.relu(self.reader_up(norm(x))).square()))
        return x * self.sharpness.to(x.dtype)

    def forward(self, tokens_BT: Tensor, content_BT: Tensor) -> dict[str, Tensor]:
        tokens_BT, content_BT = self.whole_chunks(tokens_BT), self.whole_chunks(content_BT)
        e_BTD = self.embed(tokens_BT)
        u_BTD = self.code(tokens_BT)
        z_BnD = self.encode(u_BTD)
        y_BTD = self.decode(e_BTD, self.predict(z_BnD))
        losses = {"continue": head_loss(y_BTD, self.embedding, tokens_BT)}

        B, T = tokens_BT.shape
        K = self.chunk_tokens
        u_BrD, tokens_Br = (
            x.unflatten(1, (T // K, K))[:, ::RESTORE_EVERY].flatten(1, 2) for x in (u_BTD.detach(), tokens_BT)
        )
        losses["restore"] = head_loss(self.read_back(self.encode(u_BrD)), self.codes(), tokens_Br)

        rows = -(-B // DENOISE_EVERY)
        piece = slice(-rows, None), slice(-(-B * T // (DENOISE_EVERY * rows * K)) * K)
        u_bdD = torch.where(content_BT[piece][..., None], u_BTD[piece], norm(self.special[GAP]).to(e_BTD.dtype))
        y_bdD = self.decode(e_BTD[piece], self.encode(u_bdD), denoise=True)
        losses["denoise"] = head_loss(y_bdD, self.embedding, tokens_BT[piece])

        total = losses["continue"] + RESTORE_WEIGHT * losses["restore"] + DENOISE_WEIGHT * losses["denoise"]
        return {"total": total} | {name: loss.detach() for name, loss in losses.items()}

    def whole_chunks(self, x_BT: Tensor) -> Tensor:
        """Return `x_BT` padded with zeros to a whole number of chunks."""
        return F.pad(x_BT, (0, -x_BT.size(1) % self.chunk_tokens))

    @torch.no_grad()
    def nll(self, tokens_BT: Tensor) -> Tensor:
        padded = self.whole_chunks(tokens_BT)
        e_BTD = self.embed(padded)
        y_BTD = self.decode(e_BTD, self.predict(self.encode(self.code(padded))))
        T = tokens_BT.size(1)
        return cross_entropy(y_BTD[:, :T], self.embedding, tokens_BT)

    @torch.no_grad()
    def restore(self, tokens_BT: Tensor) -> Tensor:
        x_BTD = self.read_back(self.encode(self.code(self.whole_chunks(tokens_BT))))
        e_VD = self.codes()
        rows = [F.linear(x_TD, e_VD).argmax(dim=-1) for x_TD in x_BTD[:, : tokens_BT.size(1)]]
        return torch.stack(rows)

    @torch.no_grad()
    def start(self, tokens_BT: Tensor) -> tuple[ChunkState, Tensor]:
        tokens_BT = window(tokens_BT.to(self.embedding.device), self.row_tokens, self.chunk_tokens)
        state = ChunkState(
            tokens_BT=tokens_BT,
            conditions_BnD=self.embedding.new_empty(tokens_BT.size(0), 0, self.sizes.width),
            backbone=[None] * len(self.backbone.blocks),
            decoder=[None] * len(self.decoder.blocks),
        )
        return state, self.advance(state)

    @torch.no_grad()
    def step(self, state: ChunkState, tokens_B: Tensor) -> Tensor:
        state.tokens_BT = torch.cat((state.tokens_BT, tokens_B[:, None].to(state.tokens_BT.device)), dim=1)
        if state.tokens_BT.size(1) < self.row_tokens:
            return self.advance(state)
        fresh, logits_BV = self.start(state.tokens_BT)
        for name in ChunkState.__slots__:
            setattr(state, name, getattr(fresh, name))
        return logits_BV

    def advance(self, state: ChunkState) -> Tensor:
        """Read the tokens that both levels have not read yet; return the logits (B, V) of the tokens after them.

        Place p of the decoder reads token p - 1, so n tokens make n + 1 places; place i of the backbone reads
        chunk i - 1. Place 0 of either reads a learned vector.
        """
        K, n, read = self.chunk_tokens, state.tokens_BT.size(1), state.read
        known, wanted = state.conditions_BnD.size(1), n // K + 1
        if known < wanted:
            z_BnD = self.encode(self.code(state.tokens_BT[:, max(known - 1, 0) * K : (wanted - 1) * K]))
            z_BnD = z_BnD if known else self.begin(Z0, z_BnD)
            c_BnD = self.backbone(z_BnD, state.backbone, start=known)
            state.conditions_BnD = torch.cat((state.conditions_BnD, c_BnD), dim=1)
        e_BTD = self.embed(state.tokens_BT[:, max(read - 1, 0) :])
        e_BTD = e_BTD if read else self.begin(FIRST, e_BTD)
        unpacked_BTD = self.unpack(state.conditions_BnD[:, read // K :]).view(len(e_BTD), -1, self.sizes.width)
        x_BTD = e_BTD + unpacked_BTD[:, read % K :][:, : n + 1 - read]
        y_BTD = self.decoder(norm(x_BTD), state.decoder, start=read)
        state.read = n + 1
        return F.linear(y_BTD[:, -1], self.embedding).float()

    def describe(self) -> dict[str, Any]:
        return super().describe() | {
            "latent": {"tokens": self.chunk_tokens, "numbers": self.sizes.width, "bytes_bf16": 2 * self.sizes.width}
        }
