"""Several processes: shares of a batch, and the loss curve and weights of one process from two that torchrun starts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from slimpajama.errors import ModelError
from slimpajama.registry import load_model
from slimpajama.storage import read_json
from slimpajama.train.group import ALONE, Group, joined
from slimpajama.train.stage import train


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_shares_are_neighbours_of_almost_equal_size_and_leave_nothing_out(size: int):
    parts = list(range(5))
    shares = [list(Group(rank, size).share(parts)) for rank in range(size)]
    assert [part for share in shares for part in share] == parts
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_process_that_torchrun_did_not_start_is_alone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with joined() as group:
        assert group == ALONE
    one = torch.ones(2)
    ALONE.add([one])
    assert (one.tolist(), ALONE.of_first(3.5)) == ([1.0, 1.0], 3.5)


def test_two_processes_give_the_loss_curve_of_one(workspace: Any, trained: Any):
    space, _ = trained
    cfg = replace(space.cfg, train=replace(space.cfg.train, batch_tokens=4096, tokens=8 * 4096))
    one = train(workspace.store, cfg, space.nights[:1], space.nights[0])
    two = train(workspace.store, replace(cfg, train=replace(cfg.train, processes=2)), space.nights[:1], space.nights[0])
    assert one.model != two.model
    curves = [read_json(workspace.store, f"models/{report.model}/training.json") for report in (one, two)]
    assert curves[0]["curve"][-1]["continue"] < curves[0]["curve"][0]["continue"] - 0.1
    assert curves[1] == curves[0]  # two parts of 2,048 tokens, one each: the same two numbers are added
    weights = [load_model(workspace.store, report.model).model.state_dict() for report in (one, two)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_process_that_fails_ends_the_training_with_a_message(
    workspace: Any, trained: Any, capfd: pytest.CaptureFixture[str]
):
    space, _ = trained
    cfg = replace(space.cfg, train=replace(space.cfg.train, processes=2, lr=1e30))
    with pytest.raises(ModelError, match=r"a process of the training failed.*exit code"):
        train(workspace.store, cfg, space.nights[:1], space.nights[0])
    assert "training diverged at step" in capfd.readouterr().err
