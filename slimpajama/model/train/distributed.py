"""Several processes that train one model: each computes a share of every batch, and the gradients are added up.

torchrun starts them, on one machine or on several. Gradients are taken part by part (see `parallel`), so they are
added once a step here rather than in the backward pass as DistributedDataParallel does. Every process reads every
batch and keeps its share: reading costs nothing beside training, and the position in the data is the same in all.
"""

import contextlib
import datetime as dt
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, distributed

# For a process that writes a checkpoint.
LONGEST_WAIT = dt.timedelta(minutes=30)
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class ProcessGroup:
    """The processes of one training, as one of them sees them."""

    rank: int = 0
    """Number of this process; 0 writes checkpoints."""
    size: int = 1
    neighbours: int = 1
    """Processes on this machine, this one included: they share its cores."""

    def share(self, items: Sequence[Item]) -> Sequence[Item]:
        """Return this process's share of `items`: neighbours, as many as the others' or one more or less."""
        return items[len(items) * self.rank // self.size : len(items) * (self.rank + 1) // self.size]

    def add(self, tensors: Sequence[Tensor]) -> None:
        """Replace each float32 tensor by its sum over all processes."""
        if self.size > 1:
            flat = torch.cat([tensor.flatten() for tensor in tensors])
            distributed.all_reduce(flat)
            for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
                tensor.copy_(part.view_as(tensor))

    def of_first(self, value: float) -> float:
        """Return what process 0 gave: what a clock says must be the same for all."""
        if self.size == 1:
            return value
        device = "cuda" if distributed.get_backend() == "nccl" else "cpu"
        shared = torch.tensor([value], dtype=torch.float64, device=device)
        distributed.broadcast(shared, src=0)
        return float(shared)


SINGLE = ProcessGroup()


@contextlib.contextmanager
def joined() -> Iterator[ProcessGroup]:
    """Join the other processes that torchrun started; alone where it did not.

    On GPUs each process takes the one of its number on its machine.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield SINGLE
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo", timeout=LONGEST_WAIT)
    yield ProcessGroup(distributed.get_rank(), distributed.get_world_size(), int(os.environ["LOCAL_WORLD_SIZE"]))
    # Not after an error: the others would abort before they have said theirs.
    distributed.destroy_process_group()
