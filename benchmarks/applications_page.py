"""The page of `benchmarks.applications`: what its parts found, against each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import polars as pl

from benchmarks.baselines import DESCRIPTIONS
from benchmarks.machine import conditions, table
from benchmarks.training import PEERS
from slimpajama.apps.tune.metrics import MAIN, interval, score
from slimpajama.apps.tune.metrics import measure as mean_of
from slimpajama.core.format import excerpt
from slimpajama.core.page import full_width

OURS, BART, UNTRAINED = "ours", "bart", "baselines"
PARTS = (OURS, BART, UNTRAINED)
# Of counting the dictionary, which BART has on top.
DICTIONARY_MINUTES = 2
# Characters of a source, and examples a task and language.
SHOWN, EXAMPLES = 200, 3
LR_NOTE = """\
Of 5e-4, 1e-3 and 2e-3 at
  4,096 tokens a step and 1e-3 and 2e-3 at 1,024, three minutes each, the losses on validation pairs were 7.62, 7.62,
  7.63, 7.64 and 7.65 nats a token: 1e-3 at 4,096 was taken"""
WHAT = {
    OURS: "the preset `small`, trained on the text, then tuned",
    BART: "BartForConditionalGeneration, trained on the pairs",
    **DESCRIPTIONS,
}

Kind = tuple[str, str]
"""Task and target language."""
Scores = dict[str, list[dict[str, float]]]
"""Measures of each output, by side."""


def outputs_of(found: Mapping[str, dict[str, Any]]) -> dict[str, list[str | None]]:
    """Return what each side wrote, ours first."""
    return {side: outputs for part in PARTS if part in found for side, outputs in found[part]["outputs"].items()}


def scores_of(tests: pl.DataFrame, found: Mapping[str, dict[str, Any]]) -> dict[Kind, Scores]:
    """Return every output's measures by task and language, then by side; the pairs are the same on all sides."""
    scores: dict[Kind, Scores] = {}
    for side, outputs in outputs_of(found).items():
        for row, output in zip(tests.iter_rows(named=True), outputs, strict=True):
            if output is not None:
                one = score(row["task"], row["target_lang"], row["source"], output, row["targets"])
                scores.setdefault((row["task"], row["target_lang"]), {}).setdefault(side, []).append(one)
    return dict(sorted(scores.items(), key=lambda item: (list(MAIN).index(item[0][0]), item[0][1])))


def write_page(
    minutes: tuple[float, float],
    counts: Mapping[str, Any],
    tests: pl.DataFrame,
    found: Mapping[str, dict[str, Any]],
    about: str,
) -> str:
    """Return the page over all parts that were run.

    Args:
        minutes: Of text, and of pairs, that `ours` was trained.
        counts: Of pairs, by split.
        tests: Test pairs.
        found: What each part came to.
        about: Where the pairs are from.
    """
    scores = scores_of(tests, found)
    lines = [
        "# Applications, measured\n",
        f"`python -m benchmarks.applications --base-minutes {minutes[0]:g} --minutes {minutes[1]:g}`: "
        "summaries, translations and answers\nof one model against BART of its size and against what is not trained."
        " One thread, processor time.\n",
        conditions("torch", "polars", "rouge-score", "sacrebleu", "bm25s", "networkx"),
        f"- BART in an environment of its own: {', '.join(PEERS)}",
        *(f"- `{part}` measured at {row['commit']}, {row['cpu_s'] / 60:.0f} minutes" for part, row in found.items()),
        f"\n## Text and pairs\n\n{about}\n",
        *_data(counts, found),
        "\n## What is compared\n",
        *_sides(minutes, found),
        "\n## Above the others?\n",
        MARK_NOTE,
        table([_mark(kind, sides) for kind, sides in scores.items()]) if OURS in found and len(found) > 1 else "",
        "\n## Measures\n",
        MEASURES_NOTE,
        *(part for kind, sides in scores.items() for part in _measures(kind, sides)),
    ]
    if OURS in found:
        bits = found[OURS]["bits"].items()
        lines += [
            "## The language model after tuning\n",
            "Bits per byte of held-out text:\n",
            table(
                [
                    {"": lang, "before": f"{a:.3f}", "after": f"{b:.3f}", "change": f"{b / a - 1:+.1%}"}
                    for lang, (a, b) in bits
                ]
            ),
        ]
    return "\n".join([*lines, ""])


MARK_NOTE = """\
Ours against the best of the others, by the measure that decides, on the same test pairs: the difference with its 95 %
interval (paired bootstrap, 1,000 resamples). *Above all*: ours is the highest mean; *clearly*: the interval is above 0.
"""
MEASURES_NOTE = """\
In percent, with the 95 % bootstrap interval of the measure that decides. *copied*: 4-grams of the output that stand in
the source; *length*: of the output by the reference's.
"""


def _data(counts: Mapping[str, Any], found: Mapping[str, dict[str, Any]]) -> Iterator[str]:
    splits = ("train", "validation", "test")
    yield table(
        [
            {"pairs": name} | {split: f"{sum(counts['pairs'][split].get(name, {}).values()):,}" for split in splits}
            for name in MAIN
        ]
    )
    yield "\nTranslations are learnt and tested in both directions: each pair is two examples.\n"
    if OURS in found:
        text = found[OURS]["text"].items()
        said = ", ".join(f"{lang} {n:,} documents of {size / 1e6:.1f} MB" for lang, (n, size) in sorted(text))
        yield f"Text that `ours` is trained on before: {said}."
    if UNTRAINED in found:
        met, documents = found[UNTRAINED]["overlap"]
        yield f"Of its {documents:,} documents {met:,} share words in a row with a test pair."


