"""Every setting, one strict class a stage; the same classes are the flows' parameters.

A wrong key, type or value is one line that names field, expected and found. Units stand in the names.
`fingerprint` covers what changes a stage's output; where and how it runs (`run`) is not part of any.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import tomllib
from dataclasses import asdict, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, PositiveFloat, PositiveInt, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from slimpajama.core.errors import ConfigError, masked

STRICT = ConfigDict(extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)
# Of a configuration: a device has no end.
FILE_BYTES = 1_000_000
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Language = Annotated[str, Field(pattern=r"^[a-z]{2,3}$")]


def _without_credentials(uri: str) -> str:
    if masked(uri) != uri:
        raise ValueError("holds a password or token, which manifests and reports would show; docs/security.md says how")
    return uri


Location = Annotated[str, Field(pattern=r"^[^\x00]+$"), AfterValidator(_without_credentials)]
# Of a file or folder, or empty for none.
Place = Annotated[str, Field(pattern=r"^[^\x00]*$")]
Address = Annotated[Place, AfterValidator(_without_credentials)]
# Becomes part of file names.
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class SourceConfig:
    """One place that raw text comes from."""

    name: Name
    """Short name; part of every document's id, so renaming a source makes new documents of it."""

    uri: Location
    """Glob of files, local or `s3://bucket/prefix/*`; a relative one starts at the configuration file's folder.
    One that ends in `/` is a dataset's folder: every table below it (arrow, parquet, jsonl, csv), caches left out."""

    format: Literal["auto", "txt", "jsonl", "csv", "parquet", "html", "arrow", "warc"] = "auto"
    """How to read a file; `auto` goes by its name (`.gz`, `.zst` and `.bz2` are looked through).
    `arrow` is what `datasets.save_to_disk` writes; `warc` needs the extra `warc`."""

    text_field: Annotated[str, Field(min_length=1)] | Annotated[tuple[str, ...], Field(min_length=1)] = "text"
    """Column or key that holds the text (jsonl, csv, parquet, arrow); a dot leads into a nested one (`meta.title`).
    Several, `["title", "text"]`, are joined by a blank line; of them only those that are there."""

    id_field: str = ""
    """Column or key with the source's own id; kept in the document's uri. Empty: the record's number."""

    priority: int = 0
    """Of two near-duplicates, the one from the source with the larger priority survives."""

    licence: str = ""
    """Licence of the source, carried into the night's manifest and the report."""

    def text_fields(self) -> tuple[str, ...]:
        """Return `text_field` as a tuple."""
        return (self.text_field,) if isinstance(self.text_field, str) else self.text_field


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class IngestConfig:
    """Which raw files are read, and within which bounds."""

    sources: tuple[SourceConfig, ...] = ()
    """Where the text comes from."""

    protocols: tuple[str, ...] = ("file", "s3")
    """Protocols of fsspec that a source's uri may name; `file` is this machine's disk. With `http` or `https`, no
    address inside a private network is ever opened."""

    max_document_mb: Annotated[float, Field(gt=0.0, le=1000.0)] = 16.0
    """Largest single record in MB (10^6 bytes) of UTF-8; a larger one is removed with its place on record."""

    part_mb: Annotated[float, Field(gt=0.0, le=1000.0)] = 8.0
    """Text in one intermediate file, in MB; the most that a kill can cost, times the workers."""


