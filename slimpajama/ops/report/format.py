"""Numbers and names as people read them; a dash stands for what is not known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NONE = "–"
# Of an application, the one that decides first.
MEASURES = {
    "summarization": {"rougeL": "ROUGE-L", "rouge1": "ROUGE-1", "rouge2": "ROUGE-2"},
    "translation": {"chrf": "chrF", "bleu": "BLEU"},
    "question-answering": {"f1": "F1", "exact": "exact match"},
}
LEVELS = {"found": "found", "readable": "readable", "clean": "clean", "unique": "unique", "kept": "kept"}
LABELS = {
    "promoted": "new champion",
    "rejected": "the champion stays",
    "untrained": "nothing trained",
    "pending": "not compared yet",
}


def number(value: float | None) -> str:
    """Return `1,234`."""
    return NONE if value is None else f"{value:,.0f}"


def short(value: float) -> str:
    """Return `2.01 M` from a million on, else `1,234`."""
    return number(value) if value < 1e6 else f"{value / 1e6:,.2f} M"


def size(n_bytes: float | None) -> str:
    """Return `12.3 MB`; units are powers of 1,000."""
    if n_bytes is None:
        return NONE
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n_bytes >= factor:
            return f"{n_bytes / factor:,.1f} {unit}"
    return f"{n_bytes:,.0f} B"


def bits(value: float | None) -> str:
    """Return a ratio with three places."""
    return NONE if value is None else f"{value:.3f}"


def signed(value: float | None) -> str:
    """Return a difference with its sign and four places; the minus is a real one."""
    return NONE if value is None else f"{value:+.4f}".replace("-", "\N{MINUS SIGN}")


def sentence_share(value: float | None, places: int = 1) -> str:
    """Return a share as `12.3 %`."""
    return NONE if value is None else f"{100 * value:.{places}f} %"


def natural_repetition(report: Mapping[str, Any]) -> str:
    """Return a sentence that says how much held-out text repeats itself; empty where that is not known."""
    shares = [f"{lang} {sentence_share(share)}" for lang, share in report["natural_repetition"].items()]
    return f"Held-out text of the same length repeats itself by {', '.join(shares)}." if shares else ""


def percent(value: float) -> str:
    """Return a share as CSS writes it, within 0 and 100."""
    return f"{100 * min(1.0, max(0.0, value)):.2f}%"
