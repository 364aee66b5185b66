"""Rules a document must pass: a measured signal, a bound, and the presets that set the bounds.

A rule removes a document whose signal is below (`at least`) or above (`at most`) its bound; the bound may differ for
documents that are read as Chinese, that is with at least half ideographs. Bounds are the published ones unless a line
here says `ours`. Sources, by the short names used below:

- SlimPajama: Cerebras 2023, README of the data scripts, step 2.
- Gopher: Rae et al. 2021, "Scaling Language Models", A.1.1 and table A1.
- C4: Raffel et al. 2020, "Exploring the Limits of Transfer Learning", 2.2.
- FineWeb: Penedo et al. 2024, "The FineWeb Datasets", 3.6 and appendix E.4, and its published pipeline.
- FineWeb2: Penedo et al. 2025, "FineWeb2", configuration of `cmn_Hani` (Mandarin) and its published pipeline.
- ChineseWebText: Chen et al. 2023, arXiv 2311.01149, preprocessing.

FineWeb2 counts words of a Chinese segmenter; `HAN_PER_WORD` ideographs stand for one here.
"""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from slimpajama.core.config import CleanConfig
from slimpajama.core.errors import ConfigError

# Share of ideographs from which the Chinese bounds hold.
MOSTLY_HAN = 0.5


@dataclass(frozen=True, slots=True)
class Rule:
    """What is measured and which side of the bound is refused."""

    name: str
    signal: str
    """Field of QUALITY."""
    unit: str = ""
    at_least: bool = False
    """The signal must be at least the bound; otherwise at most."""
    languages: tuple[str, ...] = ()
    """Only documents in these languages are asked; empty: all."""


