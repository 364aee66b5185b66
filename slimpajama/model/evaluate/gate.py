"""The gate: a new model replaces the champion only if it is better on held-out text and worse in no language.

The first model has no champion to beat. It must beat what knows only how often each byte is in the training text.

Both models score the same documents, so the documents are paired: a bootstrap over documents tells how far the
difference in bits per byte depends on which documents happen to be held out.
Source: Efron & Tibshirani 1993, "An Introduction to the Bootstrap", percentile interval; Koehn 2004 for paired use.
"""

# D = documents, R = resamples

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimpajama.core.config import EvaluateConfig

Floats = NDArray[np.float64]
# With fewer a bootstrap's interval says nothing; such languages count together as `other`.
MIN_DOCUMENTS = 10
OTHER = "other"
NOT_FINITE = "Its likelihood of some held-out text is not finite."


@dataclass(frozen=True, slots=True)
class Paired:
    """Scores of two models on the same documents."""

    lang: Sequence[str]
    n_bytes: NDArray[np.int64]
    """UTF-8 bytes of each document, shape (D,)."""
    champion: Floats
    """Negative log-likelihood of each document in nats, shape (D,)."""
    challenger: Floats


@dataclass(frozen=True, slots=True)
class Interval:
    """Bits per byte of both models; the difference is challenger minus champion, so below zero is better."""

    documents: int
    champion: float
    challenger: float
    difference: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Decision:
    """What the gate decided and why."""

    promote: bool
    reason: str
    """One sentence for people."""
    overall: Interval | None = None
    languages: dict[str, Interval] | None = None


def decide_first(paired: Paired) -> Decision:
    """Decide whether a model becomes champion where there was none.

    Args:
        paired: Its scores, with those of `slimpajama.model.evaluate.documents.byte_floor` as the champion's.
    """
    if not np.isfinite(paired.challenger).all():
        return Decision(False, NOT_FINITE)
    groups = group_languages(paired.lang, paired.n_bytes)
    bits = [math.log(2) * float(paired.n_bytes[chosen].sum()) for _, chosen in groups]
    if not any(bits):
        return Decision(True, "There was no champion yet, and no held-out text to judge it by (shards.test_share).")
    own, floor = (
        math.fsum(float(nats[chosen].sum()) / of for (_, chosen), of in zip(groups, bits, strict=True)) / len(groups)
        for nats in (paired.challenger, paired.champion)
    )
    if own < floor:
        return Decision(True, "There was no champion yet.")
    figures = f"{own:.4f} bits per byte against {floor:.4f}"
    return Decision(False, f"Not better than knowing only how often each byte is in the training text: {figures}.")


def decide(paired: Paired, cfg: EvaluateConfig) -> Decision:
    """Decide whether the challenger becomes champion.

    It does if its bits per byte, averaged over the languages with equal weight, are lower with the whole interval
    below zero, and no language is worse with its whole interval above zero.

    Args:
        paired: Scores of both.
        cfg: Resamples, confidence and seed.
    """
    if not np.isfinite(paired.challenger).all():
        return Decision(False, NOT_FINITE)
    if not paired.n_bytes.sum():
        return Decision(False, "There is no held-out text to compare on.")
    languages, resampled = _by_language(paired, cfg)
    overall = _overall(languages, resampled, cfg)
    worse = [name for name, interval in languages.items() if interval.low > 0]
    percent = f"{100 * cfg.confidence:g} % interval {overall.low:+.4f} to {overall.high:+.4f}"
    figures = f"{overall.challenger:.4f} bits per byte against {overall.champion:.4f} ({percent})"
    parts = ", ".join(
        f"{name} {languages[name].challenger:.4f} against {languages[name].champion:.4f}" for name in worse
    )
    if overall.high >= 0:
        reason = f"Not clearly better than the champion: {figures}{'; clearly worse in ' * bool(worse)}{parts}."
    elif worse:
        reason = f"Better overall, {figures}, but clearly worse in {parts}."
    else:
        reason = f"Better than the champion: {figures}, and worse in no language."
    return Decision(overall.high < 0 and not worse, reason, overall, languages)