def protocols(uri: str) -> set[str]:
    """Return the protocols of a location, several where they are chained (`zip://*.txt::s3://bucket/a.zip`)."""
    return {part.partition("://")[0] for part in uri.split("::")} if "://" in uri else {"file"}


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class CleanConfig:
    """How text is normalised and which documents are too poor to keep."""

    preset: Literal["slimpajama", "fineweb", "chinese", "none"] = "slimpajama"
    """Which rules hold beside `no-content` and `language`. `slimpajama`: `min_chars` alone. `fineweb`: Gopher's, C4's
    and FineWeb's, for Chinese documents as FineWeb2 calibrated them. `chinese`: FineWeb2's and ChineseWebText's for
    Chinese documents, Gopher's for others. `none`: no other rule, not even `min_chars`."""

    thresholds: dict[str, Annotated[float, Field(ge=0.0)]] = field(default_factory=dict)
    """Bounds that replace or join the preset's, by the rule's name, as in `gopher-dup-5gram = 0.2`; with `-han` at its
    end for Chinese documents only. Every signal is measured in any preset and stored in `quality`."""

    simplify: bool = False
    """Convert traditional Chinese to simplified (OpenCC's `t2s`)."""

    mask_pii: bool = False
    """Put `<EMAIL>`, `<IP>`, `<ID>` and `<PHONE>` in place of e-mail addresses, public IP addresses, Chinese identity
    card numbers with a right check digit, and Chinese mobile numbers."""

    fold_width: bool = False
    """Fold full-width Latin letters and digits to ASCII (`Ａ１` to `A1`); Chinese punctuation stays as it is."""

    min_chars: Annotated[int, Field(ge=0)] = 200
    """Fewer characters than this, without punctuation and white space by Unicode category, is too short
    (SlimPajama README, step 2: 200). Chinese says more in a character: see `min_chars_han`."""

    min_chars_han: Annotated[int, Field(ge=0)] = 70
    """The same bound for documents that are mostly Chinese. 200 English characters are about 40 words;
    in six sets of parallel technical texts one Chinese character stands for 2.7 English ones (2.5 to 3.0)."""

    languages: tuple[str, ...] = ("zh", "zh-Hant", "en", "mixed", "unknown")
    """Languages that are kept; everything else is removed by the rule `language`."""


