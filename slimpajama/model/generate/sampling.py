"""From logits to tokens: repetition penalty, temperature, top-k, top-p, min-p. No files, no globals."""

# V = vocabulary

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from slimpajama.core.config import GenerateConfig
from slimpajama.model.architectures import LanguageModel

Spend = Callable[[int], object]
"""Told of tokens before they are read or written; raises where no more may be, and so ends the work."""


Allows = Callable[[Sequence[int]], bool]
"""Told of the tokens after a prompt; says whether they may end so."""


def without_bound(tokens: int) -> None:
    """Let any number of tokens be read and written."""


def penalise(logits_V: Tensor, seen: Sequence[int], penalty: float) -> Tensor:
    """Return logits in which each token of `seen` is less likely, however often it was seen.

    A positive logit is divided by `penalty`, a negative one multiplied.

    Source: Keskar et al. 2019, "CTRL: a conditional transformer language model for controllable generation",
    section 4.1, which divides every logit; for negative ones, which that would favour, as in Hugging Face's
    `RepetitionPenaltyLogitsProcessor`.
    """
    index = torch.tensor(seen, dtype=torch.long, device=logits_V.device)
    found = logits_V[index]
    return logits_V.index_copy(0, index, torch.where(found > 0, found / penalty, found * penalty))


def sample(logits_V: Tensor, cfg: GenerateConfig, generator: torch.Generator) -> int:
    """Draw one token.

    The temperature comes first, then top-k, top-p and min-p. Equal logits are ranked by token id, so the answer
    does not depend on the device's sort.

    Args:
        logits_V: Unnormalised log-probabilities.
        cfg: Temperature (0 takes the likeliest), `top_k` (0 for all), `top_p`, `min_p`.
        generator: CPU generator; moves on by one draw unless the temperature is 0.

    Source: top-p, Holtzman et al. 2019, "The curious case of neural text degeneration"; min-p, Nguyen et al. 2024,
    "Turning up the heat: min-p sampling for creative and coherent LLM outputs".
    """
    logits_V = logits_V.detach().float().cpu()
    if cfg.temperature == 0:
        return int(logits_V.argmax())
    ranked, order = torch.sort(logits_V, descending=True, stable=True)
    if cfg.top_k:
        ranked, order = ranked[: cfg.top_k], order[: cfg.top_k]
    # From 0 down: no temperature is too low.
    p = ((ranked - ranked[0]).double() / cfg.temperature).softmax(dim=0)
    # The token that crosses top_p stays.
    p[p.cumsum(dim=0) - p >= cfg.top_p] = 0.0
    p[p < cfg.min_p * p[0]] = 0.0
    # top_p = 0 means the likeliest.
    p[0] = max(float(p[0]), 1e-300)
    return int(order[torch.multinomial(p, 1, generator=generator)])


def generate_tokens(
    model: LanguageModel,
    prompt_tokens: Sequence[int],
    cfg: GenerateConfig,
    stop_token: int | None,
    first_V: Tensor | None = None,
    spend: Spend = without_bound,
    allows: Allows | None = None,
) -> Iterator[int]:
    """Yield up to `cfg.max_tokens` tokens after the prompt; ends before `stop_token`, which is not yielded.

    The repetition penalty looks back over a row of tokens, prompt included; never at `stop_token`, which stands
    before every prompt and would be put off for that.

    Args:
        first_V: Which tokens may be the first one, bool; None for all.
        allows: Asked about each token that is drawn; where it is refused, another one is drawn. None allows all.
    """
    generator = torch.Generator().manual_seed(cfg.seed)
    tokens = list(prompt_tokens)
    spend(min(len(tokens), model.row_tokens))
    state, logits_1V = model.start(torch.tensor([tokens], dtype=torch.long))
    if first_V is not None:
        logits_1V = logits_1V.masked_fill(~first_V.to(logits_1V.device), -torch.inf)
    for i in range(cfg.max_tokens):
        if cfg.repetition_penalty != 1:
            seen = set(tokens[-model.row_tokens :]) - {stop_token}
            logits_1V = penalise(logits_1V[0], sorted(seen), cfg.repetition_penalty)[None]
        token = sample(logits_1V[0], cfg, generator)
        while allows and token != stop_token and not allows([*tokens[len(prompt_tokens) :], token]):
            logits_1V[0, token] = -torch.inf
            if logits_1V.isneginf().all():
                return
            token = sample(logits_1V[0], cfg, generator)
        if token == stop_token:
            return
        spend(1)
        yield token
        tokens.append(token)
        if i + 1 < cfg.max_tokens:
            logits_1V = model.step(state, torch.tensor([token]))
