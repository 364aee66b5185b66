"""What is wrong with a pair by itself: pure expressions over columns, the first that refuses a pair names its reason.

| rule | what was seen |
|---|---|
| `empty-side` | a source, target or, where one is asked for, question without a letter, digit or ideograph |
| `too-long` | a source above `max_source_chars` |
| `same-sides` | a translation that is its source |
| `swapped-languages` | a translation whose sides stand the wrong way round |
| `wrong-language` | a Chinese side without, or another side full of, ideographs; a summary in another language |
| `length-ratio` | a translation with one side far longer, a summary or answer as long as its source |

Length counts an ideograph as 2.7 letters: in six sets of parallel technical texts one stands for so many.
"""

import polars as pl

from slimpajama.core.config import PairsConfig

HAN_LETTERS = 2.7
# Letters that are added to both sides: a name in a title of two words is no misalignment.
SLACK = 13.5
# Least share of ideographs among a Chinese side's letters; 99.9 % of 88,713 aligned sentences have more.
LEAST_HAN = 0.02
# Most ideographs among the letters of a side in another language, as a share.
MOST_HAN = 0.2
# Share of ideographs from which on a text counts as Chinese, where its language is not given.
CHINESE = 0.3


def _han(column: str) -> pl.Expr:
    letters = pl.col(column).str.count_matches(r"\p{L}").clip(lower_bound=1)
    return pl.col(column).str.count_matches(r"\p{Han}") / letters


def _length(column: str) -> pl.Expr:
    """Return a text's length in letters, an ideograph for HAN_LETTERS of them."""
    han = pl.col(column).str.count_matches(r"\p{Han}")
    return pl.col(column).str.len_chars() + han * (HAN_LETTERS - 1)


def language(column: str) -> pl.Expr:
    """Return `zh` or `en`, by the share of ideographs: for tasks that do not say."""
    return pl.when(_han(column) >= CHINESE).then(pl.lit("zh")).otherwise(pl.lit("en"))


def _is_wrong(column: str, code: pl.Expr) -> pl.Expr:
    """Whether a side cannot be of the language it is said to be of."""
    has_letters = pl.col(column).str.contains(r"\p{L}")
    return has_letters & pl.when(code == "zh").then(_han(column) < LEAST_HAN).otherwise(_han(column) > MOST_HAN)


def refuse(pairs: pl.DataFrame, cfg: PairsConfig) -> pl.DataFrame:
    """Return `rule`, `value` and `threshold` of each pair, null where it is kept.

    Pairs have the columns `task`, `source`, `question`, `target` (the first), `source_lang`, `target_lang`.
    """
    translation = pl.col("task") == "translation"
    lang, other = pl.col("source_lang"), pl.col("target_lang")
    wrong_source, wrong_target = _is_wrong("source", lang), _is_wrong("target", other)
    crossed = translation & (lang != other) & wrong_source & wrong_target
    crossed &= ~_is_wrong("source", other) & ~_is_wrong("target", lang)
    is_summary = pl.col("task") == "summarization"
    sides = [("source", pl.lit(True)), ("target", pl.lit(True)), ("question", pl.col("task") == "question-answering")]
    empty = [needed & ~pl.col(name).str.contains(r"[\p{L}\p{N}]") for name, needed in sides]
    which = pl.coalesce(pl.when(bad).then(pl.lit(name)) for (name, _), bad in zip(sides, empty, strict=True))
    shares = _han("source"), _han("target")
    seen = pl.format("ideographs {} and {} of the letters", *(share.round(3) for share in shares))
    ratio = (_length("target") + SLACK) / (_length("source") + SLACK)
    ratio = pl.when(translation).then(pl.max_horizontal(ratio, 1 / ratio)).otherwise(ratio)
    most = pl.when(translation).then(cfg.max_length_ratio).otherwise(1.0)
    rules: list[tuple[str, pl.Expr, pl.Expr, pl.Expr]] = [
        ("empty-side", pl.any_horizontal(empty), pl.format("no {}", which), pl.lit("a letter, digit or ideograph")),
        (
            "too-long",
            pl.col("source").str.len_chars() > cfg.max_source_chars,
            pl.format("{} characters", pl.col("source").str.len_chars()),
            pl.lit(f"at most {cfg.max_source_chars} characters"),
        ),
        ("same-sides", translation & (pl.col("source") == pl.col("target")), pl.lit("equal"), pl.lit("two languages")),
        ("swapped-languages", crossed, seen, pl.format("{} to {}", lang, other)),
        (
            "wrong-language",
            pl.when(translation)
            .then(wrong_source | wrong_target)
            .otherwise(is_summary & (lang != other) & (pl.min_horizontal(*shares) < LEAST_HAN)),
            seen,
            pl.format("{} to {}", lang, pl.when(translation).then(other).otherwise(lang)),
        ),
        ("length-ratio", ratio >= most, pl.format("{}", ratio.round(2)), pl.format("less than {}", most)),
    ]
    return pairs.select(
        pl.coalesce(pl.when(bad).then(part).otherwise(None) for bad, part in cases).alias(column)
        for column, cases in (
            ("rule", [(bad, pl.lit(name)) for name, bad, _, _ in rules]),
            ("value", [(bad, value) for _, bad, value, _ in rules]),
            ("threshold", [(bad, bound) for _, bad, _, bound in rules]),
        )
    )
