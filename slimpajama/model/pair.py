"""A champion that was taught pairs: a source becomes latents, and a target is written while looking at them.

The chunk autoencoder stays as it is, and keeps its own objectives. What is added reads and writes:

- memory: the source's latents go through the backbone, and are unpacked to a state a token, which joins the token's
  embedding and a learned vector of its window (sources longer than a row are read in windows);
- cross-attention after each block of the decoder, over the memory;
- a pointer: attention of one head whose keys also know the token before, so that what was written last finds its
  continuation in the source. A gate mixes its distribution over the source's tokens with the head's over the
  vocabulary: names and numbers are copied that the vocabulary would have to guess piece by piece.

Source of the mixture: See et al. 2017, "Get to the point: summarization with pointer-generator networks".
"""

# B = pairs, S = tokens of a source, T = tokens of a target, W = windows of a source, n = chunks, K = tokens a chunk
# D = channels, H = heads, V = vocabulary, M = kinds of tasks, L = windows at most

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from slimpajama.model.base import OBJECTIVES
from slimpajama.model.chunk import FIRST, Z0, ChunkModel, ChunkState
from slimpajama.model.layers import Linear, cross_entropy, norm

__all__ = ["Memory", "PairModel", "PairState"]

MOST_WINDOWS = 16
LEAST = 1e-20  # a probability that underflows counts as this one


@dataclass(slots=True)
class Memory:
    """What is kept of the sources while targets are written."""

    tokens_BS: Tensor
    """Ids; V where there is none."""
    keys: list[tuple[Tensor, Tensor]]
    """Keys and values (B, H, S, D / H) of each cross-attention."""
    pointer_BSD: Tensor
    """Keys of the pointer."""

    def take(self, rows: Tensor) -> Memory:
        """Return the memory of some rows, in their order."""
        return Memory(self.tokens_BS[rows], [(k[rows], v[rows]) for k, v in self.keys], self.pointer_BSD[rows])


@dataclass(slots=True)
class PairState:
    """A target under way: the language model's state, and its memory."""

    text: ChunkState
    memory: Memory
    kind_B: Tensor

    def take(self, rows: Tensor) -> PairState:
        """Return the state of some targets, in their order."""
        return PairState(self.text.take(rows), self.memory.take(rows), self.kind_B[rows])


