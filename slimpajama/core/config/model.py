"""Settings of the model: what is trained, how it is measured, how it writes."""

from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from slimpajama.core.config.base import (
    STRICT,
    Address,
    BatchTokens,
    Budget,
    CountOrNone,
    LearningRate,
    Megabytes,
    Place,
    Seconds,
    Seed,
    Share,
    Weight,
)


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class ModelConfig:
    """Which model is trained. A preset gives every size; a value above 0 overrides one of them."""

    preset: Literal["tiny", "small", "base", "large", "gpt", "article"] = "small"
    """`tiny` for tests, `small` for a laptop, `base` about 30 M parameters, `large` for a GPU;
    `gpt` is a decoder-only yardstick of the size of `small`, `article` the seed article's dense model."""

    chunk_tokens: Annotated[int, Field(ge=0, le=64)] = 0
    """Tokens compressed into one latent vector (K)."""

    width: Annotated[int, Field(ge=0, le=65_536)] = 0
    """Channels of the residual stream."""

    row_tokens: Annotated[int, Field(ge=0, le=65_536)] = 0
    """Tokens in one training row: the context."""

    latent_width: Annotated[int, Field(ge=0, le=65_536)] = 0
    """Numbers of a latent, a multiple of chunk_tokens; 0 for 12 a token."""

    latent_levels: Annotated[int, Field(ge=0, le=256, multiple_of=2)] = 0
    """Values that each number of a latent can take: 16 makes it half a byte. 0 does not quantise."""


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class TrainConfig:
    """How long and how the model is trained."""

    tokens: Budget = 2_000_000
    """Training budget of a night in tokens. A budget in tokens gives the same weights on any day."""

    max_seconds: Seconds = 0.0
    """Stop after this much training time, whatever `tokens` says; 0 means no limit.
    With a limit the number of steps, and so the weights, depend on the machine."""

    batch_tokens: BatchTokens = 4096
    """Tokens a step: two parts of 2,048, so that two cores have work; a small model gains nothing from larger steps."""

    lr: LearningRate = 1.0
    """Factor on the preset's learning rates."""

    restore_weight: Weight = 0.5
    """Weight of restoring chunks from their own latent, beside 1 for continuing text; 0 leaves it out."""

    denoise_weight: Weight = 0.1
    """Weight of restoring full text from its content words; 0 leaves it out."""

    warmup_share: Share = 0.02
    """Share of the steps in which the learning rate rises; only on a first night, a warm start needs none."""

    decay_share: Share = 0.3
    """Share of the steps in which it falls to zero at the end."""

    replay_share: Share = 0.3
    """Share of the rows drawn from earlier nights, so that they are not forgotten."""

    warm_start: bool = True
    """Start from the champion's weights where model and tokenizer are the same."""

    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Autocast to bfloat16, or plain float32; `auto` takes bfloat16 where the CPU or GPU has instructions for it.
    Without them it is tens of times slower than float32."""

    compile: bool = False
    """Use torch.compile: faster steps after 16 to 38 s of compiling."""

    processes: Annotated[int, Field(ge=1, le=64)] = 1
    """Processes that share each batch, started by torchrun on this machine: one a GPU. On a CPU, threads do better."""

    sharded: bool = False
    """Cut weights, gradients and optimiser state among the processes too (FSDP2): for a model that one GPU does not
    hold. The rows of a batch must divide among the processes. Without several processes it changes nothing."""

    checkpoint_seconds: Seconds = 60.0
    """Time between checkpoints, in seconds: the most that a kill costs."""

    keep_checkpoints: Annotated[int, Field(ge=1, le=1000)] = 2
    """Newest checkpoints kept while training."""

    seed: Seed = 0
    """Seed of weights, row order and noise."""

    tensorboard: Place = ""
    """Folder for TensorBoard logs, a folder a model in it; a relative path starts at the configuration file's folder.
    Needs the extra `tensorboard`. Changes no weight."""

    mlflow: Address = ""
    """MLflow's tracking URI, for example `http://localhost:5000`. Needs the extra `mlflow`. Changes no weight."""


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class MemoryConfig:
    """What a model looks up in the index of the corpus, beside what its network has learnt."""

    enabled: bool = True
    """Whether a night's models get a memory. One that they have is used without it, too."""

    max_context: Annotated[int, Field(ge=1, le=16)] = 8
    """Longest sequence of tokens that is looked up. 6 gave 0.5 % more bits per byte, 10 gave 0.1 % fewer."""


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class EvaluateConfig:
    """How a model is measured and when it replaces the champion."""

    max_mb_per_language: Megabytes = 0.3
    """Held-out text scored per language, in MB; the same documents for champion and challenger."""

    bootstrap: Annotated[int, Field(ge=1, le=100_000)] = 1000
    """Resamples of the paired bootstrap over documents."""

    confidence: Share = 0.95
    """Confidence of the interval that decides."""

    seed: Seed = 0
    """Seed of the bootstrap."""


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class GenerateConfig:
    """How text is sampled."""

    prompts: tuple[str, ...] = ("今天", "中国", "The ", "Python is")
    """Prompts of the night's samples."""

    max_tokens: Annotated[int, Field(ge=1, le=100_000)] = 96
    """New tokens a text."""

    temperature: Annotated[float, Field(ge=0.0, le=100.0)] = 0.8
    """0 takes the likeliest token each time."""

    top_k: CountOrNone = 0
    """Sample from the K likeliest tokens only; 0 for all."""

    top_p: Share = 0.95
    """Sample from the smallest set of tokens that holds this probability."""

    min_p: Share = 0.0
    """Sample only from tokens at least this many times as likely as the likeliest; 0 for all."""

    repetition_penalty: Annotated[float, Field(ge=1.0, le=10.0)] = 1.0
    """Makes tokens that stand in the context already less likely; 1 for none, 1.2 is usual."""

    max_copied_words: CountOrNone = 12
    """Most words in a row, an ideograph being half a word, that a text may have in common with one document that the
    model's memory holds; 0 for no bound. What the prompt quotes does not count."""

    stop: Annotated[tuple[Annotated[str, Field(min_length=1, max_length=1000)], ...], Field(max_length=16)] = ()
    """Texts that end a text; they are not part of it."""

    seed: Seed = 0
    """The same seed gives the same text."""

    def nth(self, number: int) -> "GenerateConfig":
        """Return the settings of one of several texts: text `number` is drawn with the seed that far on."""
        return replace(self, seed=(self.seed + number) % 2**63)
