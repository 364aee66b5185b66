"""What the models of a night wrote, as a section of its page."""

from collections.abc import Mapping
from typing import Any

from slimpajama.core.format import share
from slimpajama.core.page import Quote, Quotes, Section, Span


def samples(report: Mapping[str, Any]) -> Section:
    """Return what both models wrote, by prompt."""
    prompts: dict[str, list[Quote]] = {}
    for sample in report["samples"]:
        role = "new model" if sample["role"] == "challenger" else "champion"
        copied = sample["copied_share"]
        said = "copies not looked for" if copied is None else f"{share(copied)} copied from the corpus"
        note = f"{share(sample['repeated_share'])} repeated, {said}"
        spans = [Span(sample["prompt"], "prompt"), Span(sample["text"])]
        prompts.setdefault(sample["prompt"], []).append(Quote(spans, role, note=note))
    note = "The same prompts and the same seed for both models."
    if report["natural_repetition"]:
        natural = ", ".join(f"{lang} {share(value)}" for lang, value in report["natural_repetition"].items())
        note += f" Held-out text of the same length repeats itself by {natural}."
    return Section("Generated text", [Quotes(quotes) for quotes in prompts.values()], "samples", note)
