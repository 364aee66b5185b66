"""What a night came to, in the few lines that a person reads first."""

from __future__ import annotations

import unicodedata
from dataclasses import asdict, dataclass, field
from typing import Any

from slimpajama.errors import printable
from slimpajama.evaluate.stage import EvaluateReport
from slimpajama.generate.stage import GenerateReport

__all__ = ["NightSummary", "nothing_new", "summarise_night"]

FEW = 5  # held-out documents; a language with fewer has a figure in the report, not in these lines


@dataclass(frozen=True, slots=True, kw_only=True)
class NightSummary:
    """Outcome of a nightly run."""

    night: str
    verdict: str
    """One sentence."""
    corpus: str = ""
    """Where the night's files lie; empty where there was nothing new."""
    model: str = ""
    """Where the night's model lies; empty where none was trained."""
    champion: str = ""
    report: str = ""
    bits_per_byte: dict[str, float] = field(default_factory=dict)
    """Of the night's model on held-out text, by language."""
    samples: dict[str, str] = field(default_factory=dict)
    """One text by language, prompt included."""

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return asdict(self)

    def text(self) -> str:
        """Return lines for the terminal."""
        lines = [("night", f"{self.night}: {self.verdict}")]
        lines += [(name, getattr(self, name)) for name in ("corpus", "model", "champion", "report")]
        bits = ", ".join(f"{lang} {value:.3f}" for lang, value in self.bits_per_byte.items())
        lines += [("bits/byte", bits)] + [(f"text {lang}", printable(t, 2000)) for lang, t in self.samples.items()]
        return "\n".join(f"{name:<10} {value}" for name, value in lines if value)


def nothing_new(night: str, champion: str | None) -> NightSummary:
    """Return the summary of a night that found no new or changed file."""
    return NightSummary(night=night, verdict="no new or changed file, nothing trained", champion=champion or "")


def summarise_night(
    uri: str, night: str, champion: str | None, evaluation: EvaluateReport | None, samples: GenerateReport | None
) -> NightSummary:
    """Return the summary of a published night.

    Args:
        uri: Of the workspace.
        night: Its name.
        champion: Current champion.
        evaluation: None where no model was trained.
        samples: None where no model was trained.
    """
    corpus, report = f"{uri}/nights/{night}", f"{uri}/reports/{night}/report.html"
    if evaluation is None or samples is None:
        verdict = "all new documents were known or too poor, nothing trained"
        return NightSummary(night=night, verdict=verdict, champion=champion or "", corpus=corpus, report=report)
    languages = evaluation.figures["languages"]
    return NightSummary(
        night=night, verdict=evaluation.reason, model=f"{uri}/models/{evaluation.model}", champion=champion or "",
        bits_per_byte={
            lang: figures["bits_per_byte"] for lang, figures in languages.items() if figures["documents"] >= FEW
        },
        samples=_one_a_language(samples.samples, evaluation.model), corpus=corpus, report=report,
    )  # fmt: skip


def _one_a_language(samples: list[dict[str, Any]], model: str) -> dict[str, str]:
    chosen: dict[str, str] = {}
    for sample in samples:
        if sample["model"] == model:
            chosen.setdefault("zh" if _is_chinese(sample["prompt"]) else "en", sample["prompt"] + sample["text"])
    return chosen


def _is_chinese(text: str) -> bool:
    return any(unicodedata.name(char, "").startswith("CJK UNIFIED") for char in text)