class Cross(nn.Module):
    """Attention of target states over the memory; its output starts at zero."""

    def __init__(self, width: int, heads: int, generator: torch.Generator) -> None:
        super().__init__()
        self.heads = heads
        self.query = Linear(width, width, generator)
        self.key_value = Linear(width, width, generator, stack=2)
        self.out = Linear(width, width, generator, zero=True)

    def remember(self, memory_BSD: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and values (B, H, S, D / H)."""
        B, S, D = memory_BSD.shape
        k, v = self.key_value(memory_BSD).view(B, S, 2, self.heads, D // self.heads).permute(2, 0, 3, 1, 4)
        return norm(k), v

    def look(self, x_BTD: Tensor, key_value: tuple[Tensor, Tensor], there_BS: Tensor) -> Tensor:
        """Return what the states take from the memory."""
        B, T, D = x_BTD.shape
        q = norm(self.query(norm(x_BTD)).view(B, T, self.heads, D // self.heads).transpose(1, 2))
        k, v = key_value
        y_BHTD = F.scaled_dot_product_attention(q, k, v, attn_mask=there_BS[:, None, None])
        out_BTD: Tensor = self.out(y_BHTD.transpose(1, 2).reshape(B, T, D))
        return out_BTD


class PairModel(nn.Module):
    """See the module's header.

    Args:
        base: The champion; its weights are used and trained further.
        kinds: Names of the tasks with their target's language, in the order of their vectors.
        generator: Draws the weights of what is added.
    """

    def __init__(self, base: ChunkModel, kinds: tuple[str, ...], generator: torch.Generator) -> None:
        super().__init__()
        self.base, self.kinds = base, kinds
        self.row_tokens, self.chunk_tokens, self.vocab_size = base.row_tokens, base.chunk_tokens, base.vocab_size
        D, K = base.sizes.width, base.chunk_tokens
        self.kind = nn.Parameter(torch.empty(len(kinds), D))
        self.window = nn.Parameter(torch.empty(MOST_WINDOWS, D))
        for table in (self.kind, self.window):
            nn.init.normal_(table, std=0.02, generator=generator)
        self.spread = Linear(D, D, generator, stack=K)
        self.crosses = nn.ModuleList(Cross(D, base.sizes.heads, generator) for _ in base.decoder.blocks)
        self.pointer_query = Linear(D, D, generator)
        self.pointer_key = Linear(D, D, generator)
        self.pointer_before = Linear(D, D, generator)
        self.sharpness = nn.Parameter(torch.tensor(8.0))
        self.gate = nn.Parameter(torch.zeros(1, D))
        self.gate_bias = nn.Parameter(torch.tensor(-2.0))

    def remember(self, source_BS: Tensor) -> Memory:
        """Return the memory of sources padded with V at their ends; S is a whole number of rows or less than one."""
        base, (B, S) = self.base, source_BS.shape
        row = min(S, base.row_tokens)
        tokens_wT = source_BS.view(-1, row)
        there_wT = tokens_wT < base.vocab_size
        ids_wT = tokens_wT.masked_fill(~there_wT, 0)
        z_wnD = base.wide(base.encode(base.code(ids_wT), tokens_wT))
        h_wnD = base.backbone(base.begin(Z0, z_wnD))[:, 1:]
        e_BSD = base.embed(ids_wT).view(B, S, -1)
        window_SD = self.window[torch.arange(S, device=source_BS.device) // row].to(e_BSD.dtype)
        m_BSD = norm(self.spread(h_wnD + z_wnD).view(B, S, -1) + e_BSD + norm(window_SD))
        before_BSD = F.pad(e_BSD[:, :-1], (0, 0, 1, 0))
        pointer_BSD = norm(self.pointer_key(m_BSD) + self.pointer_before(before_BSD))
        return Memory(source_BS, [cross.remember(m_BSD) for cross in self.looks()], pointer_BSD)

    def looks(self) -> list[Cross]:
        """Return the cross-attention of each block of the decoder."""
        return [cross for cross in self.crosses if isinstance(cross, Cross)]

    def attend(self, memory: Memory) -> Any:
        """Return what the decoder does after each of its blocks."""
        looks, there_BS = self.looks(), memory.tokens_BS < self.vocab_size

        def between(block: int, x_BTD: Tensor) -> Tensor:
            return x_BTD + looks[block].look(x_BTD, memory.keys[block], there_BS)

        return between

    def begin(self, x_BTD: Tensor, kind_B: Tensor) -> Tensor:
        """Return the decoder's input with the task's vector in the place before the first token."""
        first = norm(self.base.special[FIRST]) + norm(self.kind[kind_B])
        return torch.cat((norm(first)[:, None].to(x_BTD.dtype), x_BTD), dim=1)

    def states(self, memory: Memory, target_BT: Tensor, kind_B: Tensor) -> Tensor:
        """Return the states (B, T, D) that score each token of the targets."""
        base, (B, T) = self.base, target_BT.shape
        e_BTD = base.embed(target_BT)
        condition_BnD = base.predict(base.wide(base.encode(base.code(target_BT), target_BT)))
        x_BTD = self.begin(e_BTD[:, :-1], kind_B) + base.unpack(condition_BnD).view(B, T, -1)
        y_BTD: Tensor = base.decoder(norm(x_BTD), between=self.attend(memory))
        return y_BTD

    def point(self, y_BTD: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """Return the pointer's distribution (B, T, S) over the source's places, and the gate (B, T), in float32."""
        query_BTD = norm(self.pointer_query(y_BTD))
        scores_BTS = (
            (query_BTD @ memory.pointer_BSD.transpose(1, 2)).float() * self.sharpness * query_BTD.size(-1) ** -0.5
        )
        scores_BTS = scores_BTS.masked_fill(memory.tokens_BS[:, None] >= self.vocab_size, -torch.inf)
        gate_BT = torch.sigmoid(F.linear(y_BTD, self.gate)[..., 0].float() + self.gate_bias)
        return scores_BTS.softmax(dim=-1), gate_BT

    def nll(self, memory: Memory, target_BT: Tensor, kind_B: Tensor) -> Tensor:
        """Return the negative log-likelihood of each token of the targets in nats, float32 (B, T)."""
        y_BTD = self.states(memory, target_BT, kind_B)
        own_BT = torch.exp(-cross_entropy(y_BTD, self.base.embedding, target_BT))
        places_BTS, gate_BT = self.point(y_BTD, memory)
        copied_BT = (places_BTS * (memory.tokens_BS[:, None] == target_BT[..., None])).sum(dim=-1)
        return -torch.log(((1 - gate_BT) * own_BT + gate_BT * copied_BT).clamp_min(LEAST))

    def forward(self, *batch: Tensor, weights: Mapping[str, float] = OBJECTIVES) -> dict[str, Tensor]:
        """Return scalar losses in nats a token, `total` and those it is made of.

        Args:
            batch: Either pairs (source_BS, target_BT, kind_B): ids with V behind their ends, T a whole number of
                chunks; or rows of text (tokens_BT, content_BT) for the language model's objectives.
            weights: Of the language model's losses.
        """
        if len(batch) == 2:
            losses: dict[str, Tensor] = self.base(*batch, weights)
            return losses
        source_BS, target_BT, kind_B = batch
        there_BT = target_BT < self.vocab_size
        nll_BT = self.nll(self.remember(source_BS), target_BT.masked_fill(~there_BT, 0), kind_B)
        loss = (nll_BT * there_BT).sum() / there_BT.sum().clamp_min(1)
        return {"total": loss, "pairs": loss.detach()}

    def start(self, memory: Memory, kind_B: Tensor) -> tuple[PairState, Tensor]:
        """Return a state for `step` and the log-probabilities (B, V) of the first token of each target."""
        empty_B0 = kind_B.new_empty(len(kind_B), 0)
        state = PairState(self.base.unread(empty_B0), memory, kind_B)
        return state, self.advance(state)

    def step(self, state: PairState, tokens_B: Tensor) -> Tensor:
        """Append one token to each target; return the log-probabilities (B, V) of the tokens after."""
        state.text.tokens_BT = torch.cat((state.text.tokens_BT, tokens_B[:, None]), dim=1)
        return self.advance(state)

    def advance(self, state: PairState) -> Tensor:
        """Read what is new of the targets; return the log-probabilities (B, V) of the tokens after."""
        base, memory = self.base, state.memory
        first_BD = self.begin(base.embedding.new_empty(len(state.kind_B), 0, base.sizes.width), state.kind_B)[:, 0]
        y_BD = base.advance(state.text, first_BD, self.attend(memory))
        places_BTS, gate_BT = self.point(y_BD[:, None], memory)
        p_BV = (1 - gate_BT) * F.linear(y_BD, base.embedding).float().softmax(dim=1)
        p_BV = F.pad(p_BV, (0, 1)).scatter_add_(1, memory.tokens_BS, gate_BT * places_BTS[:, 0])
        return p_BV[:, :-1].clamp_min(LEAST).log()
