"""A tiny model with a tokenizer of both languages, without a workspace."""

from __future__ import annotations

import pytest

from slimpajama.core.config import ModelConfig, TokenizerConfig
from slimpajama.model.architectures import build
from slimpajama.model.loading import Loaded
from slimpajama.text.tokenizer import SEPARATOR, Tokenizer, train_tokenizer

WORDS = ["今天", "天气", "很", "好", "。", "the", " weather", " is", " fine", ".", "\n"]


@pytest.fixture(scope="session")
def loaded() -> Loaded:
    """A model that has learnt nothing, which compression must not mind."""
    tokenizer = Tokenizer.load(train_tokenizer([SEPARATOR.join(WORDS * 9)], TokenizerConfig(vocab_size=300)))
    model = build(ModelConfig(preset="tiny", width=32, row_tokens=16), tokenizer.vocab_size, seed=0).eval()
    return Loaded("a-model", model, tokenizer, {})
