"""Architectures, sizes and optimiser of the language model: `build` by configuration, train by `Optimiser`."""

from collections.abc import Callable

import torch

from slimpajama.core.config import ModelConfig
from slimpajama.model.architectures.article import Article
from slimpajama.model.architectures.base import LanguageModel
from slimpajama.model.architectures.chunk import ChunkModel
from slimpajama.model.architectures.gpt import GPT
from slimpajama.model.architectures.optimiser import Optimiser
from slimpajama.model.architectures.presets import Sizes, resolve

__all__ = ["LanguageModel", "Optimiser", "build"]

KINDS: dict[str, Callable[[Sizes, int, torch.Generator], LanguageModel]] = {
    "article": Article,
    "chunk": ChunkModel,
    "gpt": GPT,
}


def build(cfg: ModelConfig, vocab_size: int, seed: int) -> LanguageModel:
    """Return a model with fresh weights, on the CPU; the same seed gives the same weights.

    Raises:
        ConfigError: If the sizes do not fit one another.
    """
    sizes = resolve(cfg)
    return KINDS[sizes.kind](sizes, vocab_size, torch.Generator().manual_seed(seed))
