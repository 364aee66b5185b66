"""What a tuning came to: measures, reasons, how each kind of text is made, and samples side by side.

A tuning is what `TuneReport.as_dict()` gives, and `tuning` in the night's report: `model`, `base`, `scores`,
`decisions`.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from slimpajama.core.format import decimal, excerpt, number
from slimpajama.core.page import Block, Column, Quote, Quotes, Section, Span, Table, columns, markdown

# Of each application the measure that decides stands first.
MEASURES = {
    "summarization": {"rougeL": "ROUGE-L", "rouge1": "ROUGE-1", "rouge2": "ROUGE-2"},
    "translation": {"chrf": "chrF", "bleu": "BLEU"},
    "question-answering": {"f1": "F1", "exact": "exact match"},
}
# The report shows so many characters of a text that an application was given or wrote, and an artifact so many.
SHOWN, IN_ARTIFACT = 600, 300

_TASKS = [
    Column("task", "task"),
    Column("to", "lang"),
    Column("pairs", "n", number),
    Column("decides", "decides", partial(decimal, places=1)),
    Column("by", "measure"),
    Column("95 % interval", lambda row: f"{row['interval'][0]:.1f} to {row['interval'][1]:.1f}"),
    Column("also", "also"),
    Column("copied", "copied", "{:.0f} %".format),
    Column("length", "length", partial(decimal, places=2)),
]


def tuning(tuned: Mapping[str, Any], shown: int = SHOWN) -> Section:
    """Return what a tuning came to, with so many characters of each sample's texts."""
    scores, decisions = tuned["scores"], tuned["decisions"]
    reasons = [{"task": task} | decisions[task] for task in MEASURES if task in decisions]
    ways = []
    for key, way in sorted(scores["ways"].items()):
        kind, _, lang = key.rpartition("/")
        ways.append({"kind": kind, "from": lang, "way": way})
    how = "The way that did best on validation pairs, by the language of what is given."
    note = (
        f"What {tuned['base']} made of test pairs after it was tuned: {tuned['model']}. A measure stands with its 95 %"
        " interval; copied is the share of what was written that stands in what was given, length that of the"
        " reference's."
    )
    blocks: list[Block] = [
        Table(list(_measures(scores["tasks"])), _TASKS),
        Table(reasons, columns("task", "reason"), "Does it serve the task from now on?", half=True),
        Table(ways, columns("kind", "from", "way"), "How it is made", how, half=True),
        *(_shown(sample, shown) for sample in in_order(scores["samples"])),
    ]
    return Section("Summaries, translations, answers", blocks, "applications", note)


def tuning_artifact(tuned: Mapping[str, Any]) -> str:
    """Return what a tuning came to in Markdown."""
    return markdown(tuning(tuned, IN_ARTIFACT))


def tuning_finding(tuned: Mapping[str, Any]) -> str:
    """Return what a tuning came to in one line."""
    rows = _measures(tuned["scores"]["tasks"])
    said = [f"{row['task']} {row['lang']} {row['measure']} {row['decides']:.1f}" for row in rows]
    return f"{', '.join(said) or 'nothing was measured'}."


def _measures(tasks: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a row a task and language."""
    for task, ((decides, name), *others) in ((task, measures.items()) for task, measures in MEASURES.items()):
        for lang, found in tasks.get(task, {}).items():
            also = ", ".join(f"{other} {found[key]:.1f}" for key, other in others if key in found)
            yield found | {"task": task, "lang": lang, "decides": found[decides], "measure": name, "also": also}


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


def _shown(sample: Mapping[str, str], characters: int) -> Quotes:
    texts = {"given": given(sample), "written": sample["output"], "reference": sample["reference"]}
    return Quotes([Quote([Span(excerpt(text, characters))], label) for label, text in texts.items()], asked(sample))
