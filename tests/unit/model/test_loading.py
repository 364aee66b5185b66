"""Weights with which nothing can be computed are refused wherever a model is written, read, checked or chosen."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from broken_models import with_nan

from slimpajama.cli import run
from slimpajama.core.errors import ModelError
from slimpajama.model.loading import load_model, weights_bytes
from slimpajama.ops.verify import verify
from slimpajama.workspace.open import Workspace
from slimpajama.workspace.registry import Models


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_a_model_whose_weights_are_not_finite_is_not_loaded(trained: Any, value: float):
    space, model = trained
    with_nan(space.store, model, value)
    with pytest.raises(ModelError, match="weights are not finite: found NaN or infinity in ") as caught:
        load_model(Workspace(space.store), model)
    assert "slimpajama models rollback" in str(caught.value)


def test_nor_is_it_written():
    with pytest.raises(ModelError, match="not finite"):
        weights_bytes({"a": torch.ones(2), "b": torch.tensor([1.0, torch.nan])})
    assert weights_bytes({"a": torch.ones(2), "b": torch.tensor([1, 2])})


def test_nor_does_verify_call_it_good_though_its_bytes_are_those_of_its_manifest(trained: Any):
    space, model = trained
    assert verify(Workspace(space.store))[1] == {}
    with_nan(space.store, model)
    (found,) = verify(Workspace(space.store))[1].values()
    assert f"models/{model}/model.safetensors: weights are not finite" in str(found)


def test_nor_can_it_be_made_champion_by_hand(trained: Any, capsys: pytest.CaptureFixture[str]):
    space, model = trained
    with_nan(space.store, model)
    assert run(["models", "--workspace", space.store.uri, "promote", model]) == 1
    assert "weights are not finite" in capsys.readouterr().err
    assert Models(space.store).champion() is None
