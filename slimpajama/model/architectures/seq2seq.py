"""A champion that was taught pairs: a source becomes latents, and a target is written while looking at them.

The champion's own weights stay as they are, bit for bit: it forgets nothing, and one tuning cannot spoil another.
Training them on, slowly and with text between the pairs, was no better after equal time (3.50 against 3.47 nats a token
after four minutes) and cost 4 % in bits per byte. What is added reads, writes and quotes:

- memory: the source's latents go through the backbone, and are unpacked to a state a token. The token's embedding
  joins it, vectors of the task and of its window (sources longer than a row are read in windows), and features that
  say what matters: in a passage with a question before it what stands near the question's words, else near the words
  that the source comes back to. Blocks without a causal mask read all of a window;
- a decoder that begins as a copy of the champion's, with cross-attention over the memory after each of its blocks;
- a pointer: attention of one head whose keys also know the token before, so that what was written last finds its
  continuation in the source. A gate mixes its distribution over the source's tokens with the head's over the
  vocabulary: names and numbers are copied that the vocabulary would have to guess piece by piece;
- quotes: a score of each place of the source as the first and as the last of a span that is the target.

Sources: See et al. 2017, "Get to the point: summarization with pointer-generator networks"; Chen et al. 2017,
"Reading Wikipedia to answer open-domain questions" (spans, and which words the question has).
"""

# B = pairs, S = tokens of a source, T = tokens of a target or a window, W = windows of all sources, n = chunks,
# K = tokens a chunk, D = channels, H = heads, V = vocabulary, Q = features of a question

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from slimpajama.model.architectures.base import State
from slimpajama.model.architectures.chunk import FIRST, Z0, Between, ChunkModel
from slimpajama.model.architectures.layers import Linear, Stack, attention, cross_entropy, norm, working

MOST_WINDOWS = 16
READER_BLOCKS = 2
# Tokens in a row that a question and its passage share: a rare ideograph is three tokens.
GRAMS = 1, 2, 3
# Tokens around a place in which they count.
NEAR = 9, 33
# With a question, and without.
FEATURES = 2 * len(GRAMS) * (3 + len(NEAR))
# Steps of the logarithm of a place, two for each doubling.
PLACES = 24
NO_QUOTE = -1
# A probability that underflows counts as this one.
LEAST = 1e-20


@dataclass(slots=True)
class Memory:
    """What is kept of the sources while targets are written; a single source may serve several targets."""

    tokens_BS: Tensor
    """Ids; V where there is none."""
    keys: list[tuple[Tensor, Tensor]]
    """Keys and values (B, H, S, D / H) of each cross-attention."""
    pointer_BSD: Tensor
    """Keys of the pointer."""
    quote_B2S: Tensor
    """Logits of each place as the first and as the last of a quote, in float32; -inf where none can be."""

    def take(self, rows: Tensor) -> "Memory":
        """Return the memory of some rows, in their order."""
        if len(self.tokens_BS) == 1:
            return self
        keys = [(k[rows], v[rows]) for k, v in self.keys]
        return Memory(self.tokens_BS[rows], keys, self.pointer_BSD[rows], self.quote_B2S[rows])


