"""The report in small pieces of markdown, for the artifacts of a Prefect run.

Every value is escaped for markdown and HTML at once: ASCII punctuation that could mean something becomes its
full-width form, which means nothing to any renderer, and what is invisible is spelled out. Entities would be the
book's way, but Prefect's UI shows them as they are inside tables.

Figures stand in markdown's tables, texts in HTML's: the classic UI never breaks a line inside the former.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from slimpajama.ops.report.applications import asked, given, in_order, reason_rows, task_rows, way_rows
from slimpajama.ops.report.format import LABELS, bits, natural_repetition, number, sentence_share, signed, size
from slimpajama.ops.report.plots import loss_curve
from slimpajama.ops.report.text import excerpt, visible

Report = Mapping[str, Any]
FULL_WIDTH = {ord(char): ord(char) + 0xFEE0 for char in "<>&|`*_~\\[]!#@"}
# What some renderer would make a link of.
LINKS = re.compile(r"://|(?i:\bwww\.|\b(?:javascript|data|mailto):)")
# Of a line: a list, or a heading's underline.
BEGINS = re.compile(r"^[-+=](?!\d)")

FLOW = """```mermaid
flowchart TB
  raw[raw files] --> ingest --> clean --> dedup --> words[segment] --> shards
  history[(earlier nights)] --> dedup
  clean -. reason .-> removed[(removed)]
  dedup -. partner .-> removed
  shards --> train --> evaluate --> gate{better?}
  champion[(champion)] -- warm start --> train
  gate -- yes --> champion
  gate --> generate --> report
```"""
FLOW_TEXT = f"""## The flow of a night

{FLOW}

