"""Beam search: the likeliest targets of a source, several at once, with the length under control."""

# B = beams, V = vocabulary, T = tokens so far

from dataclasses import dataclass

import torch

from slimpajama.core.config import ApplyConfig
from slimpajama.model.architectures.seq2seq import Memory, PairModel
from slimpajama.model.generate.sampling import Spend, without_bound


@dataclass(frozen=True, slots=True)
class Found:
    """A finished target."""

    tokens: list[int]
    """Without its end."""
    score: float
    """Log-likelihood divided by the length to the power of `length_penalty`."""


@torch.inference_mode()
def beam_search(
    model: PairModel,
    memory: Memory,
    kind: int,
    cfg: ApplyConfig,
    *,
    least: int,
    most: int,
    spend: Spend = without_bound,
) -> list[Found]:
    """Return finished targets, the best first; at least one.

    Args:
        memory: Of one source, B = 1.
        cfg: Beams, length penalty and repetition.
        least: Tokens before which no target ends.
        most: Tokens after which one ends anyway.

    Source: the score by length is that of Wu et al. 2016, "Google's neural machine translation system", without its
    constant; no repeated trigrams as in Paulus et al. 2017, "A deep reinforced model for abstractive summarization".
    """
    beams, length_penalty = cfg.beams, cfg.length_penalty
    device, end = memory.tokens_BS.device, model.end
    kind_B = torch.full((1,), kind, dtype=torch.long, device=device)
    state, scores_BV = model.start(memory, kind_B)
    total_B = torch.zeros(1, device=device)
    finished: list[Found] = []
    for length in range(most + 1):
        spend(1)
        written = state.text.tokens_BT.tolist()
        if length >= min(least, most):
            ends = (total_B + scores_BV[:, end]).tolist()
            finished += [
                Found(tokens, e / (length + 1) ** length_penalty) for tokens, e in zip(written, ends, strict=True)
            ]
            finished = sorted(finished, key=lambda found: -found.score)[:beams]
        # A longer one can only lose likelihood.
        reachable = float(total_B.max()) / (most + 1) ** length_penalty
        if length == most or (len(finished) == beams and finished[-1].score >= reachable):
            break
        scores_BV[:, end] = -torch.inf
        for row, tokens in enumerate(written):
            scores_BV[row, _repeats(tokens, cfg.no_repeat)] = -torch.inf
        total_B, places = (total_B[:, None] + scores_BV).flatten().topk(min(beams, scores_BV.numel() - len(written)))
        state = state.take(places // scores_BV.size(1))
        scores_BV = model.step(state, places % scores_BV.size(1))
    return finished


def _repeats(tokens: list[int], size: int) -> list[int]:
    """Return the tokens that would repeat the last `size - 1` and what once followed them."""
    if not size or len(tokens) < size:
        return []
    stem = tokens[len(tokens) - size + 1 :]
    starts = range(len(tokens) - size + 1)
    return [tokens[i + size - 1] for i in starts if tokens[i : i + size - 1] == stem]
