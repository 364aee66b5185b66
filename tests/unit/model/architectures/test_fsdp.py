"""A model cut among processes; what two of them compute stands in train/test_group."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import distributed

from slimpajama.core.config import ModelConfig
from slimpajama.model.architectures import Optimiser, build
from slimpajama.model.architectures.fsdp import is_share, shard, share_of, whole

MODELS = [
    ModelConfig(preset="tiny", row_tokens=32),
    ModelConfig(preset="tiny", row_tokens=32, latent_width=24, latent_levels=16),
    ModelConfig(preset="gpt", width=64, row_tokens=32),
    ModelConfig(preset="article", row_tokens=32),
]


@pytest.fixture
def group_of_one() -> Iterator[None]:
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.mark.parametrize("cfg", MODELS, ids=["chunk", "latent", "gpt", "article"])
def test_a_sharded_model_scores_trains_and_is_gathered_as_the_whole_one(cfg: ModelConfig, group_of_one: None):
    plain, sharded = build(cfg, 300, seed=0), build(cfg, 300, seed=0)
    shard(sharded)
    optimisers = [Optimiser(model, 1.0) for model in (plain, sharded)]
    assert all(is_share(parameter) for parameter in optimisers[1].parameters.values())
    tokens_BT = torch.randint(0, 300, (3, 32), generator=torch.Generator().manual_seed(0))
    for _ in range(2):
        losses = [model(tokens_BT, tokens_BT > 3)["total"] for model in (plain, sharded)]
        assert torch.equal(*losses)
        for loss, optimiser in zip(losses, optimisers, strict=True):
            loss.backward()
            optimiser.step(1.0)
    assert torch.equal(plain.nll(tokens_BT), sharded.nll(tokens_BT))
    for whole_one, cut in (
        (plain.state_dict(), sharded.state_dict()),
        (optimisers[0].state_tensors(), optimisers[1].state_tensors()),
    ):
        assert whole_one.keys() == cut.keys()
        for name, tensor in whole_one.items():
            assert torch.equal(tensor, whole(cut[name])), name
            assert torch.equal(whole(share_of(tensor, cut[name])), tensor), name


def test_a_tensor_that_is_not_cut_stays_as_it_is():
    one = torch.ones(3)
    assert whole(one) is one
    assert share_of(one, like=torch.zeros(3)) is one
