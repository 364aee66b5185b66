"""What a tuning came to, as rows for people.

A tuning is what `TuneReport.as_dict()` gives, and `tuning` in the night's report: `model`, `base`, `scores`,
`decisions`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from slimpajama.ops.report.format import MEASURES, number

Tuning = Mapping[str, Any]


def task_rows(tuning: Tuning) -> list[dict[str, Any]]:
    """Return a row a task and language: `task`, `lang`, `measure`, what decided with its interval, and the rest."""
    rows = []
    for task, ((decides, name), *others) in ((task, measures.items()) for task, measures in MEASURES.items()):
        for lang, found in tuning["scores"]["tasks"].get(task, {}).items():
            low, high = found["interval"]
            rows.append(
                {
                    "task": task,
                    "lang": lang,
                    "measure": name,
                    "score": f"{found[decides]:.1f}",
                    "interval": f"{low:.1f} to {high:.1f}",
                    "pairs": number(found["n"]),
                    "others": ", ".join(f"{name} {found[key]:.1f}" for key, name in others if key in found),
                    "copied": f"{found['copied']:.0f} %",
                    "length": f"{found['length']:.2f}",
                }
            )
    return rows


def reason_rows(tuning: Tuning) -> list[dict[str, str]]:
    """Return why the model serves a task from now on, or not: `task`, `reason`."""
    decisions = tuning["decisions"]
    return [{"task": task, "reason": decisions[task]["reason"]} for task in MEASURES if task in decisions]


def way_rows(tuning: Tuning) -> list[dict[str, str]]:
    """Return how each kind of text is made from sources of a language: `kind`, `lang`, `way`."""
    ways = ((*key.rpartition("/"), way) for key, way in sorted(tuning["scores"]["ways"].items()))
    return [{"kind": kind, "lang": lang, "way": way} for kind, _, lang, way in ways]


def in_order(samples: Sequence[Mapping[str, str]]) -> list[Mapping[str, str]]:
    """Return samples with the tasks in the order that they are always named in."""
    return sorted(samples, key=lambda sample: list(MEASURES).index(sample["task"]))


def asked(sample: Mapping[str, str]) -> str:
    """Return what a sample's application was to do."""
    names = {"summarization": "summary", "question-answering": "answer"}
    return names.get(sample["task"], f"translation to {sample['target_lang']}")


def given(sample: Mapping[str, str]) -> str:
    """Return what a sample's application was given: a text, a question before it where there is one."""
    return f"{sample['question']} … {sample['source']}" if sample["question"] else sample["source"]
