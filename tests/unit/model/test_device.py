"""Precision: bfloat16 only where the hardware has instructions for it, and a setting is obeyed."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch

from slimpajama.core.config import Config, TrainConfig
from slimpajama.model.device import has_fast_bf16, with_precision


@pytest.mark.parametrize(
    ("capabilities", "precision"),
    [
        ({"avx2": True, "avx512_f": True, "avx512_bf16": False}, "fp32"),
        ({"avx2": True, "avx512_bf16": True}, "bf16"),
        ({"neon": True, "bf16": True}, "bf16"),
        ({"neon": True}, "fp32"),
    ],
)
def test_auto_takes_bfloat16_only_where_the_cpu_has_instructions_for_it(
    capabilities: Mapping[str, bool], precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert has_fast_bf16() == (precision == "bf16")
    assert with_precision(Config()).train.precision == precision


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_a_precision_that_is_set_is_obeyed(precision: str) -> None:
    cfg = Config(train=TrainConfig(precision=precision))
    assert with_precision(cfg) is cfg
