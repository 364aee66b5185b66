"""The report in small pieces of markdown, for the artifacts of a Prefect run.

Every value is escaped for markdown and HTML at once: ASCII punctuation that could mean something becomes its
full-width form, which means nothing to any renderer, and what is invisible is spelled out. Entities would be the
book's way, but Prefect's UI shows them as they are inside tables.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from slimpajama.report.plots import loss_curve
from slimpajama.report.text import excerpt, visible
from slimpajama.report.wording import LABELS, bits, natural_repetition, number, sentence_share, signed, size

__all__ = ["FLOW", "escape", "pieces"]

Report = Mapping[str, Any]
FULL_WIDTH = {ord(char): ord(char) + 0xFEE0 for char in "<>&|`*_~\\[]!#@"}
LINKS = re.compile(r"://|(?i:\bwww\.|\b(?:javascript|data|mailto):)")  # what some renderer would make a link of
BEGINS = re.compile(r"^[-+=]")  # of a line: a list, or a heading's underline

FLOW = """```mermaid
flowchart LR
  raw[raw files] --> ingest --> clean --> dedup --> words[segment] --> shards
  history[(earlier nights)] --> dedup
  clean -. reason .-> removed[(removed)]
  dedup -. partner .-> removed
  shards --> train --> evaluate --> gate{better?}
  champion[(champion)] -- warm start --> train
  gate -- yes --> champion
  gate --> generate --> report
```"""


def escape(value: object) -> str:
    """Return a value as one line that any markdown renderer shows as it is."""
    flat = " ".join(visible(str(value)).split())
    flat = LINKS.sub(lambda match: match[0].replace(":", "：").replace(".", "．"), flat)
    return BEGINS.sub(lambda match: chr(ord(match[0]) + 0xFEE0), flat).translate(FULL_WIDTH)


def pieces(report: Report) -> dict[str, str]:
    """Return markdown by artifact name, in the order in which to read them; parts that a night lacks are left out."""
    made = {
        "verdict": _verdict(report),
        "funnel": _funnel(report),
        "removed": _rules(report),
        "duplicates": _duplicates(report),
        "training": _training(report),
        "samples": _samples(report),
        "flow": f"## The flow of a night\n\n{FLOW}\n",
    }
    return {name: text for name, text in made.items() if text}


def _table(head: Sequence[str], rows: Iterable[Sequence[object]], numbers_from: int = 1) -> str:
    """Return a table; columns from number `numbers_from` on are set to the right."""
    rule = ["---:" if place >= numbers_from else "---" for place in range(len(head))]
    lines = [head, rule, *([escape(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _verdict(report: Report) -> str:
    verdict = report["verdict"]
    text = f"## {escape(report['night'])}: {LABELS[verdict['status']]}\n\n{escape(verdict['reason'])}\n"
    names = [f"{role} {escape(verdict[role])}" for role in ("challenger", "champion") if verdict[role]]
    text += f"\n{', '.join(names)}\n" if names else ""
    if verdict["languages"]:
        parts = verdict["languages"] | {"all": verdict["overall"]}
        rows = [[name, *_interval(part)] for name, part in parts.items()]
        head = ["bits per byte", "documents", "champion", "new model", "difference", "interval"]
        text += f"\n{_table(head, rows)}\n"
    elif report["evaluation"]:
        languages = report["evaluation"]["challenger"]["languages"]
        rows = [[name, number(part["documents"]), bits(part["bits_per_byte"])] for name, part in languages.items()]
        text += f"\n{_table(['bits per byte', 'documents', 'new model'], rows)}\n"
    return text + _restored(report)


def _interval(part: Report) -> list[str]:
    scores = (bits(part["champion"]), bits(part["challenger"]), signed(part["difference"]))
    return [number(part["documents"]), *scores, f"{signed(part['low'])} to {signed(part['high'])}"]


def _restored(report: Report) -> str:
    figures = report["evaluation"] or {"challenger": {"languages": {}}}
    parts = [
        f"{escape(name)} {sentence_share(part['token_accuracy'], 2)} (every token of"
        f" {sentence_share(part.get('document_accuracy'))} of the documents)"
        for name, part in figures["challenger"]["languages"].items()
        if "token_accuracy" in part
    ]
    return f"\nTokens restored exactly from the bottleneck: {', '.join(parts)}\n" if parts else ""


def _funnel(report: Report) -> str:
    funnel = report["funnel"]
    levels = [level["name"] for level in funnel["levels"]]
    all_rows = [[level["name"], number(level["documents"]), size(level["bytes"])] for level in funnel["levels"]]
    text = f"## From raw text to tokens\n\n{_table(['after', 'documents', 'text'], all_rows)}\n"
    for title in ("sources", "languages"):
        rows = [
            [row["name"], *(number(count) for count in row["documents"]), size(row["kept_bytes"])]
            for row in funnel[title]
        ]
        text += f"\n{_table([title, *levels, 'text kept'], rows)}\n"
    nights = [
        [row["night"], *(number(count) for count in row["documents"]), size(row["kept_bytes"]), number(row["tokens"])]
        for row in reversed(report["history"])
    ]
    return f"{text}\n{_table(['night', *levels, 'text kept', 'tokens'], nights)}\n{_drift(report)}"


def _drift(report: Report) -> str:
    rows = [
        [row["measure"], *(bits(row[name]) for name in ("tonight", "median", "low", "high"))]
        for row in report["drift"]
        if row["unusual"]
    ]
    if not rows:
        return ""
    return f"\nUnusual tonight:\n\n{_table(['measure', 'tonight', 'median', 'lowest', 'highest'], rows)}\n"


def _rules(report: Report) -> str:
    rows = [
        [rule["rule"], rule["stage"], rule["threshold"], number(rule["documents"]), _excerpts(rule["samples"])]
        for rule in report["rules"]
    ]
    table = _table(["rule", "stage", "threshold", "documents", "samples"], rows, numbers_from=5)
    return f"## Removed, and why\n\n{table}\n" if rows else "## Removed, and why\n\nNothing was removed.\n"


def _excerpts(samples: Iterable[Report]) -> str:
    return " / ".join(f"{s['id'][:8]}: {excerpt(s['excerpt'] or s['value'], 60)}" for s in samples)


def _duplicates(report: Report) -> str:
    blocks = []
    for pair in report["duplicates"]["pairs"]:
        sides = [f"> {name}: {_side(pair[name])}" for name in ("kept", "removed")]
        blocks.append("\n\n".join([f"**{bits(pair['jaccard'])}** {escape(pair['rule'])}", *sides]))
    return "## Near-duplicates, where they first part\n\n" + "\n\n".join(blocks) + "\n" if blocks else ""


def _side(side: Report) -> str:
    return escape(f"{side['id'][:8]} ({side['uri']}): {_joined(side)}")


def _joined(side: Report) -> str:
    return excerpt("".join(segment["text"] for segment in side["segments"]), 200) or "no longer in the workspace"


def _training(report: Report) -> str:
    training = report["training"]
    if not training:
        return ""
    svg = loss_curve(training["curve"], training["validation"])
    image = base64.b64encode(svg.encode()).decode()
    text = f"{number(training['tokens'])} tokens in {number(training['steps'])} steps"
    return f'## Training\n\n{text}\n\n<img alt="loss curve" src="data:image/svg+xml;base64,{image}">\n'


def _samples(report: Report) -> str:
    blocks = [
        f"**{'new model' if sample['role'] == 'challenger' else 'champion'}:** "
        f"*{escape(sample['prompt'])}* {escape(sample['text'])}"
        for sample in report["samples"]
    ]
    natural = f"\n{natural_repetition(report)}\n" if report["natural_repetition"] else ""
    return "## Generated text\n" + natural + "\n" + "\n\n".join(blocks) + "\n" if blocks else ""
