"""`report.html`: one file without script or anything from elsewhere, that may show the most hostile corpus.

Three guards, each enough by itself: Jinja escapes every value, invisible characters are spelled out before that, and
the page's content security policy forbids script, images from elsewhere and forms.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from slimpajama.ops.report import plots
from slimpajama.ops.report.applications import asked, in_order, reason_rows, task_rows, way_rows
from slimpajama.ops.report.format import (
    LABELS,
    LEVELS,
    bits,
    natural_repetition,
    number,
    percent,
    sentence_share,
    short,
    signed,
    size,
)
from slimpajama.ops.report.text import visible

Report = dict[str, Any]
HAN = range(0x3400, 0xA000)


def render_html(report: Report) -> str:
    """Return the page of a report as `collect` returns it."""
    return _environment().get_template("report.html").render(_view(report))


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        # Markup is a subclass, and ours.
        finalize=lambda value: visible(value) if type(value) is str else value,
        trim_blocks=True,
    )
    environment.filters |= {
        "num": number,
        "size": size,
        "bits": bits,
        "signed": signed,
        "percent": percent,
        "lang": _lang,
        "pct": sentence_share,
        "pct2": lambda value: sentence_share(value, 2),
    }
    return environment


def _lang(row: dict[str, Any]) -> Markup:
    """Return a `lang` attribute for a row's text, so that the browser picks the right glyphs."""
    code = {"zh": "zh-Hans", "zh-Hant": "zh-Hant", "en": "en"}.get(row.get("lang", ""))
    if code is None:
        text = str(row.get("excerpt") or row.get("text") or "".join(s["text"] for s in row.get("segments", ())))
        code = "zh-Hans" if any(ord(char) in HAN for char in text) else "und"
    return Markup(' lang="{}"').format(code)


def _view(report: Report) -> Report:
    """Return what the template shows: the report, with what is only arithmetic for the eye."""
    found = max(1, report["funnel"]["levels"][0]["documents"])
    levels = [
        level | {"label": LEVELS[level["name"]], "share": level["documents"] / found}
        for level in report["funnel"]["levels"]
    ]
    verdict = report["verdict"]
    return report | {
        "verdict": verdict | {"label": LABELS[verdict["status"]], "confidence": verdict["confidence"] or 0.95},
        "tiles": _tiles(report),
        "funnel": {
            "levels": levels,
            "sources": _with_text_share(report["funnel"]["sources"]),
            "languages": _with_text_share(report["funnel"]["languages"]),
        },
        "splits": _splits(report["corpus"]["splits"]),
        "history": [_with_share(row) for row in report["history"]] if len(report["history"]) > 1 else [],
        "rules": [row | {"share": row["documents"] / found} for row in report["rules"]],
        "comparison": _comparison(report),
        "restoration": _restoration(report),
        "by_source": _by_source(report),
        "samples": _by_prompt(report["samples"]),
        "natural_repetition": natural_repetition(report),
        "tuning": _tuning(report["tuning"]),
        "words": report["corpus"]["words"],
        "settings": [
            {"name": name, "rows": [{"key": key, "value": _plain(value)} for key, value in sorted(section.items())]}
            for name, section in sorted(report["settings"].items())
        ],
        "versions": [
            {"name": f"{stage}: {name}", "version": _plain(version)}
            for stage, names in sorted(report["versions"].items())
            for name, version in sorted(names.items())
        ],
        "plots": _plots(report),
        "software": report["versions"]["software"]["slimpajama"],
    }


def _with_share(row: Report) -> Report:
    first = next((count for count in row["documents"] if count is not None), 0)
    return row | {"kept_share": row["documents"][-1] / first if first else 0.0}


def _with_text_share(rows: list[Report]) -> list[Report]:
    """Return the rows with their share of all text kept: a histogram beside the figures."""
    total = max(1, sum(row["kept_bytes"] for row in rows))
    return [_with_share(row) | {"text_share": row["kept_bytes"] / total} for row in rows]


def _splits(rows: list[Report]) -> Report:
    """Return a row a split with its tokens by language, and the bytes a token all of them together have."""
    languages = list(dict.fromkeys(row["lang"] for row in rows))
    splits = {row["split"]: [r for r in rows if r["split"] == row["split"]] for row in rows}

    def total(chosen: list[Report], name: str) -> int:
        return sum(row[name] for row in chosen)

    groups = [rows, *([row for row in rows if row["lang"] == lang] for lang in languages)]
    return {
        "languages": languages,
        "rows": [
            {
                "split": split,
                "documents": found[0]["documents"],
                "bytes": total(found, "bytes"),
                "tokens": total(found, "tokens"),
                "languages": [total([row for row in found if row["lang"] == lang], "tokens") for lang in languages],
            }
            for split, found in splits.items()
        ],
        "bytes_per_token": [total(group, "bytes") / max(1, total(group, "tokens")) for group in groups],
    }


