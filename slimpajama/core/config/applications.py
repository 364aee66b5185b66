"""Settings of the applications: pairs, tuning, and how a tuned model writes."""

from dataclasses import field
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from slimpajama.core.config.base import (
    STRICT,
    BatchTokens,
    Budget,
    Count,
    CountOrNone,
    Language,
    LearningRate,
    Name,
    Seconds,
    Seed,
    Share,
    Source,
)

Task = Literal["summarization", "translation", "question-answering"]
PairField = Literal["source", "target", "question", "group"]


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class PairSourceConfig:
    """One place that pairs come from: what is given, and what a tuned model is to make of it."""

    name: Name
    """Short name; part of every pair's id."""

    uri: Source
    """Glob of files, local or `s3://bucket/prefix/*`; a relative one starts at the configuration file's folder."""

    task: Task
    """`summarization`: a document and its summary. `translation`: a text in two languages. `question-answering`: a
    passage, a question and its answers."""

    format: Literal["auto", "jsonl", "csv", "tsv", "parquet", "arrow", "squad", "tmx", "po", "mo"] = "auto"
    """How to read a file; `auto` goes by its name (`.json` is SQuAD's; `.gz`, `.zst` and `.bz2` are looked through)."""

    fields: dict[PairField, Annotated[str, Field(min_length=1)]] = field(default_factory=dict)
    """Columns or keys where they are not named `source`, `target`, `question` and `group`, as in
    `{source = "en", target = "zh", group = "meta.path"}`; a dot leads into a nested one. Pairs of one `group` stay in
    one split; without, pairs of one source do. A target may be a list of which each is right."""

    languages: tuple[Language, Language] = ("en", "zh")
    """Languages of source and target of a translation."""

    both_ways: bool = True
    """Translations are learnt and measured from target to source, too."""

    licence: str = ""
    """Licence of the source, carried into the manifest."""

    def fields_of(self) -> dict[PairField, str]:
        """Return the column or key of every field."""
        names: tuple[PairField, ...] = ("source", "target", "question", "group")
        return {name: self.fields.get(name, name) for name in names}


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class PairsConfig:
    """Task data: where it comes from, which pairs are left out, and how it is split."""

    sources: tuple[PairSourceConfig, ...] = ()
    """Where the pairs come from."""

    max_source_chars: Annotated[int, Field(ge=1, le=1_000_000_000)] = 100_000
    """A longer source is left out."""

    max_length_ratio: Annotated[float, Field(gt=1.0, le=1000.0)] = 2.5
    """Most that one side of a translation may be longer than the other, an ideograph counted as 2.7 letters and both
    as 13 letters longer. Of 88,713 aligned sentences of six technical texts, 99.9 % stay below 2.0."""

    test_share: Share = 0.05
    """Share of the groups that applications are measured on; nothing is trained on that holds their targets."""

    validation_share: Share = 0.02
    """Share of the groups that guides tuning."""

    seed: Seed = 0
    """Seed of the split."""


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class TuneConfig:
    """How a champion learns pairs."""

    nightly: bool = False
    """Tune the champion at the end of each night; `pairs.sources` says on what."""

    tokens: Budget = 4_000_000
    """Budget in tokens of sources and targets, padding included."""

    max_seconds: Seconds = 0.0
    """Stop after this much training time, whatever `tokens` says; 0 means no limit."""

    batch_tokens: BatchTokens = 4096
    """Tokens of sources and targets in a step."""

    source_tokens: Annotated[int, Field(ge=16, le=65_536)] = 512
    """Most of a source that is read at once."""

    target_tokens: Annotated[int, Field(ge=1, le=65_536)] = 192
    """Most of a target that is written; at most a row."""

    lr: LearningRate = 1.0
    """Factor on the learning rates."""

    max_test_pairs: Count = 100
    """Test pairs of each task and language that are written and scored; as many validation pairs choose the way."""

    seed: Seed = 0
    """Seed of new weights and of the order of pairs."""


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class ApplyConfig:
    """How summaries, translations and answers are written."""

    beams: Annotated[int, Field(ge=1, le=64)] = 4
    """Texts under way at once; 1 takes the likeliest token each time."""

    length_penalty: Annotated[float, Field(ge=0.0, le=10.0)] = 1.0
    """A text's log-likelihood is divided by its length to this power: 0 prefers short texts."""

    no_repeat: CountOrNone = 3
    """Tokens in a row that no text has twice; 0 for any."""

    min_tokens: Count = 1
    """Fewest tokens of a summary."""

    max_tokens: CountOrNone = 0
    """Most tokens of a text; 0 for what the model was tuned to write."""

    passages: Count = 8
    """Passages of a context that are read for an answer: those that have most of the question's words."""
