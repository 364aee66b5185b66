"""The gradients of a batch from several threads: the same bits for any number of them.

A batch is cut into parts of PART_TOKENS tokens. Each part is computed on one core and the parts' gradients are added
in their order, so the number of threads decides about time alone. OpenMP would share out every single operation of a
small model instead, and its threads would mostly wait for each other.
"""

# B = rows a batch, T = tokens a row

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self, TypeVar

import torch
from torch import Tensor

from slimpajama.errors import ConfigError
from slimpajama.train.group import ALONE, Group

__all__ = ["Team", "batch_gradients"]

PART_TOKENS = 2048  # smaller parts pay for casting all weights and adding up all gradients more often

Item = TypeVar("Item")
Result = TypeVar("Result")


class Team:
    """Threads that each compute on one core; outside of `with`, torch's own threads are as before.

    Args:
        threads: Of this process.
        group: The other processes of the training.
    """

    def __init__(self, threads: int, group: Group = ALONE) -> None:
        self.threads, self.group = threads, group

    def __enter__(self) -> Self:
        self._before = torch.get_num_threads()
        torch.set_num_threads(1)  # of the threads that start from here on, too
        self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix="train")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown()
        torch.set_num_threads(self._before)

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
        """Return the results in the order of `items`."""
        return list(self._pool.map(function, items))


def batch_gradients(
    forward: Callable[[Tensor, Tensor], dict[str, Tensor]],
    parameters: Sequence[Tensor],
    tokens_BT: Tensor,
    content_BT: Tensor,
    precision: str,
    team: Team,
) -> dict[str, float]:
    """Set the parameters' `grad` to that of the mean loss over the batch; return the mean losses in nats a token.

    Memory: a copy of all gradients for each thread.

    Args:
        forward: Returns scalar losses of some rows; `total` is the one that is minimised.
        parameters: All parameters of the model.
        tokens_BT: Token ids.
        content_BT: True where the token belongs to a content word.
        precision: `bf16` for autocast, or `fp32`.
        team: Computes the parts.
    """
    device = tokens_BT.device.type
    rows = tokens_BT.size(0) // team.group.size  # a part for each process at least; a GPU takes all of its rows at once
    if not rows:
        raise ConfigError(
            "fewer rows a batch than processes", where="train.batch_tokens",
            expected=f"at least {team.group.size} rows of {tokens_BT.size(1)} tokens", found=str(tokens_BT.size(0)),
        )  # fmt: skip
    if device == "cpu":
        rows = max(1, min(rows, PART_TOKENS // tokens_BT.size(1)))
    parts = team.group.share(list(zip(tokens_BT.split(rows), content_BT.split(rows), strict=True)))

    def gradients(part: tuple[Tensor, Tensor]) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
        with torch.autocast(device, dtype=torch.bfloat16, enabled=precision == "bf16"):
            losses = forward(*part)
        grads = torch.autograd.grad(
            losses["total"], parameters, materialize_grads=True
        )  # some serve one objective only
        return grads, losses

    means: dict[str, Tensor] = {}
    sums = [torch.zeros_like(parameter) for parameter in parameters]
    for start in range(0, len(parts), team.threads):
        wave = parts[start : start + team.threads]
        for (tokens, _), (grads, losses) in zip(wave, team.map(gradients, wave), strict=True):
            share = tokens.size(0) / tokens_BT.size(0)
            torch._foreach_add_(sums, grads, alpha=share)
            for name, loss in losses.items():
                means[name] = means.get(name, torch.zeros_like(loss)) + share * loss.detach()
    team.group.add([*sums, *means.values()])
    for parameter, total in zip(parameters, sums, strict=True):
        parameter.grad = total
    return {name: float(mean) for name, mean in means.items()}