SLIMPAJAMA = {
    "threshold": 0.8,
    "ngram_chars": 13,
    "drop_punctuation": True,
    "num_perm": 128,
    "bands": 9,
    "rows": 13,
    "verify": False,
    "clusters": "components",
}


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class DedupConfig:
    """How exact and near-duplicates are found."""

    threshold: Annotated[float, Field(gt=0.0, le=1.0)] = 0.8
    """Exact Jaccard similarity of the shingle sets from which on two documents are near-duplicates
    (SlimPajama: 0.8)."""

    ngram_chars: Annotated[int, Field(ge=1, le=64)] = 13
    """Shingle width in characters after normalisation (SlimPajama README, step 3.1: 13-grams)."""

    drop_punctuation: bool = False
    """Leave punctuation and symbols, by Unicode category, out of what is compared: texts that differ in these only are
    exact duplicates then."""

    sketch: Literal["oph", "datasketch"] = "oph"
    """`oph`: one-permutation hashing with densification. `datasketch`: bit for bit datasketch 2.0's `affine32`."""

    num_perm: Annotated[int, Field(ge=16, le=1024)] = 256
    """Values in a signature."""

    bands: PositiveInt = 36
    """Bands of the signature: two documents that agree in all rows of one band are compared exactly. By 36 bands of 7
    rows a pair of similarity 0.8 is compared with a probability of 0.9998, one of 0.5 with 0.25."""

    rows: PositiveInt = 7
    """Rows a band; `bands * rows` must not exceed `num_perm`."""

    seed: int = 1
    """Seed of the hash functions; signatures of different seeds do not compare."""

    verify: bool = True
    """Compare candidate pairs exactly before anything is removed. Without, sharing one band key is enough."""

    clusters: Literal["stars", "components"] = "stars"
    """`stars`: a document is removed if one that survives is itself within the threshold. `components`: one document
    of everything that chains of near-duplicates connect survives, like or unlike the others."""

    preset: Literal["", "slimpajama"] = ""
    """`slimpajama`: as SlimPajama was made (Cerebras 2023, README and main.py of the scripts): lower-case 13-grams
    without punctuation, signatures of 128 values in 9 bands of 13 rows, no verification, one survivor of each
    connected component. It sets those fields. Their scripts leave out ASCII punctuation, here it is all that Unicode
    calls so; the hash functions differ, the chance of a pair to be caught does not."""

    memory_mb: Annotated[int, Field(ge=1)] = 1000
    """Memory for keys, candidate pairs and texts under comparison, in MB; the rest waits on disk. About 125 bytes a
    document and 200 MB of libraries stand besides. It changes no output."""

    def __post_init__(self) -> None:
        for name, value in SLIMPAJAMA.items() if self.preset else ():
            found = getattr(self, name)
            if found not in (value, type(self).__dataclass_fields__[name].default):
                raise ValueError(f"preset {self.preset} sets {name} to {value}, got {found}")
            object.__setattr__(self, name, value)
        if self.bands * self.rows > self.num_perm:
            raise ValueError(f"bands * rows must be at most num_perm ({self.num_perm}), got {self.bands * self.rows}")


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class DecontaminateConfig:
    """Which documents are removed because a test knows them: the user's evaluation files and the held-out text."""

    evaluations: tuple[SourceConfig, ...] = ()
    """Evaluation files, read as sources are; `text_field = ["question", "answer"]` takes both. `priority` and `licence`
    play no part. A record that cannot be read stops the run: what it asks for could not be kept out."""

    ngram_words: Annotated[int, Field(ge=1, le=64)] = 13
    """Words in a row that a document may not share with a record of an evaluation file; two ideographs count as one
    word. GPT-3 took 13 (Brown et al. 2020, appendix C), GPT-4 50 characters (OpenAI 2023), about 9."""

    short_words: Annotated[int, Field(ge=1, le=64)] = 8
    """A shorter record counts if a document holds all of it and it has this many words; still shorter ones say too
    little and are not looked for. NeMo Curator's n-grams have 8 to 13 words, too."""

    held_out_share: Share = 0.5
    """A document is not trained on if it holds this share of the text of a document of `validation` or `test`, of this
    night or an earlier one, in stretches of `short_words` or more. 0 turns it off."""

    def __post_init__(self) -> None:
        if self.short_words > self.ngram_words:
            raise ValueError(f"short_words must be at most ngram_words ({self.ngram_words}), got {self.short_words}")


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class TextConfig:
    """How text is cut into words and which words carry content."""

    engine: Literal["rjieba", "jieba"] = "jieba"
    """Segmenter: `jieba` gives the words of that package by a compiled kernel. `rjieba`, which was a second engine
    with the same words, is read as `jieba`."""

    hmm: bool = True
    """Let the segmenter guess words that its dictionary lacks."""

    user_dictionary: str = ""
    """File with words of your own, one a line in jieba's format (`word [count] [tag]`, Han characters, UTF-8);
    a relative path starts at the configuration file's folder."""

    stop_words: tuple[Literal["zh", "en"], ...] = ("zh", "en")
    """Built-in stop-word lists that are left out of `content_words`."""


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class TokenizerConfig:
    """The subword vocabulary; trained on the first night and kept afterwards."""

    vocab_size: Annotated[int, Field(ge=300, le=65_536)] = 8192
    """Pieces, the 256 bytes and the special tokens included."""

    sample_mb: PositiveFloat = 24.0
    """Text the merges are learnt from, in MB, drawn evenly over the training documents."""


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class ShardsConfig:
    """How documents are split and written for training."""

    validation_share: Share = 0.02
    """Share of duplicate clusters that guides training."""

    test_share: Share = 0.02
    """Share of duplicate clusters that decides whether a new model is better."""

    target_mb: Annotated[float, Field(gt=0.0, le=1000.0)] = 8.0
    """Text in one shard, in MB; the file takes about as much. Memory holds one shard a worker,
    about twelve times its text."""

    seed: int = 0
    """Seed of the split and of the order inside and across shards."""


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class ModelConfig:
    """Which model is trained. A preset gives every size; a value above 0 overrides one of them."""

    preset: Literal["tiny", "small", "base", "large", "gpt", "article"] = "small"
    """`tiny` for tests, `small` for a laptop, `base` about 30 M parameters, `large` for a GPU;
    `gpt` is a decoder-only yardstick of the size of `small`, `article` the seed article's dense model."""

    chunk_tokens: Annotated[int, Field(ge=0, le=64)] = 0
    """Tokens compressed into one latent vector (K)."""

    width: Annotated[int, Field(ge=0)] = 0
    """Channels of the residual stream."""

    row_tokens: Annotated[int, Field(ge=0, le=1 << 20)] = 0
    """Tokens in one training row: the context."""

    latent_width: Annotated[int, Field(ge=0)] = 0
    """Numbers of a latent, a multiple of chunk_tokens; 0 for 12 a token."""

    latent_levels: Annotated[int, Field(ge=0, le=256, multiple_of=2)] = 0
    """Values that each number of a latent can take: 16 makes it half a byte. 0 does not quantise."""


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class TrainConfig:
    """How long and how the model is trained."""

    tokens: PositiveInt = 2_000_000
    """Training budget of a night in tokens. A budget in tokens gives the same weights on any day."""

    max_seconds: Annotated[float, Field(ge=0.0)] = 0.0
    """Stop after this much training time, whatever `tokens` says; 0 means no limit.
    With a limit the number of steps, and so the weights, depend on the machine."""

    batch_tokens: PositiveInt = 4096
    """Tokens a step: two parts of 2,048, so that two cores have work; a small model gains nothing from larger steps."""

    lr: PositiveFloat = 1.0
    """Factor on the preset's learning rates."""

    restore_weight: Annotated[float, Field(ge=0.0)] = 0.5
    """Weight of restoring chunks from their own latent, beside 1 for continuing text; 0 leaves it out."""

    denoise_weight: Annotated[float, Field(ge=0.0)] = 0.1
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

    processes: PositiveInt = 1
    """Processes that share each batch, started by torchrun on this machine: one a GPU. On a CPU, threads do better."""

    sharded: bool = False
    """Cut weights, gradients and optimiser state among the processes too (FSDP2): for a model that one GPU does not
    hold. The rows of a batch must divide among the processes. Without several processes it changes nothing."""

    checkpoint_seconds: PositiveFloat = 60.0
    """Time between checkpoints, in seconds: the most that a kill costs."""

    keep_checkpoints: PositiveInt = 2
    """Newest checkpoints kept while training."""

    seed: int = 0
    """Seed of weights, row order and noise."""

    tensorboard: Place = ""
    """Folder for TensorBoard logs, a folder a model in it; a relative path starts at the configuration file's folder.
    Needs the extra `tensorboard`. Changes no weight."""

    mlflow: Address = ""
    """MLflow's tracking URI, for example `http://localhost:5000`. Needs the extra `mlflow`. Changes no weight."""


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class EvaluateConfig:
    """How a model is measured and when it replaces the champion."""

    max_mb_per_language: PositiveFloat = 0.3
    """Held-out text scored per language, in MB; the same documents for champion and challenger."""

    bootstrap: PositiveInt = 1000
    """Resamples of the paired bootstrap over documents."""

    confidence: Share = 0.95
    """Confidence of the interval that decides."""

    seed: int = 0
    """Seed of the bootstrap."""


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class GenerateConfig:
    """How text is sampled."""

    prompts: tuple[str, ...] = ("今天", "中国", "The ", "Python is")
    """Prompts of the night's samples."""

    max_tokens: PositiveInt = 96
    """New tokens a text."""

    temperature: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = 0.8
    """0 takes the likeliest token each time."""

    top_k: Annotated[int, Field(ge=0)] = 0
    """Sample from the K likeliest tokens only; 0 for all."""

    top_p: Share = 0.95
    """Sample from the smallest set of tokens that holds this probability."""

    min_p: Share = 0.0
    """Sample only from tokens at least this many times as likely as the likeliest; 0 for all."""

    repetition_penalty: Annotated[float, Field(ge=1.0, le=10.0)] = 1.0
    """Makes tokens that stand in the context already less likely; 1 for none, 1.2 is usual."""

    stop: Annotated[tuple[Annotated[str, Field(min_length=1, max_length=1000)], ...], Field(max_length=16)] = ()
    """Texts that end a text; they are not part of it."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """The same seed gives the same text."""


Task = Literal["summarization", "translation", "question-answering"]
PairField = Literal["source", "target", "question", "group"]


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class PairSourceConfig:
    """One place that pairs come from: what is given, and what a tuned model is to make of it."""

    name: Name
    """Short name; part of every pair's id."""

    uri: Location
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

    max_source_chars: PositiveInt = 100_000
    """A longer source is left out."""

    max_length_ratio: Annotated[float, Field(gt=1.0)] = 2.5
    """Most that one side of a translation may be longer than the other, an ideograph counted as 2.7 letters and both
    as 13 letters longer. Of 88,713 aligned sentences of six technical texts, 99.9 % stay below 2.0."""

    test_share: Share = 0.05
    """Share of the groups that applications are measured on; nothing is trained on that holds their targets."""

    validation_share: Share = 0.02
    """Share of the groups that guides tuning."""

    seed: int = 0
    """Seed of the split."""


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class TuneConfig:
    """How a champion learns pairs."""

    nightly: bool = False
    """Tune the champion at the end of each night; `pairs.sources` says on what."""

    tokens: PositiveInt = 4_000_000
    """Budget in tokens of sources and targets, padding included."""

    max_seconds: Annotated[float, Field(ge=0.0)] = 0.0
    """Stop after this much training time, whatever `tokens` says; 0 means no limit."""

    batch_tokens: PositiveInt = 4096
    """Tokens of sources and targets in a step."""

    source_tokens: PositiveInt = 512
    """Most of a source that is read at once."""

    target_tokens: PositiveInt = 192
    """Most of a target that is written; at most a row."""

    lr: PositiveFloat = 1.0
    """Factor on the learning rates."""

    max_test_pairs: PositiveInt = 100
    """Test pairs of each task and language that are written and scored; as many validation pairs choose the way."""

    seed: int = 0
    """Seed of new weights and of the order of pairs."""


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class ApplyConfig:
    """How summaries, translations and answers are written."""

    beams: Annotated[int, Field(ge=1, le=64)] = 4
    """Texts under way at once; 1 takes the likeliest token each time."""

    length_penalty: Annotated[float, Field(ge=0.0, le=10.0)] = 1.0
    """A text's log-likelihood is divided by its length to this power: 0 prefers short texts."""

    no_repeat: Annotated[int, Field(ge=0)] = 3
    """Tokens in a row that no text has twice; 0 for any."""

    min_tokens: PositiveInt = 1
    """Fewest tokens of a summary."""

    max_tokens: Annotated[int, Field(ge=0)] = 0
    """Most tokens of a text; 0 for what the model was tuned to write."""

    passages: PositiveInt = 8
    """Passages of a context that are read for an answer: those that have most of the question's words."""


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class RunConfig:
    """Where and how it runs; nothing here changes a published byte."""

    workers: Annotated[int, Field(ge=0)] = 0
    """Threads, or processes of an engine of this machine, for stages that are mapped over files; 0 takes every core."""

    engine: Literal["threads", "dask", "ray"] = "threads"
    """What maps stages over files: threads of one process, or a cluster's workers beside it (`pip install
    slimpajama[dask]` or `[ray]`). The workspace must be one that all workers reach."""

    address: Address = ""
    """The cluster's, for example `tcp://scheduler:8786` or `ray://head:10001`; empty starts one on this machine."""

    source_root: Place = ""
    """Folder that relative source patterns start at; empty means the configuration file's own."""

    def threads(self) -> int:
        """Return how many threads a mapped stage may use."""
        return self.workers or os.cpu_count() or 1


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class RetentionConfig:
    """What `clean-up` removes. Champions, what they were started from, and the nights' corpora always stay."""

    nights: Annotated[int, Field(ge=0)] = 14
    """Newest nights whose rejected models are kept; 0 keeps all."""

    max_gb: Annotated[float, Field(ge=0)] = 0.0
    """Size of the workspace above which rejected models of these nights go too, the oldest first; 0 for no limit."""

    run_days: Annotated[int, Field(ge=0)] = 30
    """Days for which finished runs stay in Prefect, with their logs and artifacts; 0 keeps all."""


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class RecoveryConfig:
    """What happens to a scheduled run whose process died."""

    attempts: Annotated[int, Field(ge=0)] = 3
    """Times it is started again, to go on where it stopped; after that someone is told."""

    alert: str = ""
    """Notification block in Prefect that is told of runs that failed or keep dying, for example
    `slack-webhook/nights`; empty tells nobody."""


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class ObserveConfig:
    """What a run tells other systems. Nothing here changes a published byte, and none of them can fail a run."""

    openlineage: Address = ""
    """Where OpenLineage events go: a file, one event a line, or the `http(s)://` address of a server; a relative path
    starts at the configuration file's folder. Needs the extra `openlineage`. Empty for none."""

    metrics: Annotated[Place, Field(pattern=r"^$|\.prom$")] = ""
    """File for Prometheus, `NAME.prom` in the folder of node_exporter's textfile collector; a relative path starts at
    the configuration file's folder. Empty for none."""

    logs: Literal["text", "json"] = "text"
    """What commands write to stderr: `text` for people, `json` for one object a line."""

    def __post_init__(self) -> None:
        for protocol in protocols(self.openlineage) - {"file", "http", "https"}:
            raise ValueError(f"openlineage: a file or http(s)://, got {protocol}://")


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
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    generate: GenerateConfig = field(default_factory=GenerateConfig)
    pairs: PairsConfig = field(default_factory=PairsConfig)
    tune: TuneConfig = field(default_factory=TuneConfig)
    apply: ApplyConfig = field(default_factory=ApplyConfig)
    run: RunConfig = field(default_factory=RunConfig)
    retention: RetentionConfig = field(default_factory=RetentionConfig)
    recovery: RecoveryConfig = field(default_factory=RecoveryConfig)
    observe: ObserveConfig = field(default_factory=ObserveConfig)

    def __post_init__(self) -> None:
        sources: tuple[SourceConfig | PairSourceConfig, ...] = (*self.ingest.sources, *self.decontaminate.evaluations)
        for source in (*sources, *self.pairs.sources):
            for protocol in sorted(protocols(source.uri) - {*self.ingest.protocols}):
                raise ValueError(f"source {source.name} needs {protocol!r}, which ingest.protocols does not allow")
        for kind in (self.ingest.sources, self.decontaminate.evaluations, self.pairs.sources):
            names = [source.name for source in kind]
            for name in sorted({name for name in names if names.count(name) > 1}):
                raise ValueError(f"two sources are named {name}; their documents' ids would be the same")
        if self.tune.nightly and not self.pairs.sources:
            raise ValueError("tune.nightly needs pairs.sources, and there are none")


