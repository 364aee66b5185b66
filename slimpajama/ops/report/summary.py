"""What a night came to, in the few lines that a person reads first."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from slimpajama.apps.tune.stage import TuneReport
from slimpajama.core.format import decimal, excerpt
from slimpajama.core.page import HAN, plain_facts
from slimpajama.core.result import NOTHING_NEW, PROMOTED, REJECTED, UNTRAINED, Result
from slimpajama.model.evaluate.stage import EvaluateReport
from slimpajama.model.generate.stage import GenerateReport
from slimpajama.ops.report.tuning import asked, given, in_order
from slimpajama.workspace import layout

# The summary shows so many characters of a text that an application was given or wrote.
SHOWN = 200
# It names so many things that went wrong.
MOST = 5
# A language with fewer held-out documents has its figure in the report, but not in the summary.
FEW = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class NightSummary(Result):
    """Outcome of a nightly run."""

    night: str
    outcome: str
    """`New champion`, `Rejected`, `Nothing trained`, `Nothing new` or `Skipped`."""
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
    network_bits_per_byte: dict[str, float] = field(default_factory=dict)
    """The same of its network alone, without its memory; empty where there is none."""
    problems: list[str] = field(default_factory=list)
    """What went wrong, by source and rule, a line each."""
    samples: dict[str, str] = field(default_factory=dict)
    """One text by language, prompt included."""
    tuned: str = ""
    """Where the model lies that the champion was tuned to; empty where it was not."""
    examples: list[dict[str, str]] = field(default_factory=list)
    """Of each application and language one test pair: `asked`, `given`, `written`, `reference`."""

    def text(self) -> str:
        """Return lines for the terminal."""
        alone = {lang: f" (network alone {decimal(bits)})" for lang, bits in self.network_bits_per_byte.items()}
        bits = ", ".join(f"{lang} {decimal(value)}{alone.get(lang, '')}" for lang, value in self.bits_per_byte.items())
        facts = {"night": f"{self.night}: {self.verdict}"}
        facts |= {name: getattr(self, name) for name in ("corpus", "model", "champion", "tuned", "report")}
        facts |= {"bits/byte": bits} | {f"text {lang}": text for lang, text in self.samples.items()}
        more = len(self.problems) - MOST
        shown = [*self.problems[:MOST], *([f"{more:,} more: see the report"] if more > 0 else [])]
        blocks = [facts, *({"went wrong" if not number else "": line} for number, line in enumerate(shown))]
        for example in self.examples:
            texts = {name: excerpt(example[name], SHOWN) for name in ("given", "written", "reference")}
            blocks.append({"test pair": example["asked"]} | texts)
        return "\n\n".join(map(plain_facts, blocks))


def nothing_new(night: str, champion: str | None) -> NightSummary:
    """Return the summary of a night that found no new or changed file."""
    verdict = "no new or changed file, nothing trained"
    return NightSummary(night=night, outcome=NOTHING_NEW, verdict=verdict, champion=champion or "")


def outcome(evaluation: EvaluateReport) -> str:
    """Return what came of a model, in the words of a run's last state."""
    return PROMOTED if evaluation.promote else REJECTED


def summarise_night(uri: str, night: str, champion: str | None, reports: Mapping[str, Any]) -> NightSummary:
    """Return the summary of a published night of the workspace at `uri`.

    `reports` has what the steps after the publication reported, by their names; what was not done is missing.
    """
    summary = NightSummary(
        night=night,
        outcome=UNTRAINED,
        verdict="all new documents were known or too poor, nothing trained",
        champion=champion or "",
        corpus=f"{uri}/{layout.night(night).path}",
        report=f"{uri}/{layout.report(night).page}",
    )
    if "evaluate" not in reports:
        return summary
    evaluation: EvaluateReport = reports["evaluate"]
    samples: GenerateReport = reports["generate"]
    tuning: TuneReport | None = reports.get("tune")
    languages = evaluation.figures["languages"]
    return replace(
        summary,
        outcome=outcome(evaluation),
        verdict=evaluation.reason,
        model=f"{uri}/{layout.model(evaluation.model).path}",
        bits_per_byte={
            lang: figures["bits_per_byte"] for lang, figures in languages.items() if figures["documents"] >= FEW
        },
        network_bits_per_byte={
            lang: figures["network_bits_per_byte"]
            for lang, figures in languages.items()
            if figures["documents"] >= FEW
            and figures.get("network_bits_per_byte", figures["bits_per_byte"]) != figures["bits_per_byte"]
        },
        samples=_one_a_language(samples.samples, evaluation.model),
        tuned=f"{uri}/{layout.tuned(tuning.model).path}" if tuning else "",
        examples=_one_a_kind(tuning) if tuning else [],
    )


def _one_a_kind(tuning: TuneReport) -> list[dict[str, str]]:
    """Return the first sample of each task and language."""
    chosen: dict[tuple[str, str], dict[str, str]] = {}
    for sample in in_order(tuning.scores["samples"]):
        example = {"asked": asked(sample), "given": given(sample)}
        example |= {"written": sample["output"], "reference": sample["reference"]}
        chosen.setdefault((sample["task"], sample["target_lang"]), example)
    return list(chosen.values())


def _one_a_language(samples: list[dict[str, Any]], model: str) -> dict[str, str]:
    chosen: dict[str, str] = {}
    for sample in samples:
        if sample["model"] == model:
            chosen.setdefault("zh" if HAN.search(sample["prompt"]) else "en", sample["prompt"] + sample["text"])
    return chosen
