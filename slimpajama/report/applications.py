"""What a tuning came to, as rows for people.

A tuning is what `TuneReport.as_dict()` gives, and `tuning` in the night's report: `model`, `base`, `scores`,
`decisions`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slimpajama.report.wording import MEASURES, number

__all__ = ["asked", "bits_rows", "given", "task_rows"]

Tuning = Mapping[str, Any]


def task_rows(tuning: Tuning) -> list[dict[str, Any]]:
    """Return a row a task and language: `task`, `lang`, `measure`, what decided with its interval, and the rest."""
    rows = []
    for task, languages in tuning["scores"]["tasks"].items():
        (decides, name), *others = MEASURES[task].items()
        for lang, found in languages.items():
            low, high = found["interval"]
            rows.append(
                {
                    "task": task, "lang": lang, "measure": name, "score": f"{found[decides]:.1f}",
                    "interval": f"{low:.1f} to {high:.1f}", "pairs": number(found["n"]),
                    "others": ", ".join(f"{name} {found[key]:.1f}" for key, name in others if key in found),
                    "copied": f"{found['copied']:.0f} %", "length": f"{found['length']:.2f}",
                }
            )  # fmt: skip
    return rows


def bits_rows(tuning: Tuning) -> list[dict[str, Any]]:
    """Return bits per byte of held-out text by language: `lang`, `before`, `after`, `change`."""
    return [
        {"lang": lang, **both, "change": f"{both['after'] / both['before'] - 1:+.1%}"}
        for lang, both in tuning["scores"]["bits_per_byte"].items()
    ]


def asked(sample: Mapping[str, str]) -> str:
    """Return what a sample's application was to do."""
    names = {"summarization": "summary", "question-answering": "answer"}
    return names.get(sample["task"], f"translation to {sample['target_lang']}")


def given(sample: Mapping[str, str]) -> str:
    """Return what a sample's application was given: a text, a question before it where there is one."""
    return f"{sample['question']} … {sample['source']}" if sample["question"] else sample["source"]