class Bound(NamedTuple):
    """A rule in force. None: not asked of such documents."""

    rule: Rule
    other: float | None
    han: float | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a rule said of a document."""

    rule: str
    value: str
    threshold: str
    passed: bool


_NO_CONTENT = Rule("no-content", "content_chars", " content characters", at_least=True)
_SHORT = Rule("short-document", "content_chars", " content characters", at_least=True)
_LANGUAGE = Rule("language", "lang", at_least=True)  # of CleanConfig.languages
RULES = {
    rule.name: rule
    for rule in (
        Rule("gopher-few-words", "words", " words", at_least=True),
        Rule("gopher-many-words", "words", " words"),
        Rule("gopher-short-words", "word_length", " characters a word", at_least=True),
        Rule("gopher-long-words", "word_length", " characters a word"),
        Rule("gopher-symbols", "symbols_per_word", " a word"),
        Rule("gopher-bullet-lines", "bullet_lines"),
        Rule("gopher-ellipsis-lines", "ellipsis_lines"),
        Rule("gopher-alphabetic", "alphabetic", at_least=True),
        Rule("gopher-stop-words", "stop_words", " stop words", at_least=True),
        Rule("gopher-dup-lines", "dup_lines"),
        Rule("gopher-dup-line-chars", "dup_line_chars"),
        Rule("gopher-dup-paragraphs", "dup_paragraphs"),
        Rule("gopher-dup-paragraph-chars", "dup_paragraph_chars"),
        *(Rule(f"gopher-top-{n}gram", f"top_{n}gram") for n in (2, 3, 4)),
        *(Rule(f"gopher-dup-{n}gram", f"dup_{n}gram") for n in range(5, 11)),
        Rule("c4-lorem-ipsum", "lorem_ipsum"),
        Rule("c4-curly-bracket", "curly_brackets"),
        Rule("c4-javascript", "javascript_lines"),
        Rule("fineweb-punctuated-lines", "punctuated_lines", at_least=True),
        Rule("fineweb-dup-line-chars", "dup_line_chars"),
        Rule("fineweb-short-lines", "short_lines"),
        Rule("fineweb-lines-per-word", "lines_per_word"),
        Rule("chinesewebtext-length", "content_chars", " content characters", at_least=True),
        Rule("chinesewebtext-line-length", "line_length", " characters a line", at_least=True),
        Rule("chinesewebtext-han-share", "han_share", at_least=True, languages=("zh", "zh-Hant")),
        # 7 words are 14 ideographs, the nearest width.
        Rule("chinesewebtext-13gram", "dup_7gram"),
        Rule("mojibake", "mojibake", " in 1,000 characters"),
    )
}
"""Every rule beside `no-content`, `short-document` and `language`, in the order they are asked."""

_LENGTH = (_NO_CONTENT.name, _SHORT.name, "gopher-few-words", "chinesewebtext-length")

Bounds = dict[str, tuple[float | None, float | None]]

# Second figure: the Chinese reading; FineWeb2's where it has one.
_GOPHER: Bounds = {
    "gopher-few-words": (50, 50),
    "gopher-many-words": (100_000, 100_000),
    "gopher-short-words": (3, 1),
    "gopher-long-words": (10, 5),
    "gopher-symbols": (0.1, 0.1),
    "gopher-bullet-lines": (0.9, 0.9),
    "gopher-ellipsis-lines": (0.3, 0.3),
    "gopher-alphabetic": (0.8, 0.735),
    "gopher-stop-words": (2, 2),
    "gopher-dup-lines": (0.3, 0.287),
    # FineWeb2 takes FineWeb's stricter bound instead, and leaves paragraphs out.
    "gopher-dup-line-chars": (0.2, None),
    "gopher-dup-paragraphs": (0.3, None),
    "gopher-dup-paragraph-chars": (0.2, None),
    **dict(zip((f"gopher-top-{n}gram" for n in (2, 3, 4)), ((0.20, 0.256), (0.18, 0.201), (0.16, 0.171)), strict=True)),
    "gopher-dup-5gram": (0.15, 0.198),
    "gopher-dup-6gram": (0.14, 0.182),
    "gopher-dup-7gram": (0.13, 0.167),
    "gopher-dup-8gram": (0.12, 0.154),
    "gopher-dup-9gram": (0.11, 0.140),
    "gopher-dup-10gram": (0.10, 0.127),
}
_FINEWEB: Bounds = {
    # E.4 and pipeline; 3.6 says 0.1, which FineWeb2 takes.
    "fineweb-dup-line-chars": (0.01, 0.1),
    "c4-lorem-ipsum": (0, 0),
    # FineWeb2 leaves C4's rules out.
    "c4-curly-bracket": (0, None),
    # Ours: C4 drops such lines, here more than half of them drop the document.
    "c4-javascript": (0.5, None),
    "fineweb-punctuated-lines": (0.12, 0.106),
    "fineweb-short-lines": (0.67, None),
    "fineweb-lines-per-word": (0.3, 0.178),
}
# For Chinese documents FineWeb2 and ChineseWebText, for others Gopher.
_CHINESE: Bounds = {
    "fineweb-dup-line-chars": (None, 0.1),
    "c4-lorem-ipsum": (0, 0),
    "fineweb-punctuated-lines": (None, 0.106),
    "fineweb-lines-per-word": (None, 0.178),
    "chinesewebtext-length": (None, 200),
    "chinesewebtext-line-length": (None, 10),
    "chinesewebtext-han-share": (0.3, 0.3),
    "chinesewebtext-13gram": (None, 0.5),
}
# Text that was read in a wrong encoding; ours.
_READABLE: Bounds = {"mojibake": (1, 1)}
PRESETS: dict[str, Bounds] = {
    "none": _READABLE,
    "slimpajama": _READABLE,
    "fineweb": _GOPHER | _FINEWEB | _READABLE,
    "chinese": _GOPHER | _CHINESE | _READABLE,
}


def bounds(cfg: CleanConfig) -> list[Bound]:
    """Return the rules in force, in the order they are asked: the preset's, with `thresholds` over them.

    Raises ConfigError if a threshold names no rule.
    """
    found: Bounds = dict(PRESETS[cfg.preset])
    for key, value in cfg.thresholds.items():
        name = key.removesuffix("-han")
        if name not in RULES:
            near = difflib.get_close_matches(name, RULES, n=1)
            raise ConfigError(
                "no such rule",
                where=f"clean.thresholds.{key}",
                expected=", ".join(RULES) if not near else near[0],
                found=name,
            )
        if key == name:
            found[name] = (value, cfg.thresholds.get(f"{name}-han", value))
        else:
            found[name] = (found.get(name, (None, None))[0], value)
    length = [Bound(_SHORT, cfg.min_chars, cfg.min_chars_han)] if cfg.preset != "none" else []
    others = [Bound(rule, *found[name]) for name, rule in RULES.items() if name in found]
    return [Bound(_NO_CONTENT, 1, 1), *length, Bound(_LANGUAGE, 1, 1), *others]


def judge(quality: Mapping[str, Any], lang: str, cfg: CleanConfig) -> Iterator[Verdict]:
    """Yield what each rule in force says of one document; a signal that was not measured then is passed over."""
    for rule, other, han in bounds(cfg):
        bound = han if quality["han_share"] >= MOSTLY_HAN else other
        value = lang if rule is _LANGUAGE else quality.get(rule.signal)
        if bound is not None and value is not None and (not rule.languages or lang in rule.languages):
            yield _verdict(rule, value, bound, cfg)


def too_short(quality: Mapping[str, Any], lang: str, cfg: CleanConfig) -> Verdict | None:
    """Return the first rule of length that a document fails, None where it is long enough."""
    lengths = (verdict for verdict in judge(quality, lang, cfg) if verdict.rule in _LENGTH)
    return next((verdict for verdict in lengths if not verdict.passed), None)


def first_verdicts(quality: pa.StructArray, langs: Sequence[str], cfg: CleanConfig) -> dict[int, Verdict]:
    """Return, by row in order, the first rule that each removed one of N documents failed: what `judge` says first."""
    codes = np.array(langs, object)
    han = _column(quality, "han_share") >= MOSTLY_HAN
    found: dict[int, Verdict] = {}
    passed = np.ones(len(langs), np.bool_)
    for rule, other, chinese in bounds(cfg):
        bound = np.where(han, _or_nan(chinese), _or_nan(other))
        if rule is _LANGUAGE:
            value, failed = codes, ~np.isin(codes, cfg.languages)
        else:
            value = _column(quality, rule.signal)
            failed = value < bound if rule.at_least else value > bound
        if rule.languages:
            failed &= np.isin(codes, rule.languages)
        rows = np.flatnonzero(failed & passed)
        passed[rows] = False
        for row, measured, asked in zip(rows.tolist(), value[rows].tolist(), bound[rows].tolist(), strict=True):
            found[row] = _verdict(rule, measured, asked, cfg)
    return {row: found[row] for row in np.flatnonzero(~passed).tolist()}


def _column(quality: pa.StructArray, name: str) -> npt.NDArray[np.float64]:
    values: npt.NDArray[Any] = quality.field(name).to_numpy(zero_copy_only=False)
    return values.astype(np.float64)


def _or_nan(bound: float | None) -> float:
    # Nothing is above or below it.
    return float("nan") if bound is None else float(bound)


def _verdict(rule: Rule, value: Any, bound: float, cfg: CleanConfig) -> Verdict:
    if rule is _LANGUAGE:
        return Verdict(rule.name, value, ", ".join(cfg.languages), value in cfg.languages)
    side, passed = ("at least", value >= bound) if rule.at_least else ("at most", value <= bound)
    return Verdict(rule.name, f"{_figure(value)}{rule.unit}", f"{side} {_figure(bound)}", bool(passed))


def _figure(value: float) -> str:
    return f"{value:.4g}" if value < 1000 and value != int(value) else f"{value:.0f}"
