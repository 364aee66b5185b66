"""The gradients of a batch from several threads: the same bits for any number of them.

A batch is cut into parts of PART_TOKENS tokens. Each part is computed on one core and the parts' gradients are added
in their order, so the number of threads decides about time alone. OpenMP would share out every single operation of a
small model instead, and its threads would mostly wait for each other.

A GPU takes all rows at once, or as many as its memory holds.
"""

# B = rows a batch, T = tokens a row

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Self, TypeVar

import torch
from torch import Tensor

from slimpajama.core.errors import ConfigError, ModelError
from slimpajama.core.logs import step_log
from slimpajama.core.stopping import Pool
from slimpajama.model.device import autocast
from slimpajama.model.train.distributed import SINGLE, ProcessGroup

# Smaller parts pay for casting all weights and adding up all gradients more often.
PART_TOKENS = 2048

Item = TypeVar("Item")
Result = TypeVar("Result")
Forward = Callable[..., dict[str, Tensor]]
Gradients = tuple[tuple[Tensor, ...], dict[str, Tensor]]
"""Of the mean loss over some rows, and the losses."""
Part = tuple[Tensor, ...]
"""What the model takes of some rows: first their token ids (B, T), then for example where content words are."""


class ThreadPool:
    """Threads that each compute on one core; outside of `with`, torch's own threads are as before."""

    def __init__(self, threads: int, group: ProcessGroup = SINGLE) -> None:
        self.threads, self.group = threads, group
        self.most_rows: int | None = None
        """Rows that fit in memory at once; None before some did not."""

    def __enter__(self) -> Self:
        self._before = torch.get_num_threads()
        # Of the threads that start from here on, too.
        torch.set_num_threads(1)
        self._pool = Pool(self.threads, "train")
        return self

    def __exit__(self, *error: Any) -> None:
        self._pool.__exit__(*error)
        torch.set_num_threads(self._before)

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
        """Return the results in the order of `items`."""
        if self.threads == 1:
            return [function(item) for item in items]
        return list(self._pool.map(function, items))


def batch_gradients(
    forward: Forward, parameters: Sequence[Tensor], batch: Part, precision: str, pool: ThreadPool
) -> dict[str, float]:
    """Set the parameters' `grad` to that of the mean loss over the batch; return the mean losses in nats a token.

    Where memory does not hold a part, this process halves its parts from then on. Parts decide about rounding, and
    about which tokens of a batch are denoised, but never about the batch.

    Memory: a copy of all gradients for each thread.

    Args:
        forward: Returns scalar losses of some rows; `total` is the one that is minimised.
        batch: Token ids and what else the model takes, all of as many rows.
        precision: `bf16` for autocast, or `fp32`.

    Raises:
        ConfigError: If there are fewer rows than processes.
        ModelError: If memory does not hold a single row.
    """
    tokens_BT = batch[0]
    if tokens_BT.size(0) < pool.group.size:
        raise ConfigError(
            "fewer rows a batch than processes",
            where="train.batch_tokens",
            expected=f"at least {pool.group.size} rows of {tokens_BT.size(1)} tokens",
            found=str(tokens_BT.size(0)),
        )
    rows = _part_rows(tokens_BT, pool.group.size)
    share = pool.group.share(_cut(batch, rows))

    def compute(part: Part) -> Gradients:
        losses = _losses(forward, part, precision)
        # Some parameters serve one objective only.
        return torch.autograd.grad(losses["total"], parameters, materialize_grads=True), losses

    before = most = pool.most_rows or rows
    while isinstance(done := _sums(compute, parameters, share, most, tokens_BT.size(0), pool), str):
        if most == 1:
            hint = "Choose a smaller model, or cut it among GPUs: train.processes with train.sharded."
            raise _no_memory(tokens_BT, 1, done, hint)
        most //= 2
        # Smaller tensors do not fill the gaps that larger ones left.
        torch.cuda.empty_cache()
    if most < before:
        pool.most_rows = most
        step_log("train").info(
            f"memory does not hold {before} rows of {tokens_BT.size(1)} tokens: from now on {most} at once"
        )
    sums, means = done
    pool.group.add([*sums, *means.values()])
    for parameter, total in zip(parameters, sums, strict=True):
        parameter.grad = total
    return {name: float(mean) for name, mean in means.items()}


