from __future__ import annotations

import pytest
import torch

from slimpajama.config import ModelConfig
from slimpajama.errors import ConfigError
from slimpajama.model import build
from slimpajama.train import parallel
from slimpajama.train.group import Group
from slimpajama.train.parallel import Team, batch_gradients


def test_parts_of_unequal_size_give_the_gradient_and_loss_of_the_whole_batch(monkeypatch: pytest.MonkeyPatch):
    model = build(ModelConfig(preset="gpt", width=64, row_tokens=32), 300, seed=0)
    parameters = list(model.parameters())
    tokens_BT = torch.randint(0, 300, (5, 32), generator=torch.Generator().manual_seed(0))
    whole = model(tokens_BT, tokens_BT > 3)["total"]
    wanted = torch.autograd.grad(whole, parameters)
    monkeypatch.setattr(parallel, "PART_TOKENS", 64)  # rows: two, two, one
    with Team(2) as team:
        losses = batch_gradients(model, parameters, tokens_BT, tokens_BT > 3, "fp32", team)
    assert losses["total"] == pytest.approx(whole.item(), rel=1e-6)
    for parameter, gradient in zip(parameters, wanted, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-7)


def test_torch_has_its_threads_back_after_an_error():
    before = torch.get_num_threads()

    def fail() -> None:
        with Team(2) as team:
            assert torch.get_num_threads() == 1
            team.map(lambda n: 1 // n, [1, 0])

    with pytest.raises(ZeroDivisionError):
        fail()
    assert torch.get_num_threads() == before


def test_a_batch_of_fewer_rows_than_processes_is_refused_by_name():
    model = build(ModelConfig(preset="gpt", width=64, row_tokens=32), 300, seed=0)
    tokens_BT = torch.zeros((2, 32), dtype=torch.long)
    with Team(1, Group(0, 3)) as team, pytest.raises(ConfigError, match=r"train.batch_tokens.*at least 3 rows"):
        batch_gradients(model, list(model.parameters()), tokens_BT, tokens_BT > 3, "fp32", team)