def _sides(minutes: tuple[float, float], found: Mapping[str, dict[str, Any]]) -> Iterator[str]:
    sides = outputs_of(found)
    yield table([{"": f"`{side}`", "is": WHAT[side]} for side in sides]) + "\n"
    if OURS in found:
        ours = found[OURS]
        speed = ours["write_s"] / len(ours["outputs"][OURS])
        yield (
            f"- `ours`: {ours['parameters']:,} parameters, {ours['precision']}. {minutes[0]:g} minutes of text"
            f" ({ours['base_tokens']:,} tokens), then\n  {minutes[1]:g} minutes of pairs"
            f" ({ours['tokens']:,} tokens, padding included). It writes as the commands do:\n  a translation sentence"
            f" by sentence. Chosen on validation pairs: {_ways(ours['ways'])}.\n  {speed:.2f} s a text"
        )
    if BART in found:
        bart, whole = found[BART], sum(minutes) + DICTIONARY_MINUTES
        speed = bart["write_s"] / len(bart["outputs"][BART])
        yield (
            f"- `bart`: {bart['parameters']:,} parameters (width {bart['width']}, {bart['layers']} + {bart['layers']}"
            f" layers, {bart['heads']} heads, feed-forward {bart['hidden']}), {bart['precision']}.\n "
            f" {whole:g} minutes of the same pairs ({bart['tokens']:,} tokens, padding included), for it has no"
            f" language model to\n  start from, and {DICTIONARY_MINUTES} more stand for ours' dictionary. Ids, lengths"
            " and batches are those of tuning; the first\n  token of a source is its kind, a question stands before the"
            f" passage. AdamW, linear rise and fall, no dropout\n  (an epoch needs none). {LR_NOTE}.\n"
            f"  It ends at {bart['validation']:.2f} nats a token of validation pairs, where the frequencies of tokens"
            f" alone reach {bart['frequencies']:.2f}.\n  It writes by its own beam search: 4 beams, no trigram twice."
            f" {speed:.2f} s a text"
        )
    if UNTRAINED in found:
        taken = found[UNTRAINED]["sentences"]
        said = (f"`{name}` {', '.join(f'{lang} {n}' for lang, n in some.items())}" for name, some in taken.items())
        yield f"- sentences that validation pairs chose: {'; '.join(said)}. Headings and tables count as none"


def _ways(ways: Mapping[str, str]) -> str:
    kinds: dict[str, list[str]] = {}
    for key, way in sorted(ways.items()):
        kinds.setdefault(way, []).append(f"`{key}`")
    return "; ".join(f"{way} {', '.join(those)}" for way, those in sorted(kinds.items()))


def _measures(kind: Kind, sides: Scores) -> Iterator[str]:
    task, lang = kind
    rows = []
    for side, some in sides.items():
        means = mean_of(some, task)
        low, high = means.pop("interval")
        n, length, copied, main = (means.pop(name) for name in ("n", "length", "copied", MAIN[task]))
        others = {name: f"{value:.1f}" for name, value in means.items()}
        rows.append(
            {"": f"`{side}`", MAIN[task]: f"{main:.1f} ({low:.1f} to {high:.1f})", **others}
            | {"copied": f"{copied:.0f} %", "length": f"{length:.2f}", "n": n}
        )
    yield f"### {task}, {lang}\n\n{table(rows)}\n"


def _mark(kind: Kind, sides: Scores) -> dict[str, object]:
    task, lang = kind
    values = {side: np.array([one[MAIN[task]] for one in some]) for side, some in sides.items()}
    ours = values.pop(OURS)
    best = max(values, key=lambda side: float(values[side].mean()))
    low, high = interval((ours - values[best]).tolist())
    above = ours.mean() > values[best].mean()
    return {
        "task": task,
        "to": lang,
        "measure": MAIN[task],
        "ours": f"{ours.mean():.1f}",
        "best of the others": f"`{best}` {values[best].mean():.1f}",
        "difference": f"{(ours - values[best]).mean():+.1f} ({low:+.1f} to {high:+.1f})",
        "above all": ("clearly" if low > 0 else "yes") if above else "no",
    }


def write_examples(tests: pl.DataFrame, found: Mapping[str, dict[str, Any]]) -> str:
    """Return the first test pairs of each task and language with what the trained sides made of them."""
    sides = {side: outputs for side, outputs in outputs_of(found).items() if side in (OURS, BART)}
    lines = ["# Applications: examples\n", "The first test pairs of each task and language, none chosen.\n"]
    numbered = tests.with_row_index("place")
    for (task, lang), rows in numbered.group_by("task", "target_lang", maintain_order=True):
        lines.append(f"## {task}, {lang}\n")
        for row in rows.head(EXAMPLES).iter_rows(named=True):
            texts = {"source": row["source"], "question": row["question"], "reference": row["targets"][0]}
            texts |= {side: str(outputs[row["place"]]) for side, outputs in sides.items()}
            lines += [f"- **{name}**: {full_width(excerpt(text, SHOWN))}" for name, text in texts.items() if text]
            lines.append("")
    return "\n".join(lines)