def _sums(
    compute: Callable[[Part], Gradients],
    parameters: Sequence[Tensor],
    share: Sequence[Part],
    most: int,
    batch_rows: int,
    pool: ThreadPool,
) -> tuple[list[Tensor], dict[str, Tensor]] | str:
    """Return the gradients and losses of a share, added up; or what torch says where memory does not hold them.

    At most `most` rows are computed at once. A part counts by its share of `batch_rows`, those of the whole batch.
    """
    # On a GPU they would share its memory.
    at_once = pool.threads if parameters[0].device.type == "cpu" else 1
    try:
        means: dict[str, Tensor] = {}
        sums = [torch.zeros_like(parameter) for parameter in parameters]
        parts = [piece for part in share for piece in _cut(part, most)]
        for start in range(0, len(parts), at_once):
            wave = parts[start : start + at_once]
            for (tokens_BT, *_), (grads, losses) in zip(wave, pool.map(compute, wave), strict=True):
                weight = tokens_BT.size(0) / batch_rows
                torch._foreach_add_(sums, grads, alpha=weight)
                _add(means, losses, weight)
    except torch.OutOfMemoryError as error:
        # Nothing else is kept: the error's traceback holds the tensors that filled the memory.
        return str(error)
    return sums, means


def sharded_gradients(
    forward: Forward, parameters: Sequence[Tensor], batch: Part, precision: str, pool: ThreadPool
) -> dict[str, float]:
    """Do what `batch_gradients` does for a model of shares (`slimpajama.model.architectures.fsdp`), one part at a time.

    FSDP gathers weights in each part's forward and backward pass and averages its gradients over the processes, so all
    compute parts of one size in step. For the same reason none can halve its own.

    Raises:
        ConfigError: If the rows do not divide among the processes.
        ModelError: If memory does not hold a part.
    """
    tokens_BT, size = batch[0], pool.group.size
    if tokens_BT.size(0) % size:
        raise ConfigError(
            "rows of a batch do not divide among the processes that the model is cut among",
            where="train.batch_tokens",
            expected=f"a multiple of {size} rows of {tokens_BT.size(1)} tokens",
            found=f"{tokens_BT.size(0)} rows",
        )
    rows = _part_rows(tokens_BT, size)
    own = tuple(tensor.chunk(size)[pool.group.rank] for tensor in batch)
    for parameter in parameters:
        parameter.grad = None
    means: dict[str, Tensor] = {}
    try:
        for part in _cut(own, rows):
            losses = _losses(forward, part, precision)
            weight = part[0].size(0) / tokens_BT.size(0)
            (losses["total"] * (weight * size)).backward()
            _add(means, losses, weight)
    except torch.OutOfMemoryError as error:
        hint = "Use more processes, or a smaller train.batch_tokens."
        raise _no_memory(tokens_BT, rows, str(error), hint) from None
    pool.group.add(list(means.values()))
    return {name: float(mean) for name, mean in means.items()}


def _part_rows(tokens_BT: Tensor, processes: int) -> int:
    """Return how many rows go through the model at once: there is a part for each process at least."""
    rows = tokens_BT.size(0) // processes
    return max(1, min(rows, PART_TOKENS // tokens_BT.size(1))) if tokens_BT.device.type == "cpu" else rows


def _cut(part: Part, rows: int) -> list[Part]:
    return list(zip(*(tensor.split(rows) for tensor in part), strict=True))


def _losses(forward: Forward, part: Part, precision: str) -> dict[str, Tensor]:
    with autocast(part[0].device, precision):
        return forward(*part)


def _add(means: dict[str, Tensor], losses: dict[str, Tensor], weight: float) -> None:
    for name, loss in losses.items():
        means[name] = means.get(name, torch.zeros_like(loss)) + weight * loss.detach()


def _no_memory(tokens_BT: Tensor, rows: int, found: str, hint: str) -> ModelError:
    return ModelError(
        "out of memory",
        where=f"training on {tokens_BT.device}",
        expected=f"room for {rows} row{'s' if rows > 1 else ''} of {tokens_BT.size(1)} tokens",
        found=found.rstrip(". "),
        hint=hint,
    )