_SETTINGS = "docs/configuration.md has every setting."
SECTIONS: dict[str, Any] = {f.name: type(getattr(Config(), f.name)) for f in fields(Config) if f.name != "workspace"}


def canonical(value: Any) -> Any:
    """Return `value` as plain JSON types, dataclasses included."""
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


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
    return {
        name: without_defaults(value, defaults[name]) if isinstance(value, dict) and defaults.get(name) else value
        for name, value in settings.items()
        if name not in defaults or value != defaults[name]
    }


def parse_override(text: str) -> tuple[list[str], Any]:
    """Split `section.key=value`; the value is TOML, or a bare string where it is no TOML."""
    path, sep, raw = text.partition("=")
    if not sep or not path.strip():
        raise ConfigError("not an override", where=f"--set {text}", expected="section.key=value")
    try:
        value = tomllib.loads(f"v = {raw}")["v"]
    except (ValueError, RecursionError):
        value = raw
    return path.strip().split("."), value


def load_config(
    path: str | Path | None = None, overrides: list[str] | None = None, workspace: str | None = None
) -> Config:
    """Read a TOML file, apply `--set` overrides and check everything.

    Args:
        path: Configuration file; None for the defaults.
        overrides: `section.key=value` texts, later ones win.
        workspace: Takes precedence over the file's; relative to the current folder.

    Raises:
        ConfigError: One line a problem: field, expected, found.
    """
    data: dict[str, Any] = {}
    base = Path.cwd()
    if path is not None:
        file = Path(path)
        try:
            with file.open("rb") as stream:
                raw = stream.read(FILE_BYTES + 1)
            if len(raw) > FILE_BYTES:
                raise ValueError(f"more than {FILE_BYTES} bytes")
            data = tomllib.loads(raw.decode("utf-8-sig"))
        except FileNotFoundError:
            raise ConfigError("no such file", where=str(file), hint="Name a TOML file with --config.") from None
        except (ValueError, RecursionError, OSError) as error:
            # Not UTF-8, not TOML, a number too long, too deep.
            raise ConfigError(f"not readable as TOML: {error}", where=str(file), hint=_SETTINGS) from None
        base = file.resolve().parent
    for text in overrides or []:
        keys, value = parse_override(text)
        node = data
        for key in keys[:-1]:
            node = node.setdefault(key, {})
            if not isinstance(node, dict):
                raise ConfigError("not a section", where=f"--set {text}", found=repr(node))
        node[keys[-1]] = value
    if workspace is not None:
        data["workspace"] = workspace if "://" in workspace else str(Path(workspace).resolve())
    config = validate(data, str(path) if path else "settings")
    return resolve_paths(config, base)


