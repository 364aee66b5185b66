"""Settings of the corpus: sources to shards."""

from dataclasses import asdict, field
from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from slimpajama.core.config.base import STRICT, Encoding, Megabytes, Name, Place, Seed, Share, Source

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
class SourceConfig:
    """One place that raw text comes from."""

    name: Name
    """Short name; part of every document's id, so renaming a source makes new documents of it."""

    uri: Source
    """Glob of files, local or `s3://bucket/prefix/*`; a relative one starts at the configuration file's folder.
    One that ends in `/` is a folder: every file below it that is not hidden. Notes (README, LICENSE, `_*`,
    `state.json`) and caches (`cache-*.arrow`) beside the data are left out, and on record."""

    format: Literal[
        "auto",
        "txt",
        "md",
        "subtitles",
        "wiki",
        "html",
        "jsonl",
        "csv",
        "parquet",
        "arrow",
        "warc",
        "pdf",
        "docx",
        "epub",
    ] = "auto"
    """How to read a file; `auto` goes by its name ([formats.md](formats.md)); packings are looked through. `jsonl` is
    JSON lines or arrays of objects, by the first byte; `warc` needs the extra `warc`; `pdf`, `docx` and `epub` need
    the extra `documents`."""

    split: Literal["file", "line", "blank"] = "file"
    """What one document of a txt file is: the file, each line, or each block of lines between blank ones."""

    encoding: Encoding = "auto"
    """Encoding of txt, html, warc, jsonl and csv: a name, or `auto`: UTF-8 where the bytes are valid UTF-8, else by a
    byte order mark, by what the format declares, or detected among UTF-8, GB18030, Big5, UTF-16 and, of
    English, windows-1252."""

    delimiter: Annotated[str, Field(pattern=r"^(auto|[\t -~])$")] = "auto"
    """Character between the cells of CSV; `auto`: the first of comma, tab, semicolon and bar with which the header has
    every `text_field`."""

    quote: Annotated[str, Field(pattern=r"^(auto|[!-~]?)$")] = "auto"
    """Character around cells of CSV; empty: nothing is quoted; `auto`: `"` or `'`, found out in the same way."""

    extract: Literal["main", "all"] = "main"
    """What of a web page is its text (html, warc): the content without menus, lists of other pages and notes around
    it, or `all` that a reader sees. Hidden text is never part of it."""

    text_field: Annotated[str, Field(min_length=1)] | Annotated[tuple[str, ...], Field(min_length=1)] = "text"
    """Column or key that holds the text (jsonl, csv, parquet, arrow); a dot leads into a nested one (`meta.title`) and
    through a list, whose texts are joined by line breaks (`段落[].内容`; `lines[]` for a list of texts). A key that
    holds a dot itself goes first. Several, `["title", "text"]`, are joined by a blank line; of them only those that are
    there."""

    html: bool = False
    """Fields hold HTML: entities are resolved, and of tags what a reader sees stays (jsonl, csv, parquet, arrow)."""

    id_field: str = ""
    """Column or key with the source's own id; kept in the document's uri. Empty: the record's number."""

    priority: Annotated[int, Field(ge=-1_000_000_000, le=1_000_000_000)] = 0
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
    address inside a private network is ever opened. Archives (`zip`, `tar`) and chains (`a::b`) are no sources."""

    max_document_mb: Megabytes = 16.0
    """Largest single record in MB (10^6 bytes) of UTF-8; a larger one is removed with its place on record."""

    part_mb: Megabytes = 8.0
    """Text in one intermediate file, in MB; the most that a kill can cost, times the workers."""

    require_files: bool = True
    """Warn of each source that has no file, and end with exit code 2 where none has; false says nothing of either."""


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class CleanConfig:
    """How text is normalised and which documents are too poor to keep."""

    preset: Literal["slimpajama", "fineweb", "chinese", "none"] = "slimpajama"
    """Which rules hold beside `no-content`, `language` and `mojibake` (text that was read in a wrong encoding).
    `slimpajama`: `min_chars` alone. `fineweb`: Gopher's, C4's and FineWeb's, for Chinese documents as FineWeb2
    calibrated them. `chinese`: FineWeb2's and ChineseWebText's for Chinese documents, Gopher's for others. `none`: no
    other rule, not even `min_chars`."""

    thresholds: dict[str, Annotated[float, Field(ge=0.0, le=1e9)]] = field(default_factory=dict)
    """Bounds that replace or join the preset's, by the rule's name, as in `gopher-dup-5gram = 0.2`; with `-han` at its
    end for Chinese documents only. Every signal is measured in any preset and stored in `quality`."""

    simplify: bool = False
    """Convert traditional Chinese to simplified (OpenCC's `t2s`)."""

    mask_pii: bool = False
    """Put `<EMAIL>`, `<IP>`, `<ID>` and `<PHONE>` in place of e-mail addresses, public IP addresses, Chinese identity
    card numbers of 18 (with a right check digit) or 15 digits, and Chinese mobile numbers, in half or full width, with
    separators, and glued to letters or Chinese."""

    mask_also: tuple[Literal["landline", "bank_card", "qq", "wechat"], ...] = ()
    """What else is masked: Chinese landlines and service numbers (`<PHONE>`), numbers of bank cards with a right check
    digit (`<BANK_CARD>`), QQ and WeChat ids behind their words (`<QQ>`, `<WECHAT>`)."""

    fold_width: bool = False
    """Fold full-width Latin letters and digits to ASCII (`Ａ１` to `A1`); Chinese punctuation stays as it is."""

    min_chars: Annotated[int, Field(ge=0, le=1_000_000_000)] = 200
    """Fewer characters than this, without punctuation and white space by Unicode category, is too short
    (SlimPajama README, step 2: 200). Chinese says more in a character: see `min_chars_han`."""

    min_chars_han: Annotated[int, Field(ge=0, le=1_000_000_000)] = 70
    """The same bound for documents that are mostly Chinese. 200 English characters are about 40 words;
    in six sets of parallel technical texts one Chinese character stands for 2.7 English ones (2.5 to 3.0)."""

    languages: tuple[str, ...] = ("zh", "zh-Hant", "en", "mixed", "unknown")
    """Languages that are kept; everything else is removed by the rule `language`."""

    retry: bool = False
    """Where these settings have changed, judge again what earlier nights removed by them, and read its files for that;
    what passes now comes in, in place of the earlier record. What reading refused needs no such word."""


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

    bands: Annotated[int, Field(ge=1, le=1024)] = 36
    """Bands of the signature: two documents that agree in all rows of one band are compared exactly. By 36 bands of 7
    rows a pair of similarity 0.8 is compared with a probability of 0.9998, one of 0.5 with 0.25."""

    rows: Annotated[int, Field(ge=1, le=1024)] = 7
    """Rows a band; `bands * rows` must not exceed `num_perm`."""

    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 1
    """Seed of the hash functions; signatures of different seeds do not compare."""

    verify: bool = True
    """Compare candidate pairs exactly before anything is removed. Without, sharing one band key is enough."""

    clusters: Literal["stars", "nearest_keeper", "components"] = "stars"
    """`nearest_keeper` (in manifests `stars`): a document is removed if one that survives is itself within the
    threshold. `components`: of all documents that chains of near-duplicates connect one survives, like or unlike the
    others."""

    preset: Literal["", "slimpajama"] = ""
    """`slimpajama`: as SlimPajama was made (Cerebras 2023, README and main.py of the scripts): lower-case 13-grams
    without punctuation, signatures of 128 values in 9 bands of 13 rows, no verification, one survivor of each
    connected component. It sets those fields. Their scripts leave out ASCII punctuation, here it is all that Unicode
    calls so; the hash functions differ, the chance of a pair to be caught does not."""

    passage_tokens: Annotated[int, Field(ge=8, le=1000)] = 50
    """Shortest repeated passage: so many tokens in a row, in whole sentences or lines. Words are not segmented yet, so
    a token is a run of letters and digits, or one ideograph; punctuation, white space, case, width and script do not
    count. Lee et al. 2022 ("Deduplicating training data makes language models better") took 50 tokens."""

    passage_documents: Annotated[int, Field(ge=2, le=1_000_000)] = 5
    """Documents, of all nights, in which stretches of `passage_tokens` must stand word for word to be called repeated:
    page frames, disclaimers, licences. A passage is made up of such stretches; passages are listed and reported
    always."""

    cut_passages: bool = False
    """Cut repeated passages out of every document but the first that has them, which stays whole, so that each is
    learnt once. What is cut is on record; a document that is too short without it is removed and says so."""

    memory_mb: Annotated[int, Field(ge=1, le=10_000_000)] = 1000
    """Memory for keys, candidate pairs and texts under comparison, in MB; the rest waits on disk. About 125 bytes a
    document and 200 MB of libraries stand besides. It changes no output."""

    def __post_init__(self) -> None:
        if self.clusters == "nearest_keeper":
            # Manifests and fingerprints of earlier versions hold this word.
            object.__setattr__(self, "clusters", "stars")
        for name, value in SLIMPAJAMA.items() if self.preset else ():
            found = getattr(self, name)
            if found not in (value, type(self).__dataclass_fields__[name].default):
                raise ValueError(f"preset {self.preset} sets {name} to {value}, got {found}")
            object.__setattr__(self, name, value)
        if self.bands * self.rows > self.num_perm:
            raise ValueError(f"bands * rows must be at most num_perm ({self.num_perm}), got {self.bands * self.rows}")

    def comparison(self) -> dict[str, Any]:
        """Return the settings that whole documents are compared by: all but those of passages."""
        passages = ("passage_tokens", "passage_documents", "cut_passages")
        return {name: value for name, value in asdict(self).items() if name not in passages}


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

    user_dictionary: Place = ""
    """File with words of your own, one a line as jieba reads it (`word [count] [tag]`, UTF-8); a word may hold any
    characters. A line that is none is left out, and a warning names its number. 20 MB at most; a relative path starts
    at the configuration file's folder."""

    stop_words: tuple[Literal["zh", "en"], ...] = ("zh", "en")
    """Built-in stop-word lists that are left out of `content_words`."""


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class TokenizerConfig:
    """The subword vocabulary; trained on the first night and kept afterwards."""

    vocab_size: Annotated[int, Field(ge=300, le=65_536)] = 8192
    """Pieces, the 256 bytes and the special tokens included."""

    sample_mb: Megabytes = 24.0
    """Text the merges are learnt from, in MB, drawn evenly over the training documents."""


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class ShardsConfig:
    """How documents are split and written for training."""

    validation_share: Share = 0.02
    """Share of duplicate clusters that guides training."""

    test_share: Share = 0.02
    """Share of duplicate clusters that decides whether a new model is better."""

    target_mb: Megabytes = 8.0
    """Text in one shard, in MB; the file takes about as much. Memory holds one shard a worker,
    about twelve times its text."""

    seed: Seed = 0
    """Seed of the split and of the order inside and across shards."""