The new UI, at `/v2`, draws this graph; the classic one shows how it is written.
"""


def escape(value: object) -> str:
    """Return a value as one line that any markdown renderer shows as it is."""
    flat = " ".join(visible(str(value)).split())
    flat = LINKS.sub(lambda match: match[0].replace(":", "：").replace(".", "．"), flat)
    return BEGINS.sub(lambda match: chr(ord(match[0]) + 0xFEE0), flat).translate(FULL_WIDTH)


def pieces(report: Report, uri: str) -> dict[str, str]:
    """Return markdown by artifact name, in the order in which to read them; parts that a night lacks are left out.

    Args:
        report: As `collect` returns it.
        uri: Of the workspace; each piece ends with a link to the file that it was made of.
    """
    night, model, tuned = report["night"], report["verdict"]["challenger"], report["tuning"] or {}
    made = {
        "verdict": (_verdict(report), f"reports/{night}/report.html"),
        "funnel": (_funnel(report), f"nights/{night}/manifest.json"),
        "removed": (_rules(report), f"nights/{night}/removed"),
        "duplicates": (_duplicates(report), f"nights/{night}/removed"),
        "training": (_training(report), f"models/{model}/training.json"),
        "samples": (_samples(report), f"reports/{night}/samples.json"),
        "applications": (tuning(tuned) if tuned else "", f"tuned/{tuned.get('model')}/scores.json"),
        "flow": (FLOW_TEXT, f"nights/{night}"),
    }
    return {name: f"{text}\n{_link(f'{uri}/{path}')}\n" for name, (text, path) in made.items() if text}


def _link(uri: str) -> str:
    """Return a link, and beside it the path to copy: browsers open no `file:` from a page of HTTP."""
    target = uri if "://" in uri else f"file://{uri}"
    path = visible(uri).replace("`", "\N{FULLWIDTH GRAVE ACCENT}")
    return f"[{escape(uri.rsplit('/', 1)[-1])}]({quote(target, safe=':/')}) `{path}`"


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
    text = f"## From raw text to tokens\n\n{_table(['after', 'documents', 'text'], all_rows)}\n\n{_drift(report)}"
    nights = [
        [row["night"], *(number(count) for count in row["documents"]), size(row["kept_bytes"]), number(row["tokens"])]
        for row in reversed(report["history"])
    ]
    text += f"\n{_table(['night', *levels, 'text kept', 'tokens'], nights)}\n"
    for title in ("sources", "languages"):
        rows = [
            [row["name"], *(number(count) for count in row["documents"]), size(row["kept_bytes"])]
            for row in funnel[title]
        ]
        text += f"\n{_table([title, *levels, 'text kept'], rows)}\n"
    return text


def _drift(report: Report) -> str:
    """Return what is unusual against the nights before, or that nothing is."""
    before = len(report["history"]) - 1
    unusual = [row for row in report["drift"] if row["unusual"]]
    if not report["drift"]:
        return f"### Against {before} earlier night{'' if before == 1 else 's'}: too few to call anything unusual\n"
    if not unusual:
        return f"### Against {before} earlier nights: nothing unusual\n"
    rows = [
        [f"⚠ {row['measure']}", *(bits(row[name]) for name in ("tonight", "median", "low", "high"))] for row in unusual
    ]
    table = _table(["measure", "tonight", "median", "lowest", "highest"], rows)
    return f"### Against {before} earlier nights: {len(unusual)} unusual\n\n{table}\n"


def _rules(report: Report) -> str:
    rows = [[rule["rule"], rule["stage"], rule["threshold"], number(rule["documents"])] for rule in report["rules"]]
    if not rows:
        return "## Removed, and why\n\nNothing was removed.\n"
    texts = [["document, measured (threshold)", "text"]]
    for rule in report["rules"]:
        texts.append([f"<b>{escape(rule['rule'])}</b>"])
        texts += [
            [f"{_place(sample)}<br>{escape(_measured(sample))}", escape(excerpt(sample["excerpt"], 160))]
            for sample in rule["samples"]
        ]
    table = _table(["rule", "stage", "threshold", "documents"], rows, numbers_from=3)
    return f"## Removed, and why\n\n{table}\n\n### Samples\n\n{_texts(texts)}\n"


def _measured(sample: Report) -> str:
    return f"{sample['value']} ({sample['threshold']})" if sample["threshold"] else sample["value"]


def _texts(rows: Iterable[Sequence[str]]) -> str:
    """Return an HTML table of cells that are escaped already, its head first; a cell alone in its row is a title."""
    head, *body = rows
    lines = [_row("th", head)]
    lines += [_row("td", row, len(head) if len(row) == 1 else 1) for row in body]
    return "\n".join(["<table>", *lines, "</table>"])


def _row(tag: str, cells: Sequence[str], span: int = 1) -> str:
    made = (f'<{tag} align="left" valign="top" colspan="{span}">{cell}</{tag}>' for cell in cells)
    return f"<tr>{''.join(made)}</tr>"


def _place(document: Report) -> str:
    return escape(f"{document['id'][:8]} {document['uri']}")


def _duplicates(report: Report) -> str:
    rows = [["kept", "removed"]]
    for pair in report["duplicates"]["pairs"]:
        night = pair["kept"]["night"]
        since = f", kept since {escape(night)}" if night not in ("", report["night"]) else ""
        rows.append([f"<b>{bits(pair['jaccard'])} {escape(pair['rule'])}</b>{since}"])
        rows.append([f"{_place(pair[name])}<br>{_marked(pair[name]['segments'])}" for name in ("kept", "removed")])
    title = "## Near-duplicates, where they first part\n\nSimilarity from 0 to 1; in bold what the other one lacks."
    return f"{title}\n\n{_texts(rows)}\n" if rows[1:] else ""


def _marked(segments: Sequence[Report]) -> str:
    if not segments:
        return "no longer in the workspace"
    texts = [(segment["differs"], _with_ends(segment["text"])) for segment in segments]
    return "".join(f"<b>{text}</b>" if differs else text for differs, text in texts)


def _with_ends(text: str) -> str:
    """Return a text escaped, with the blanks at its ends."""
    first, last = (" " if end.isspace() else "" for end in (text[:1], text[-1:]))
    return f"{first}{escape(text)}{last}"


def _training(report: Report) -> str:
    training = report["training"]
    if not training:
        return ""
    svg = loss_curve(training["curve"], training["validation"])
    image = base64.b64encode(svg.encode()).decode()
    begun = f"starting from {escape(training['started_from'])}" if training["started_from"] else "from random weights"
    text = f"{number(training['tokens'])} tokens in {number(training['steps'])} steps, {begun}"
    return f'## Training\n\n{text}\n\n<img alt="loss curve" src="data:image/svg+xml;base64,{image}">\n'


def _samples(report: Report) -> str:
    roles = {
        sample["role"]: "new model" if sample["role"] == "challenger" else "champion" for sample in report["samples"]
    }
    if not roles:
        return ""
    prompts: dict[str, dict[str, str]] = {}
    for sample in report["samples"]:
        prompts.setdefault(sample["prompt"], {})[sample["role"]] = escape(sample["text"])
    rows = [list(roles.values())]
    for prompt, texts in prompts.items():
        rows += [[f"<b>{escape(prompt)}</b> …"], [texts.get(role, "") for role in roles]]
    natural = f"{natural_repetition(report)}\n\n" if report["natural_repetition"] else ""
    return f"## Generated text\n\n{natural}{_texts(rows)}\n"


def tuning(tuned: Report) -> str:
    """Return a tuning's measures, the gates' reasons, how each kind of text is made, and samples side by side.

    Args:
        tuned: `TuneReport.as_dict()`, or `tuning` of a night's report.
    """
    names = ("task", "lang", "measure", "others", "score", "interval", "pairs", "copied", "length")
    head = ["task", "to", "decides", "also", "", "95 %", "pairs", "copied", "length"]
    text = f"## Applications\n\n{escape(tuned['model'])}\n\n"
    text += f"{_table(head, ([row[name] for name in names] for row in task_rows(tuned)), numbers_from=4)}\n\n"
    text += "".join(f"- **{escape(row['task'])}**: {escape(row['reason'])}\n" for row in reason_rows(tuned))
    ways = ([row["kind"], row["lang"], row["way"]] for row in way_rows(tuned))
    text += f"\n{_table(['kind', 'from', 'way'], ways)}\n\n"
    rows = [["given", "written", "reference"]]
    for sample in in_order(tuned["scores"]["samples"]):
        shown = (given(sample), sample["output"], sample["reference"])
        rows += [[f"<b>{escape(asked(sample))}</b>"], [escape(excerpt(text, 300)) for text in shown]]
    return f"{text}{_texts(rows)}\n"