def validate(data: dict[str, Any], where: str = "settings") -> Config:
    """Return the configuration of plain data, or raise one `ConfigError` that lists every problem."""
    try:
        return TypeAdapter(Config).validate_python(data)
    except ValidationError as error:
        problems = "; ".join(_problem(dict(details)) for details in error.errors())
        raise ConfigError(problems, where=where, hint=_SETTINGS) from None


def _problem(details: dict[str, Any]) -> str:
    """Return one validation problem as `field: expected, found`."""
    *parents, last = details["loc"] or ("",)
    name = ".".join(str(part) for part in details["loc"])
    if details["type"] == "unexpected_keyword_argument":
        close = difflib.get_close_matches(str(last), _keys(parents), n=1)
        return f"{name}: unknown setting" + (f", did you mean {close[0]}" if close else "")
    message = details["msg"].removeprefix("Value error, ")
    shown = details["input"]
    plain = isinstance(shown, str | int | float | bool | list)
    return f"{name}: {message[0].lower()}{message[1:]}" + (f", found {masked(repr(shown))[:80]}" if plain else "")


def _keys(path: list[Any]) -> list[str]:
    """Return the keys of the section at `path`."""
    section: Any = Config
    for part in path:
        if isinstance(part, str):
            kind = PairSourceConfig if path[0] == "pairs" else SourceConfig
            section = {"sources": kind, "evaluations": kind}.get(part) or SECTIONS.get(part, Config)
    return [f.name for f in fields(section)]


def resolve_paths(config: Config, base: Path) -> Config:
    """Return `config` with a relative workspace made absolute against `base`.

    The sources' patterns stay relative: they are part of ids and manifests, which must not depend on
    where a folder lies. `run.source_root` is what ingest opens them against.
    """
    workspace = config.workspace
    if "://" not in workspace:
        workspace = str((base / workspace).resolve())
    root = str((base / config.run.source_root).resolve())

    def absolute(path: str) -> str:
        return str((base / path).resolve()) if path and "://" not in path else path

    return replace(
        config,
        workspace=workspace,
        run=replace(config.run, source_root=root),
        train=replace(config.train, tensorboard=absolute(config.train.tensorboard)),
        observe=replace(
            config.observe, openlineage=absolute(config.observe.openlineage), metrics=absolute(config.observe.metrics)
        ),
    )
