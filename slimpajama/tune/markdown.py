"""A tuning's report in markdown, for the artifact of a Prefect run; every text of a corpus is escaped."""

from __future__ import annotations

from typing import Any

from slimpajama.report.markdown import escape
from slimpajama.report.text import excerpt
from slimpajama.tune.metrics import MAIN

__all__ = ["render"]

SHOWN = 300  # characters of a text


def render(report: dict[str, Any]) -> str:
    """Return the measures, the gates' decisions, and samples side by side.

    Args:
        report: `TuneReport.as_dict()`.
    """
    scores = report["scores"]
    lines = [f"## {escape(report['model'])}", "", "| task | to | measure | 95 % | pairs | copied | length |"]
    lines.append("|---|---|---|---|---|---|---|")
    for task, languages in scores["tasks"].items():
        for lang, found in languages.items():
            low, high = found["interval"]
            lines.append(
                f"| {task} | {escape(lang)} | {MAIN[task]} {found[MAIN[task]]:.1f} | {low:.1f} to {high:.1f} "
                f"| {found['n']:,} | {found['copied']:.0f} % | {found['length']:.2f} |"
            )
    lines += ["", *(f"- **{task}**: {escape(one['reason'])}" for task, one in report["decisions"].items()), ""]
    lines += ["", "<table><tr><th>given</th><th>written</th><th>reference</th></tr>"]
    for sample in scores["samples"]:
        given = f"{sample['question']} … {sample['source']}" if sample["question"] else sample["source"]
        cells = (escape(excerpt(text, SHOWN)) for text in (given, sample["output"], sample["reference"]))
        lines.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    return "\n".join([*lines, "</table>", ""])