def _plain(value: Any) -> str:
    """Return a setting as one line."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(item)}" for key, item in sorted(value.items()))
    return ", ".join(map(_plain, value)) if isinstance(value, list) else str(value)


def _tiles(report: Report) -> list[dict[str, str]]:
    found, *_, kept = report["funnel"]["levels"]
    duplicates = report["duplicates"]
    train = sum(row["tokens"] for row in report["corpus"]["splits"] if row["split"] == "train")
    tiles = [
        _tile("documents kept", number(kept["documents"]), f"of {number(found['documents'])} found"),
        _tile(
            "duplicates",
            number(duplicates["documents"]),
            f"{number(duplicates['of_earlier_nights'])} of earlier nights' documents",
        ),
        _tile("training tokens", short(train), size(kept["bytes"]) + " of text kept"),
    ]
    rows = [row for row in _comparison(report) if not row["overall"]]
    for row in sorted(rows, key=lambda row: row["name"] not in ("zh", "en"))[:2]:
        note = f"{signed(row['difference'])} against the champion" if row["champion"] else "no champion to compare with"
        tiles.append(_tile(f"bits per byte, {row['name']}", bits(row["challenger"]), note, row["tone"]))
    restored = ((report["evaluation"] or {}).get("challenger") or {}).get("overall", {}).get("token_accuracy")
    if restored is not None:
        tiles.append(_tile("tokens restored", sentence_share(restored, 2), "exactly, from the bottleneck"))
    return tiles


def _tile(label: str, value: str, note: str, tone: str = "") -> dict[str, str]:
    return {"label": label, "value": value, "note": note, "tone": tone}


def _comparison(report: Report) -> list[Report]:
    """Return a row a language and one over all, with the interval's place on a common scale."""
    verdict, figures = report["verdict"], report["evaluation"]
    if not figures:
        return []
    if not verdict["languages"]:
        parts = figures["challenger"]["languages"] | {"all languages": figures["challenger"]["overall"]}
        nothing = {"champion": None, "difference": None, "tone": "", "forest": None}
        return [
            {"name": name, "documents": part["documents"], "challenger": part["bits_per_byte"]}
            | nothing
            | {"overall": name == "all languages"}
            for name, part in parts.items()
        ]
    parts = verdict["languages"] | {"all languages": verdict["overall"]}
    scale = 1.08 * max(1e-9, *(abs(part[end]) for part in parts.values() for end in ("low", "high", "difference")))
    return [
        part | {"name": name, "overall": name == "all languages", "tone": _tone(part), "forest": _forest(part, scale)}
        for name, part in parts.items()
    ]


def _tone(interval: Report) -> str:
    return "good" if interval["high"] < 0 else "bad" if interval["low"] > 0 else ""


def _forest(interval: Report, scale: float) -> Report:
    left, middle, right = (0.5 + interval[name] / (2 * scale) for name in ("low", "difference", "high"))
    colour = {"good": "--good", "bad": "--bad", "": "--ink"}[_tone(interval)]
    return {"left": left, "middle": middle, "width": right - left, "colour": colour}


def _restoration(report: Report) -> list[Report]:
    """Return what was restored by language; nothing for a model without a bottleneck."""
    figures = report["evaluation"] or {"challenger": {"languages": {}}, "champion": None}
    before = (figures["champion"] or {"languages": {}})["languages"]
    return [
        {"name": f"{lang}, {what}", "challenger": part.get(name), "champion": before.get(lang, {}).get(name)}
        for lang, part in figures["challenger"]["languages"].items()
        if "token_accuracy" in part
        for name, what in (("token_accuracy", "tokens"), ("document_accuracy", "whole documents"))
    ]


def _by_source(report: Report) -> list[Report]:
    """Return bits per byte of both models by language and source."""
    figures = report["evaluation"] or {"challenger": {"sources": {}}, "champion": None}
    before = (figures["champion"] or {"sources": {}})["sources"]
    return [
        {"name": name, "documents": part["documents"], "challenger": part["bits_per_byte"]}
        | {"champion": before.get(name, {}).get("bits_per_byte")}
        for name, part in figures["challenger"]["sources"].items()
    ]


def _by_prompt(samples: list[Report]) -> list[Report]:
    """Return the texts of both models together, by prompt."""
    prompts: dict[str, list[Report]] = {}
    for sample in samples:
        repeated, copied = (sentence_share(sample[name]) for name in ("repeated_share", "copied_share"))
        role = "new model" if sample["role"] == "challenger" else "champion"
        side = {
            "role": role,
            "text": sample["text"],
            "note": f"{repeated} repeated, {copied} copied from training data",
        }
        prompts.setdefault(sample["prompt"], []).append(side)
    return [{"prompt": prompt, "sides": sides} for prompt, sides in prompts.items()]


def _tuning(tuning: Report | None) -> Report | None:
    """Return the applications' figures and samples as rows."""
    if not tuning:
        return None
    samples = [
        {"asked": asked(sample)}
        | {name: {"text": sample[name]} for name in ("source", "question", "output", "reference")}
        for sample in in_order(tuning["scores"]["samples"])
    ]
    return {
        "model": tuning["model"],
        "base": tuning["base"],
        "tasks": task_rows(tuning),
        "reasons": reason_rows(tuning),
        "ways": way_rows(tuning),
        "samples": samples,
    }


def _plots(report: Report) -> dict[str, str]:
    lengths, training = report["corpus"]["lengths"], report["training"]
    clusters = report["corpus"]["clusters"]
    return {
        "clusters": plots.cluster_plot(clusters) if any(row["size"] > 1 for row in clusters) else "",
        "lengths": plots.length_histogram(lengths["edges"], lengths["counts"]) if lengths["counts"] else "",
        "loss": plots.loss_curve(training["curve"], training["validation"]) if training else "",
    }
