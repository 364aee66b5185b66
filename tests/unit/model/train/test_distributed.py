"""Several processes: shares of a batch, and the loss curve and weights of one process from two that torchrun starts."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from slimpajama.core.errors import ModelError
from slimpajama.model.loading import load_model
from slimpajama.model.train import launch
from slimpajama.model.train.checkpoint import Checkpoints
from slimpajama.model.train.distributed import SINGLE, ProcessGroup, joined
from slimpajama.model.train.stage import TrainReport, train
from slimpajama.workspace.local import LocalStore
from slimpajama.workspace.open import Workspace
from slimpajama.workspace.store import Store, read_json

ROUNDING = 1e-5
"""Relative. Gradients of a sharded model are the same sums; the norm that clips them is added up share by share, so
that weights differ by some epsilons of float32 (1.2e-7) a step. 24 steps came to ten epsilons of the loss."""
DIES = """
import os, signal, sys
from slimpajama.model.train import worker
from slimpajama.model.train.checkpoint import Checkpoints

save = Checkpoints.save

def die_at_step_4(self, checkpoint):
    if checkpoint.step == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    save(self, checkpoint)

Checkpoints.save = die_at_step_4
worker.main(sys.argv[1])
"""


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_shares_are_neighbours_of_almost_equal_size_and_leave_nothing_out(size: int):
    parts = list(range(5))
    shares = [list(ProcessGroup(rank, size).share(parts)) for rank in range(size)]
    assert [part for share in shares for part in share] == parts
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_process_that_torchrun_did_not_start_is_alone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with joined() as group:
        assert group == SINGLE
    one = torch.ones(2)
    SINGLE.add([one])
    assert (one.tolist(), SINGLE.of_first(3.5)) == ([1.0, 1.0], 3.5)


def test_two_processes_give_the_loss_curve_of_one(workspace: Any, trained: Any):
    space, _ = trained
    cfg = replace(space.cfg, train=replace(space.cfg.train, batch_tokens=4096, tokens=8 * 4096))
    one = train(Workspace(workspace.store), cfg, space.nights[:1], space.nights[0])
    two = train(
        Workspace(workspace.store),
        replace(cfg, train=replace(cfg.train, processes=2)),
        space.nights[:1],
        space.nights[0],
    )
    assert one.model != two.model
    curves = [read_json(workspace.store, f"models/{report.model}/training.json") for report in (one, two)]
    assert curves[0]["curve"][-1]["continue"] < curves[0]["curve"][0]["continue"] - 0.1
    # Two parts of 2,048 tokens, one each: the same two numbers are added.
    assert curves[1] == curves[0]
    weights = [load_model(Workspace(workspace.store), report.model).model.state_dict() for report in (one, two)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_process_that_fails_ends_the_training_with_a_message(
    workspace: Any, trained: Any, capfd: pytest.CaptureFixture[str]
):
    space, _ = trained
    cfg = replace(space.cfg, train=replace(space.cfg.train, processes=2, batch_tokens=32))
    with pytest.raises(ModelError, match=r"a process of the training failed.*exit code"):
        train(Workspace(workspace.store), cfg, space.nights[:1], space.nights[0])
    assert "fewer rows a batch than processes" in capfd.readouterr().err


def records(store: Store, report: TrainReport) -> list[dict[str, float]]:
    training = read_json(store, f"models/{report.model}/training.json")
    return [*training["curve"], *training["validation"]]


def assert_equal_to_rounding(found: list[dict[str, float]], expected: list[dict[str, float]]) -> None:
    assert len(found) == len(expected) == 8 + 4
    for one, other in zip(found, expected, strict=True):
        assert one == pytest.approx(other, rel=ROUNDING)


def test_a_sharded_model_has_the_loss_curve_of_one_process_and_survives_a_kill(
    workspace: Any, trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """One test for all of it, since starting two processes takes seconds."""
    space, _ = trained
    nights = space.nights[:1], space.nights[0]
    often = replace(space.cfg.train, batch_tokens=4096, tokens=8 * 4096, checkpoint_seconds=1e-9)
    plain = replace(space.cfg, train=often)
    sharded = replace(space.cfg, train=replace(often, processes=2, sharded=True))
    one, two = (train(Workspace(workspace.store), cfg, *nights) for cfg in (plain, sharded))
    expected = records(workspace.store, one)
    assert expected[7]["continue"] < expected[0]["continue"] - 0.1
    assert_equal_to_rounding(records(workspace.store, two), expected)

    (tmp_path / "dies.py").write_text(DIES)
    with monkeypatch.context() as patch:
        patch.setattr(launch, "WORKER", "dies")
        patch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))
        with pytest.raises(ModelError, match="a process of the training failed"):
            train(Workspace(space.store), sharded, *nights)
    assert Checkpoints(space.store, f"models/{two.model}/checkpoints").steps() == [2, 3]

    alone = LocalStore(str(shutil.copytree(space.store.uri, tmp_path / "alone")))
    shutil.move(f"{alone.uri}/models/{two.model}", f"{alone.uri}/models/{one.model}")
    train(Workspace(alone), plain, *nights)
    assert records(alone, one)[:3] == records(workspace.store, two)[:3], "it did not go on from the sharded checkpoint"
    assert_equal_to_rounding(records(alone, one), expected)

    assert train(Workspace(space.store), sharded, *nights).model == two.model
    for name in ("model.safetensors", "training.json"):
        path = f"models/{two.model}/{name}"
        assert space.store.read(path) == workspace.store.read(path), name