def decide_memory(paired: Paired, cfg: EvaluateConfig) -> Decision:
    """Decide whether a model uses its new memory: unless it is worse with it, over all or in a language.

    Args:
        paired: Scores of one model, as the challenger's those with the new memory.
        cfg: Resamples, confidence and seed.
    """
    if not paired.n_bytes.sum():
        return Decision(True, "The new memory is used: there is no held-out text to judge it by.")
    languages, resampled = _by_language(paired, cfg)
    overall = _overall(languages, resampled, cfg)
    worse = [name for name, interval in ({"all languages": overall} | languages).items() if interval.low > 0]
    figures = f"{overall.challenger:.4f} bits per byte with it, {overall.champion:.4f} before"
    if worse:
        return Decision(False, f"The new memory is not used: {figures}, worse in {', '.join(worse)}.", overall)
    return Decision(True, f"The new memory is used: {figures}.", overall)


def group_languages(lang_D: Sequence[str], bytes_D: NDArray[np.int64]) -> list[tuple[str, NDArray[np.int64]]]:
    """Return the documents of each language that can decide, sorted by name.

    Languages with fewer than MIN_DOCUMENTS documents are pooled as `other`; where even that pool is too small it is
    left out, unless it is all there is. Empty documents are no evidence.
    """
    langs = np.asarray(lang_D, dtype=np.str_)
    names, counts = np.unique(langs[bytes_D > 0], return_counts=True)
    large = names[counts >= MIN_DOCUMENTS]
    groups = [(str(name), np.flatnonzero((langs == name) & (bytes_D > 0))) for name in large]
    rest = np.flatnonzero(~np.isin(langs, large) & (bytes_D > 0))
    if len(rest) >= MIN_DOCUMENTS or not groups:
        groups.append((OTHER, rest))
    return groups


def mean_over_languages(figures: Mapping[str, Mapping[str, Any]], name: str) -> float:
    """Return a figure in bits per byte over all languages, weighed as the gate weighs them.

    Args:
        figures: By language: `documents`, `bytes` and the figure.
        name: Of the figure.
    """
    large = [part for part in figures.values() if part["documents"] >= MIN_DOCUMENTS]
    rest = [part for part in figures.values() if part["documents"] < MIN_DOCUMENTS]
    means = [part[name] for part in large]
    if rest and (not large or sum(part["documents"] for part in rest) >= MIN_DOCUMENTS):
        n_bytes = sum(part["bytes"] for part in rest)
        means.append(math.fsum(part[name] * part["bytes"] for part in rest) / max(n_bytes, 1))
    return math.fsum(means) / max(len(means), 1)


def _by_language(paired: Paired, cfg: EvaluateConfig) -> tuple[dict[str, Interval], Floats]:
    """Return each language's interval and its resampled differences, shape (languages, R)."""
    languages, resampled = {}, []
    for number, (name, chosen) in enumerate(group_languages(paired.lang, paired.n_bytes)):
        size, champion, challenger = paired.n_bytes[chosen], paired.champion[chosen], paired.challenger[chosen]
        rng = np.random.default_rng([cfg.seed, number])
        differences = resample_differences(challenger - champion, size, cfg.bootstrap, rng)
        resampled.append(differences)
        bits = math.log(2) * float(size.sum())
        low, high = _interval(differences, cfg)
        languages[name] = Interval(
            documents=len(chosen),
            champion=float(champion.sum()) / bits,
            challenger=float(challenger.sum()) / bits,
            difference=float((challenger - champion).sum()) / bits,
            low=low,
            high=high,
        )
    return languages, np.stack(resampled)


def resample_differences(nats_D: Floats, bytes_D: NDArray[np.int64], n: int, rng: np.random.Generator) -> Floats:
    """Return `n` differences in bits per byte, each over documents drawn with replacement; shape (n,)."""
    documents = len(nats_D)
    out = np.empty(n)
    # Counts of one block stay near 32 MB.
    block = max(1, 4_000_000 // documents)
    for start in range(0, n, block):
        counts_RD = rng.multinomial(documents, np.full(documents, 1 / documents), size=min(block, n - start))
        out[start : start + block] = (counts_RD @ nats_D) / (math.log(2) * (counts_RD @ bytes_D))
    return out


def _overall(languages: dict[str, Interval], resampled: Floats, cfg: EvaluateConfig) -> Interval:
    """Return the mean over languages, each with the same weight."""
    low, high = _interval(resampled.mean(axis=0), cfg)
    rows = languages.values()
    means = {
        name: math.fsum(getattr(row, name) for row in rows) / len(rows)
        for name in ("champion", "challenger", "difference")
    }
    return Interval(sum(row.documents for row in rows), **means, low=low, high=high)


def _interval(differences: Floats, cfg: EvaluateConfig) -> tuple[float, float]:
    tail = (1 - cfg.confidence) / 2
    low, high = np.quantile(differences, [tail, 1 - tail])
    return float(low), float(high)
