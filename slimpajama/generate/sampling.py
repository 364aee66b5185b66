"""From logits to tokens to text: temperature, top-k, top-p. No files, no globals."""

# V = vocabulary

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from slimpajama.config import GenerateConfig
from slimpajama.model import LanguageModel

__all__ = ["generate_tokens", "sample"]


def sample(logits_V: Tensor, cfg: GenerateConfig, generator: torch.Generator) -> int:
    """Draw one token.

    Top-k is applied before top-p, and both after the temperature. Equal logits are ranked by token id,
    so the answer does not depend on the device's sort.

    Args:
        logits_V: Unnormalised log-probabilities.
        cfg: Temperature (0 takes the likeliest), `top_k` (0 for all), `top_p`.
        generator: CPU generator; moves on by one draw unless the temperature is 0.
    """
    logits_V = logits_V.detach().float().cpu()
    if cfg.temperature == 0:
        return int(logits_V.argmax())
    ranked, order = torch.sort(logits_V / cfg.temperature, descending=True, stable=True)
    if cfg.top_k:
        ranked, order = ranked[: cfg.top_k], order[: cfg.top_k]
    p = ranked.double().softmax(dim=0)
    p[p.cumsum(dim=0) - p >= cfg.top_p] = 0.0  # the token that crosses top_p stays
    p[0] = max(float(p[0]), 1e-300)  # top_p = 0 means the likeliest
    return int(order[torch.multinomial(p, 1, generator=generator)])


def generate_tokens(
    model: LanguageModel[Any],
    prompt_tokens: Sequence[int],
    cfg: GenerateConfig,
    stop_token: int | None,
    first_V: Tensor | None = None,
) -> Iterator[int]:
    """Yield up to `cfg.max_tokens` tokens after the prompt; ends before `stop_token`, which is not yielded.

    `first_V` (bool) says which tokens may be the first one; None for all.
    """
    generator = torch.Generator().manual_seed(cfg.seed)
    state, logits_1V = model.start(torch.tensor([list(prompt_tokens)], dtype=torch.long))
    if first_V is not None:
        logits_1V = logits_1V.masked_fill(~first_V.to(logits_1V.device), -torch.inf)
    for i in range(cfg.max_tokens):
        token = sample(logits_1V[0], cfg, generator)
        if token == stop_token:
            return
        yield token
        if i + 1 < cfg.max_tokens:
            logits_1V = model.step(state, torch.tensor([token]))
