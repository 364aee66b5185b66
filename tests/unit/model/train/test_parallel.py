from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor

from slimpajama.core.config import ModelConfig
from slimpajama.core.errors import ConfigError, ModelError
from slimpajama.core.logs import LineHandler, logged_to
from slimpajama.model.architectures import build
from slimpajama.model.train import parallel
from slimpajama.model.train.distributed import ProcessGroup
from slimpajama.model.train.parallel import ThreadPool, batch_gradients, sharded_gradients


def test_parts_of_unequal_size_give_the_gradient_and_loss_of_the_whole_batch(monkeypatch: pytest.MonkeyPatch):
    model = build(ModelConfig(preset="gpt", width=64, row_tokens=32), 300, seed=0)
    parameters = list(model.parameters())
    tokens_BT = torch.randint(0, 300, (5, 32), generator=torch.Generator().manual_seed(0))
    whole = model(tokens_BT, tokens_BT > 3)["total"]
    wanted = torch.autograd.grad(whole, parameters)
    monkeypatch.setattr(parallel, "PART_TOKENS", 64)  # rows: two, two, one
    with ThreadPool(2) as pool:
        losses = batch_gradients(model, parameters, (tokens_BT, tokens_BT > 3), "fp32", pool)
    assert losses["total"] == pytest.approx(whole.item(), rel=1e-6)
    for parameter, gradient in zip(parameters, wanted, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-7)


def test_torch_has_its_threads_back_after_an_error():
    before = torch.get_num_threads()

    def fail() -> None:
        with ThreadPool(2) as pool:
            assert torch.get_num_threads() == 1
            pool.map(lambda n: 1 // n, [1, 0])

    with pytest.raises(ZeroDivisionError):
        fail()
    assert torch.get_num_threads() == before


def test_a_batch_of_fewer_rows_than_processes_is_refused_by_name():
    model = build(ModelConfig(preset="gpt", width=64, row_tokens=32), 300, seed=0)
    tokens_BT = torch.zeros((2, 32), dtype=torch.long)
    with (
        ThreadPool(1, ProcessGroup(0, 3)) as pool,
        pytest.raises(ConfigError, match=r"train.batch_tokens.*at least 3 rows"),
    ):
        batch_gradients(model, list(model.parameters()), (tokens_BT, tokens_BT > 3), "fp32", pool)


class Memory:
    """A forward that holds some rows and no more, and notes what it was asked for."""

    def __init__(self, rows: int) -> None:
        self.rows, self.asked = rows, list[int]()
        self.model = build(ModelConfig(preset="gpt", width=64, row_tokens=32), 300, seed=0)
        self.parameters = list(self.model.parameters())
        self.kept: list[weakref.ref[Tensor]] = []

    def __call__(self, tokens_BT: Tensor, content_BT: Tensor) -> dict[str, Tensor]:
        assert not any(kept() is not None for kept in self.kept), "a failed try still holds its tensors"
        self.asked.append(tokens_BT.size(0))
        losses = self.model(tokens_BT, content_BT)
        if tokens_BT.size(0) > self.rows:
            self.kept.append(weakref.ref(losses["total"]))
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return losses


def rows_of(n: int) -> tuple[Tensor, Tensor]:
    tokens_BT = torch.randint(0, 300, (n, 32), generator=torch.Generator().manual_seed(0))
    return tokens_BT, tokens_BT > 3


@contextmanager
def without_collector() -> Iterator[None]:
    """What only the collector of cycles would free is not free when memory is short."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def test_rows_that_memory_does_not_hold_are_halved_for_good_and_each_counts_once():
    memory, said = Memory(rows=3), list[str]()
    tokens_BT, content_BT = rows_of(13)
    whole = memory.model(tokens_BT, content_BT)["total"]
    wanted = torch.autograd.grad(whole, memory.parameters)
    with ThreadPool(1) as pool, logged_to(LineHandler(said.append)), without_collector():
        for _ in range(2):
            losses = batch_gradients(memory, memory.parameters, (tokens_BT, content_BT), "fp32", pool)
            assert losses["total"] == pytest.approx(whole.item(), rel=1e-6)
            for parameter, gradient in zip(memory.parameters, wanted, strict=True):
                torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-7)
    assert memory.asked == [13, 6, *[3, 3, 3, 3, 1] * 2]
    assert len(said) == 1
    assert "memory does not hold 13 rows of 32 tokens: from now on 3 at once" in said[0]


def test_memory_that_runs_out_in_the_middle_of_a_batch_loses_no_row_and_counts_none_twice():
    class Shrinking(Memory):
        def __call__(self, tokens_BT: Tensor, content_BT: Tensor) -> dict[str, Tensor]:
            self.rows = 4 if len(self.asked) < 4 else 2
            return super().__call__(tokens_BT, content_BT)

    memory = Shrinking(rows=4)
    tokens_BT, content_BT = rows_of(8)
    with ThreadPool(1) as pool:
        batch_gradients(memory, memory.parameters, (tokens_BT, content_BT), "fp32", pool)
        before = [parameter.grad for parameter in memory.parameters]
        batch_gradients(memory, memory.parameters, (tokens_BT, content_BT), "fp32", pool)
    assert memory.asked == [8, 4, 4, 4, 4, 2, 2, 2, 2]
    for parameter, gradient in zip(memory.parameters, before, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-7)


def test_each_process_halves_its_own_share_only():
    small, large = Memory(rows=2), Memory(rows=8)
    tokens_BT, content_BT = rows_of(8)
    sums = [torch.zeros_like(parameter) for parameter in small.parameters]

    class Pair(ProcessGroup):
        def add(self, tensors: object) -> None: ...

    for rank, memory in enumerate((small, large)):
        with ThreadPool(1, Pair(rank, 2)) as pool:
            batch_gradients(memory, memory.parameters, (tokens_BT, content_BT), "fp32", pool)
        torch._foreach_add_(sums, [parameter.grad for parameter in memory.parameters])
    assert (small.asked, large.asked) == ([4, 2, 2], [4])
    wanted = torch.autograd.grad(large.model(tokens_BT, content_BT)["total"], large.parameters)
    for total, gradient in zip(sums, wanted, strict=True):
        torch.testing.assert_close(total, gradient, rtol=1e-4, atol=1e-7)


def test_memory_without_room_for_one_row_is_said_with_what_to_do():
    memory = Memory(rows=0)
    with ThreadPool(1) as pool, pytest.raises(ModelError) as raised:
        batch_gradients(memory, memory.parameters, rows_of(4), "fp32", pool)
    assert memory.asked == [4, 2, 1]
    assert str(raised.value) == (
        "training on cpu: out of memory: expected room for 1 row of 32 tokens, found CUDA out of memory. Tried to "
        "allocate 2.00 GiB. Choose a smaller model, or cut it among GPUs: train.processes with train.sharded."
    )


def test_a_sharded_model_takes_equal_shares_only_and_says_where_memory_ends():
    memory = Memory(rows=3)
    with (
        ThreadPool(1, ProcessGroup(0, 3)) as pool,
        pytest.raises(ConfigError, match=r"train.batch_tokens.*a multiple of 3 rows"),
    ):
        sharded_gradients(memory, memory.parameters, rows_of(4), "fp32", pool)
    with ThreadPool(1) as pool, pytest.raises(ModelError, match=r"room for 4 rows of 32 tokens.*Use more processes"):
        sharded_gradients(memory, memory.parameters, rows_of(4), "fp32", pool)
