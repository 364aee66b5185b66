"""Parts of the report in Markdown, for the artifacts of a Prefect run."""

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from slimpajama.core.format import number, share, size, visible
from slimpajama.core.page import Section, full_width, markdown
from slimpajama.ops.report import page
from slimpajama.ops.report.problems import problems
from slimpajama.ops.report.samples import samples
from slimpajama.ops.report.tuning import IN_ARTIFACT, tuning, tuning_finding
from slimpajama.workspace import layout

FLOW = """## The flow of a night

```mermaid
flowchart TB
  raw[raw files] --> ingest --> clean --> dedup --> words[segment] --> shards
  history[(earlier nights)] --> dedup
  clean -. reason .-> removed[(removed)]
  dedup -. partner .-> removed
  shards --> train --> evaluate --> gate{better?}
  champion[(champion)] -- warm start --> train
  gate -- yes --> champion
  gate --> generate --> report
```

The new UI, at `/v2`, draws this graph; the classic one shows how it is written.
"""


def artifacts(report: Mapping[str, Any], uri: str, named: Callable[[str], str] = str) -> dict[str, str]:
    """Return Markdown by artifact name, in the order in which to read them; parts that a night lacks are left out.

    Args:
        report: As `collect` returns it.
        uri: Of the workspace; each part ends with a link to the file that it was made of.
        named: Returns the name under which a file of the workspace lies.
    """
    night = layout.night(report["night"])
    shown, removed = layout.report(report["night"]), night.removed.removesuffix("/")
    model, tuned = report["verdict"]["challenger"], report["tuning"]
    sections = {
        "verdict": (_verdict(report), shown.page),
        "problems": (problems(report), removed),
        "funnel": (page.funnel(report), night.manifest),
        "removed": (page.removed(report), removed),
        "duplicates": (page.duplicates(report), removed),
        "training": (page.training(report), layout.model(model).file("training.json")),
        "samples": (samples(report), shown.samples),
    }
    if tuned:
        sections["applications"] = tuning(tuned, IN_ARTIFACT), layout.tuned(tuned["model"]).file("scores.json")
    texts = {name: (markdown(section), path) for name, (section, path) in sections.items() if section.blocks}
    texts["flow"] = FLOW, night.path
    return {name: f"{text}\n{_link(f'{uri}/{named(path)}')}\n" for name, (text, path) in texts.items()}


def descriptions(report: Mapping[str, Any]) -> dict[str, str]:
    """Return what each artifact found in one line, by its name: what the UI shows of it in a list."""
    found, *_, kept = report["funnel"]["levels"]
    rules = sorted(report["rules"], key=lambda rule: -rule["documents"])
    alike = report["duplicates"]
    repeated = [one["repeated_share"] for one in report["samples"] if one["role"] == "challenger"]
    removed = f"{number(found['documents'] - kept['documents'])} documents removed"
    most = f", most by {rules[0]['rule']} ({number(rules[0]['documents'])})" if rules else ""
    wrong = report.get("problems", [])
    unusual = sum(row["unusual"] for row in report["drift"])
    itself = f"; the new model repeats itself by {share(sum(repeated) / len(repeated))}" if repeated else ""
    return {
        "verdict": f"{page.LABELS[report['verdict']['status']]}: {report['verdict']['reason']}",
        "problems": "; ".join(f"{one['source']}: {number(one['records'])} by {one['rule']}" for one in wrong),
        "funnel": f"{number(kept['documents'])} of {number(found['documents'])} documents kept, {size(kept['bytes'])};"
        f" {unusual or 'no'} measures are unusual.",
        "removed": f"{removed}{most}.",
        "duplicates": f"{number(alike['documents'])} documents resembled another one,"
        f" {number(alike['of_earlier_nights'])} of them one of an earlier night.",
        "training": page.training(report).note,
        "samples": f"{len(report['samples'])} texts{itself}.",
        "applications": tuning_finding(report["tuning"]) if report["tuning"] else "",
        "flow": "What a night does, and in which order.",
    }


def _verdict(report: Mapping[str, Any]) -> Section:
    """Return the decision, the two models it is about, and their scores."""
    # The UI's page has room for one pair of scores.
    verdict, scores = report["verdict"], page.comparison(report, networks=False)
    names = ", ".join(f"{role} {verdict[role]}" for role in ("challenger", "champion") if verdict[role])
    blocks = [text for text in (names, scores.note if scores.blocks else "") if text]
    return Section(
        f"{report['night']}: {page.LABELS[verdict['status']]}",
        [*blocks, *scores.blocks] or ["No model was scored."],
        note=verdict["reason"],
    )


def _link(uri: str) -> str:
    """Return a link, and beside it the path to copy: browsers open no `file:` from a page of HTTP."""
    target = uri if "://" in uri else f"file://{uri}"
    path = visible(uri).replace("`", "\N{FULLWIDTH GRAVE ACCENT}")
    return f"[{full_width(layout.name_of(uri))}]({quote(target, safe=':/')}) `{path}`"
