"""Rules a document must pass. Each is a pure function of measured values and returns a verdict or None.

A verdict names the rule, what was measured and what was asked for, so that `explain` can say why.
"""

from __future__ import annotations

from dataclasses import dataclass

from slimpajama.clean.characters import Characters
from slimpajama.config import CleanConfig

__all__ = ["MOSTLY_HAN", "Verdict", "first_verdict", "no_text", "not_a_wanted_language", "too_short"]

MOSTLY_HAN = 0.5  # share of ideographs from which the Chinese bound of length holds


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why a document is removed."""

    rule: str
    value: str
    threshold: str


def no_text(characters: Characters) -> Verdict | None:
    """Remove what is empty, or only punctuation, symbols and white space."""
    return None if characters.content else Verdict("no-content", "0 content characters", "at least 1")


def too_short(characters: Characters, cfg: CleanConfig) -> Verdict | None:
    """Remove short documents, counted without punctuation, symbols and white space.

    Source: SlimPajama README, step 2 (200 characters); for Chinese `CleanConfig.min_chars_han`.
    """
    minimum = cfg.min_chars_han if characters.han_share >= MOSTLY_HAN else cfg.min_chars
    if characters.content >= minimum:
        return None
    return Verdict("short-document", f"{characters.content} content characters", f"at least {minimum}")


def not_a_wanted_language(code: str, cfg: CleanConfig) -> Verdict | None:
    """Remove what is written in a language that the configuration does not list."""
    return None if code in cfg.languages else Verdict("language", code, ", ".join(cfg.languages))


def first_verdict(characters: Characters, code: str, cfg: CleanConfig) -> Verdict | None:
    """Return the first rule that removes a document, or None where it may stay."""
    return no_text(characters) or too_short(characters, cfg) or not_a_wanted_language(code, cfg)
