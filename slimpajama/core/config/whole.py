"""The whole configuration, and the fingerprint of settings."""

import hashlib
import json
from dataclasses import MISSING, asdict, field, fields, is_dataclass
from typing import Any

from pydantic import model_validator
from pydantic.dataclasses import dataclass

from slimpajama.core.config.applications import ApplyConfig, PairsConfig, PairSourceConfig, TuneConfig
from slimpajama.core.config.base import STRICT, Location, protocol, unicode_only
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
from slimpajama.core.config.model import EvaluateConfig, GenerateConfig, MemoryConfig, ModelConfig, TrainConfig
from slimpajama.core.config.renamed import with_new_names
from slimpajama.core.config.run import ObserveConfig, RecoveryConfig, RetentionConfig, RunConfig, ScheduleConfig


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Config:
    """The whole configuration file."""

    workspace: Location = "workspace"
    """Local folder or `s3://bucket/prefix`; a relative one starts at the configuration file's folder."""

    ingest: IngestConfig = field(default_factory=IngestConfig)
    clean: CleanConfig = field(default_factory=CleanConfig)
    dedup: DedupConfig = field(default_factory=DedupConfig)
    decontaminate: DecontaminateConfig = field(default_factory=DecontaminateConfig)
    text: TextConfig = field(default_factory=TextConfig)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    shards: ShardsConfig = field(default_factory=ShardsConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    memory: MemoryConfig = field(default_factory=MemoryConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    generate: GenerateConfig = field(default_factory=GenerateConfig)
    pairs: PairsConfig = field(default_factory=PairsConfig)
    tune: TuneConfig = field(default_factory=TuneConfig)
    apply: ApplyConfig = field(default_factory=ApplyConfig)
    run: RunConfig = field(default_factory=RunConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    retention: RetentionConfig = field(default_factory=RetentionConfig)
    recovery: RecoveryConfig = field(default_factory=RecoveryConfig)
    observe: ObserveConfig = field(default_factory=ObserveConfig)

    @model_validator(mode="before")
    @classmethod
    def _take_old_names(cls, data: Any) -> Any:
        return with_new_names(unicode_only(data)) if isinstance(data, dict) else data

    def __post_init__(self) -> None:
        sources: tuple[SourceConfig | PairSourceConfig, ...] = (*self.ingest.sources, *self.decontaminate.evaluations)
        for source in (*sources, *self.pairs.sources):
            if (used := protocol(source.uri)) not in self.ingest.protocols:
                raise ValueError(f"source {source.name} needs {used!r}, which ingest.protocols does not allow")
        for kind in (self.ingest.sources, self.decontaminate.evaluations, self.pairs.sources):
            names = [source.name for source in kind]
            for name in sorted({name for name in names if names.count(name) > 1}):
                raise ValueError(f"two sources are named {name}; their documents' ids would be the same")
        known = [source.name for source in self.ingest.sources]
        for name in self.run.retry:
            if name not in known:
                raise ValueError(f"run.retry: no source is named {name}, but {', '.join(known) or 'there is none'}")
        if self.tune.nightly and not self.pairs.sources:
            raise ValueError("tune.nightly needs pairs.sources, and there are none")


# Of a source all but its name and uri has a default.
SOURCE = {f.name: f.default for f in fields(SourceConfig) if f.default is not MISSING}
SECTIONS: dict[str, Any] = {f.name: type(getattr(Config(), f.name)) for f in fields(Config) if f.name != "workspace"}


# Settings that version 0.1 did not have. At these values they are left out of what is written and compared: so what was
# made before goes on, under the names that it has.
_LATER = {
    "encoding": "auto",
    "delimiter": "auto",
    "quote": "auto",
    "split": "file",
    "html": False,
    "extract": "main",
    "mask_also": (),
    "max_copied_words": 12,
    "passage_tokens": 50,
    "passage_documents": 5,
    "cut_passages": False,
}


def canonical(value: Any) -> Any:
    """Return `value` as plain JSON types, dataclasses included."""
    if not is_dataclass(value) or isinstance(value, type):
        return value
    return asdict(value, dict_factory=lambda items: {k: v for k, v in items if k not in _LATER or v != _LATER[k]})


def fingerprint(*parts: Any) -> str:
    """Return 16 hex digits that change whenever a setting, an input or a version does."""
    text = json.dumps(parts, default=canonical, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def without_defaults(settings: Any, defaults: Any = None) -> Any:
    """Return settings as they stand in a manifest, without those that are at their defaults.

    So what an earlier version wrote, which lacks the settings that were added since, compares with what is written now.

    Args:
        settings: The whole configuration, or some of its sections, as plain JSON.
        defaults: What to leave out; the configuration's own defaults where None.
    """
    if defaults is None:
        defaults = json.loads(json.dumps(Config(), default=canonical))
    found = {}
    for name, value in settings.items():
        if isinstance(value, dict) and isinstance(defaults.get(name), dict):
            if inner := without_defaults(value, defaults[name]):
                found[name] = inner
        elif isinstance(value, list) and name in ("sources", "evaluations"):
            found[name] = [without_defaults(source, SOURCE) for source in value]
        elif name not in defaults or value != defaults[name]:
            found[name] = value
    return found
