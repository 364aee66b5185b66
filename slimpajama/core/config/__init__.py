"""Every setting, one strict class a step; the same classes are the flows' parameters.

A wrong key, type or value is one line that names field, expected and found. Units stand in the names.
`fingerprint` covers what changes a step's output; where and how it runs (`run`) is not part of any.
"""

from slimpajama.core.config.applications import ApplyConfig, PairsConfig, PairSourceConfig, Task, TuneConfig
from slimpajama.core.config.base import protocol
from slimpajama.core.config.corpus import (
    CleanConfig,
    DecontaminateConfig,
    DedupConfig,
    IngestConfig,
    ShardsConfig,
    SourceConfig,
    TextConfig,
    TokenizerConfig,
)
from slimpajama.core.config.load import load_config, validate
from slimpajama.core.config.model import EvaluateConfig, GenerateConfig, MemoryConfig, ModelConfig, TrainConfig
from slimpajama.core.config.run import ObserveConfig, RetentionConfig, RunConfig
from slimpajama.core.config.whole import SECTIONS, Config, canonical, fingerprint, without_defaults

__all__ = [
    "SECTIONS",
    "ApplyConfig",
    "CleanConfig",
    "Config",
    "DecontaminateConfig",
    "DedupConfig",
    "EvaluateConfig",
    "GenerateConfig",
    "IngestConfig",
    "MemoryConfig",
    "ModelConfig",
    "ObserveConfig",
    "PairSourceConfig",
    "PairsConfig",
    "RetentionConfig",
    "RunConfig",
    "ShardsConfig",
    "SourceConfig",
    "Task",
    "TextConfig",
    "TokenizerConfig",
    "TrainConfig",
    "TuneConfig",
    "canonical",
    "fingerprint",
    "load_config",
    "protocol",
    "validate",
    "without_defaults",
]