@dataclass(slots=True)
class PairState:
    """A target under way: the language model's state, and its memory."""

    text: State
    memory: Memory
    kind_B: Tensor

    def take(self, rows: Tensor) -> "PairState":
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

    def attend(self, x_BTD: Tensor, key_value: tuple[Tensor, Tensor], there_BS: Tensor) -> Tensor:
        """Return what the states take from the memory."""
        B, T, D = x_BTD.shape
        q = norm(self.query(norm(x_BTD)).view(B, T, self.heads, D // self.heads).transpose(1, 2))
        k, v = (tensor.expand(B, -1, -1, -1) for tensor in key_value)
        y_BHTD = attention(q, k.to(q.dtype), v.to(q.dtype), there_BS)
        out_BTD: Tensor = self.out(y_BHTD.transpose(1, 2).reshape(B, T, D))
        return out_BTD


class PairModel(nn.Module):
    """See the module's header.

    Args:
        base: The champion; its weights are read and not trained.
        kinds: Names of the tasks with their target's language, in the order of their vectors.
        end: Token behind a question, and behind a target.
    """

    def __init__(self, base: ChunkModel, kinds: tuple[str, ...], end: int, generator: torch.Generator) -> None:
        super().__init__()
        self.base, self.kinds, self.end = base.requires_grad_(False), kinds, end
        self.row_tokens, self.chunk_tokens, self.vocab_size = base.row_tokens, base.chunk_tokens, base.vocab_size
        D, K, V = base.sizes.width, base.chunk_tokens, base.vocab_size
        self.kind = nn.Parameter(torch.empty(len(kinds), D))
        self.window = nn.Parameter(torch.empty(MOST_WINDOWS, D))
        self.asked = nn.Parameter(torch.empty(FEATURES, D))
        for table in (self.kind, self.window, self.asked):
            nn.init.normal_(table, std=0.02, generator=generator)
        self.spread = Linear(D, D, generator, stack=K)
        self.reader = Stack(READER_BLOCKS, D, base.sizes.heads, base.row_tokens, generator)
        self.decoder = Stack(base.sizes.token_blocks, D, base.sizes.heads, base.row_tokens, generator)
        self.crosses: Any = nn.ModuleList(Cross(D, base.sizes.heads, generator) for _ in self.decoder.blocks)
        self.pointer_query = Linear(D, D, generator)
        self.pointer_key = Linear(D, D, generator)
        self.pointer_before = Linear(D, D, generator)
        self.sharpness = nn.Parameter(torch.tensor(8.0))
        self.gate = nn.Parameter(torch.zeros(1, D))
        self.gate_bias = nn.Parameter(torch.tensor(0.0))
        self.quote = nn.Parameter(torch.zeros(2, D))
        self.quote_signs = nn.Parameter(torch.zeros(2, FEATURES))
        self.quote_place = nn.Parameter(torch.zeros(len(kinds), 2 * PLACES))
        self.register_buffer("rarity_V", torch.ones(V + 1))
        self.rarity_V: Tensor
        """Of each token, from 0 for the most frequent to 1; counted, not learnt."""
        self.register_buffer("ends_V", torch.zeros(V + 1, dtype=torch.bool))
        self.ends_V: Tensor
        """Whether a token ends a sentence."""

    def adopt(self, base: ChunkModel) -> None:
        """Take over a champion's weights."""
        self.base.load_state_dict(base.state_dict())
        self.decoder.load_state_dict(base.decoder.state_dict())

    def remember(self, source_BS: Tensor, kind_B: Tensor) -> Memory:
        """Return the memory of sources padded with V at their ends; S is a whole number of rows or less than one."""
        base, (B, S) = self.base, source_BS.shape
        row = min(S, base.row_tokens)
        tokens_WT, kind_W = source_BS.view(-1, row), kind_B.repeat_interleave(S // row)
        there_WT = tokens_WT < base.vocab_size
        ids_WT = tokens_WT.masked_fill(~there_WT, 0)
        z_WnD = base.wide(base.encode(base.code(ids_WT), tokens_WT))
        h_WnD = base.backbone(base.begin(Z0, z_WnD))[:, 1:]
        e_WTD = base.embed(ids_WT)
        features_WTQ, quotable_WT = (x.view(-1, row, *x.shape[2:]) for x in self.features(source_BS))
        window_WD = norm(self.window)[: S // row].repeat(B, 1) + norm(self.kind)[kind_W]
        x_WTD = self.spread(h_WnD + z_WnD).view(e_WTD.shape) + e_WTD + working(features_WTQ @ norm(self.asked))
        # A window of padding has to attend to something.
        read_WT = there_WT | ~there_WT.any(dim=1, keepdim=True)
        m_WTD = self.reader(norm(x_WTD + working(window_WD)[:, None]), there_BT=read_WT)
        quote_WT2 = F.linear(m_WTD, self.quote).float() + F.linear(features_WTQ, self.quote_signs).float()
        place_S = (2 * torch.arange(1, S + 1, device=source_BS.device).log2()).long().clamp_max(PLACES - 1)
        quote_B2S = quote_WT2.masked_fill(~quotable_WT[..., None], -torch.inf).view(B, S, 2).transpose(1, 2)
        quote_B2S = quote_B2S + self.quote_place[kind_B].view(B, 2, PLACES)[:, :, place_S]
        m_BSD = m_WTD.view(B, S, -1)
        before_BSD = F.pad(e_WTD.view(B, S, -1)[:, :-1], (0, 0, 1, 0))
        pointer_BSD = norm(self.pointer_key(m_BSD) + self.pointer_before(before_BSD))
        keys = [cross.remember(m_BSD) for cross in self.crosses]
        return Memory(source_BS, keys, pointer_BSD, quote_B2S)

    def features(self, source_BS: Tensor) -> tuple[Tensor, Tensor]:
        """Return what tells where it matters (B, S, Q), and which places can be quoted (B, S).

        The features, for one to three tokens in a row: how rare those are that the question has, too, at this place,
        summed over NEAR tokens, and over the sentence, there each once; all by the question's whole, and the
        sentence's also by that of the best sentence. Without a question, those that stand in the source more than
        once, by the mean place. The first half is of questions, the second of sources without.
        """
        behind_BS = (source_BS == self.end).cumsum(dim=1)
        row = min(source_BS.size(1), self.row_tokens)
        # Where a question stands, with its end.
        asked = slice(self.row_tokens // 4 + 1)
        windows_WT = source_BS.view(-1, row)
        behind_WT = (windows_WT == self.end).cumsum(dim=1)
        question_BS = ((behind_WT == 0) & (behind_WT[:, -1:] > 0)).view(source_BS.shape)
        # That of the first window; the others repeat it.
        first_BS = question_BS & (behind_BS == 0)
        asked_B1 = behind_BS[:, -1:] > 0
        there_BS = (source_BS < self.vocab_size) & (source_BS != self.end)
        quotable_BS = there_BS & ~question_BS
        match_BSS = (source_BS[:, :, None] == source_BS[:, None]) & there_BS[:, None]
        rarity_BS = gram_BS = self.rarity_V[source_BS]
        whole_BS = torch.where(asked_B1, first_BS, quotable_BS)
        scale_B1 = (rarity_BS * whole_BS).sum(dim=1, keepdim=True).clamp_min(1.0)
        scale_B1 = torch.where(asked_B1, scale_B1, scale_B1 / whole_BS.sum(dim=1, keepdim=True).clamp_min(1) * 8)
        ends_BS = self.ends_V[source_BS] & quotable_BS
        sentence_BS = ends_BS.cumsum(dim=1) - ends_BS.long()
        features = []
        for n in GRAMS:
            # Where n - 1 tokens match, and the one behind them.
            if n > 1:
                match_BSS = match_BSS & F.pad(match_BSS[:, 1:, 1:], (0, 1, 0, 1))
                gram_BS = gram_BS + F.pad(rarity_BS[:, n - 1 :], (0, n - 1))
            asked_BS = (match_BSS & first_BS[:, None]).any(dim=2)
            again_BS = (match_BSS & quotable_BS[:, None]).sum(dim=2) > 1
            weight_BS = gram_BS * (torch.where(asked_B1, asked_BS, again_BS) & quotable_BS)
            near = [F.avg_pool1d(weight_BS[:, None], size, 1, size // 2)[:, 0] * (size / scale_B1) for size in NEAR]
            # A: places of the question.
            repeated_BA = match_BSS[:, asked, asked].tril(-1).any(dim=2)
            shared_BSA = match_BSS[..., asked] & (first_BS[:, asked] & ~repeated_BA)[:, None] & quotable_BS[..., None]
            shared_BS = (_any_of(shared_BSA, sentence_BS) @ gram_BS[:, asked, None])[..., 0]
            comes_back_BS = torch.zeros_like(weight_BS).scatter_add(1, sentence_BS, weight_BS).gather(1, sentence_BS)
            whole_sentence_BS = torch.where(asked_B1, shared_BS, comes_back_BS)
            best_B1 = whole_sentence_BS.amax(dim=1, keepdim=True).clamp_min(LEAST)
            features += [weight_BS, *near, whole_sentence_BS / scale_B1, whole_sentence_BS / best_B1]
        features_BSQ = torch.stack(features, dim=2) * quotable_BS[..., None]
        return torch.cat((features_BSQ * asked_B1[..., None], features_BSQ * ~asked_B1[..., None]), dim=2), quotable_BS

    def attend(self, memory: Memory) -> Between:
        """Return what the decoder does after each of its blocks."""
        there_BS = memory.tokens_BS < self.vocab_size
        return lambda block, x_BTD: x_BTD + self.crosses[block].attend(x_BTD, memory.keys[block], there_BS)

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
        y_BTD: Tensor = self.decoder(norm(x_BTD), between=self.attend(memory))
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

    def forward(
        self,
        source_BS: Tensor,
        target_BT: Tensor,
        kind_B: Tensor,
        quote_B2: Tensor,
        weights: Mapping[str, float] | None = None,
    ) -> dict[str, Tensor]:
        """Return scalar losses in nats, `total` and those it is made of.

        Args:
            source_BS, target_BT: Ids with V behind their ends; T is a whole number of chunks.
            quote_B2: First and last place of a quote in the source, or NO_QUOTE twice.
            weights: Of a language model's losses, as the training loop hands them to any model; none is computed here.
        """
        memory, there_BT = self.remember(source_BS, kind_B), target_BT < self.vocab_size
        nll_BT = self.nll(memory, target_BT.masked_fill(~there_BT, 0), kind_B)
        pairs = (nll_BT * there_BT).sum() / there_BT.sum().clamp_min(1)
        quoted = quote_B2[:, 0] != NO_QUOTE
        if not quoted.any():
            return {"total": pairs, "pairs": pairs.detach()}
        quotes = F.cross_entropy(memory.quote_B2S[quoted].flatten(0, 1), quote_B2[quoted].flatten())
        return {"total": pairs + quotes * quoted.float().mean(), "pairs": pairs.detach(), "quotes": quotes.detach()}

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
        y_BD = base.advance(state.text, first_BD, self.decoder, self.attend(memory))
        places_BTS, gate_BT = self.point(y_BD[:, None], memory)
        p_BV = (1 - gate_BT) * F.linear(y_BD, base.embedding).float().softmax(dim=1)
        tokens_BS = memory.tokens_BS.expand(len(p_BV), -1)
        p_BV = F.pad(p_BV, (0, 1)).scatter_add_(1, tokens_BS, gate_BT * places_BTS[:, 0])
        return p_BV[:, :-1].clamp_min(LEAST).log()


def _any_of(is_BSA: Tensor, group_BS: Tensor) -> Tensor:
    """Return 1 at each place (B, S, A) in whose group any place is, else 0."""
    places_BSA = group_BS[..., None].expand_as(is_BSA)
    counts_BSA = torch.zeros_like(is_BSA, dtype=torch.float32).scatter_add(1, places_BSA, is_BSA.float())
    return counts_BSA.clamp_max(1.0).gather(1, places_BSA)
