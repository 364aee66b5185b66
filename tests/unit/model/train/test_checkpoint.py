from __future__ import annotations

from pathlib import Path

import pytest
import torch

from slimpajama.core.logs import LineHandler, logged_to
from slimpajama.model.train.checkpoint import Checkpoint, Checkpoints
from slimpajama.workspace.local import LocalStore

FOLDER = "models/m/checkpoints"


def a_checkpoint(step: int) -> Checkpoint:
    tensors = {"model.w": torch.full((3, 2), float(step)), "optimiser.m": torch.arange(4).to(torch.bfloat16)}
    return Checkpoint(step, tensors, {"rows": {"row": step, "newest": [0, 0, 2]}, "loss": 0.1 + 0.2})


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    return Checkpoints(LocalStore(str(tmp_path)), FOLDER, keep=2)


def path_of(checkpoints: Checkpoints, step: int, name: str) -> Path:
    return Path(checkpoints.store.uri) / FOLDER / f"step-{step:07d}" / name


def test_what_was_saved_comes_back_exactly(checkpoints: Checkpoints):
    checkpoints.save(a_checkpoint(3))
    found, expected = checkpoints.newest(), a_checkpoint(3)
    assert found is not None
    assert (found.step, found.state) == (3, expected.state)
    assert found.tensors.keys() == expected.tensors.keys()
    for name, tensor in expected.tensors.items():
        assert found.tensors[name].dtype == tensor.dtype
        assert torch.equal(found.tensors[name], tensor)


def test_there_is_none_at_first(checkpoints: Checkpoints):
    assert checkpoints.newest() is None


def test_only_the_newest_are_kept(checkpoints: Checkpoints):
    for step in (1, 2, 10, 9_999_999):
        checkpoints.save(a_checkpoint(step))
    assert checkpoints.steps() == [10, 9_999_999]
    assert not path_of(checkpoints, 2, "state.safetensors").exists()


@pytest.mark.parametrize("damage", ["truncated", "flipped", "missing", "bad json", "wrong json"])
def test_a_damaged_newest_one_falls_back_to_the_one_before_and_says_so(checkpoints: Checkpoints, damage: str):
    for step in (1, 2):
        checkpoints.save(a_checkpoint(step))
    tensors, record = (path_of(checkpoints, 2, name) for name in ("state.safetensors", "checkpoint.json"))
    data = tensors.read_bytes()
    if damage == "truncated":
        tensors.write_bytes(data[:-1])
    elif damage == "flipped":
        tensors.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    elif damage == "missing":
        tensors.unlink()
    else:
        record.write_text("{" if damage == "bad json" else "[1]")
    said: list[str] = []
    with logged_to(LineHandler(said.append)):
        found = checkpoints.newest()
    assert found is not None
    assert found.step == 1
    assert len(said) == 1
    assert "step 2 is damaged" in said[0]


def test_tensors_without_their_json_do_not_count(checkpoints: Checkpoints):
    checkpoints.save(a_checkpoint(1))
    checkpoints.store.write(f"{FOLDER}/step-0000002/state.safetensors", b"half a checkpoint")
    found = checkpoints.newest()
    assert found is not None
    assert found.step == 1


def test_clearing_leaves_nothing_and_may_be_repeated(checkpoints: Checkpoints):
    checkpoints.save(a_checkpoint(1))
    checkpoints.clear()
    checkpoints.clear()
    assert checkpoints.store.list() == []
