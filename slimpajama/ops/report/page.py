"""What a night's report says, as a page: built from `report.json` alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from slimpajama.core.format import decimal, number, share, short, signed, size
from slimpajama.core.page import Cell, Figure, Folded, Page, Quote, Quotes, Section, Span, Table, Text, Tile, Words
from slimpajama.ops.report import plots
from slimpajama.ops.report.tuning import applications

Report = Mapping[str, Any]
LABELS = {
    "promoted": "new champion",
    "rejected": "the champion stays",
    "untrained": "nothing trained",
    "pending": "not compared yet",
}
ALL = "all languages"


def night_page(report: Report) -> Page:
    """Return the page of a report as `collect` returns it."""
    verdict = report["verdict"]
    sections = (funnel, removed, duplicates, training, comparison, samples, applications, corpus, record)
    return Page(
        title=f"Night {report['night']}",
        above="slimpajama · report of the night",
        badge=LABELS[verdict["status"]],
        badge_kind=verdict["status"],
        lead=verdict["reason"],
        tiles=_tiles(report),
        sections=[section(report) for section in sections],
        footer=f"Written by slimpajama {report['versions']['software']['slimpajama']}."
        " The same figures as data: report.json.",
    )


def _tiles(report: Report) -> list[Tile]:
    found, *_, kept = report["funnel"]["levels"]
    alike = report["duplicates"]
    earlier = number(alike["of_earlier_nights"])
    train = sum(row["tokens"] for row in report["corpus"]["splits"] if row["split"] == "train")
    tiles = [
        Tile("documents kept", number(kept["documents"]), f"of {number(found['documents'])} found"),
        Tile(
            "duplicates",
            number(alike["documents"]),
            f"{earlier} of earlier nights' documents",
        ),
        Tile("training tokens", short(train), f"{size(kept['bytes'])} of text kept"),
    ]
    parts = _parts(report)
    for name in sorted(parts.keys() - {ALL}, key=lambda name: (name not in ("zh", "en"), name))[:2]:
        part = parts[name]
        compared = part.get("champion") is not None
        note = f"{signed(part['difference'])} against the champion" if compared else "no champion to compare with"
        tiles.append(Tile(f"bits per byte, {name}", decimal(part["challenger"]), note, _tone(part)))
    restored = (report["evaluation"] or {"challenger": {}})["challenger"].get("overall", {}).get("token_accuracy")
    if restored is not None:
        tiles.append(Tile("tokens restored", share(restored, 2), "exactly, from the bottleneck"))
    return tiles


def funnel(report: Report) -> Section:
    """Return what was left after each stage, by source and language, and against earlier nights."""
    levels = report["funnel"]["levels"]
    found = max(1, levels[0]["documents"])
    after = [
        [level["name"], Cell(bar=level["documents"] / found), number(level["documents"]), size(level["bytes"])]
        for level in levels
    ]
    names = [level["name"] for level in levels]
    return Section(
        "From raw text to tokens",
        [
            Table(["after", "", "documents", "text"], after, right=(2, 3)),
            *_splits(report["corpus"]["splits"]),
            _by("source", names, report["funnel"]["sources"]),
            _by("language", names, report["funnel"]["languages"]),
            *_history(report, names),
            *_drift(report),
        ],
        "funnel",
        "Funnel",
        "Documents that were left after each stage, and the text in them.",
    )


def _by(title: str, levels: Sequence[str], rows: Sequence[Report]) -> Table:
    """Return the funnel of each source or language, with its share of all text kept."""
    total = max(1, sum(row["kept_bytes"] for row in rows))
    cells = [
        [
            row["name"],
            *map(number, row["documents"]),
            size(row["kept_bytes"]),
            Cell(bar=row["kept_bytes"] / total),
            share(_kept_share(row)),
        ]
        for row in rows
    ]
    right = {*range(1, len(levels) + 2), len(levels) + 3}
    return Table([title, *levels, "text kept", "", "share kept"], cells, f"By {title}", right=right)


def _kept_share(row: Report) -> float:
    first = next((count for count in row["documents"] if count is not None), 0)
    return row["documents"][-1] / first if first else 0.0


def _history(report: Report, levels: Sequence[str]) -> list[Table]:
    nights = list(reversed(report["history"]))
    if len(nights) < 2:
        return []
    cells = [
        [
            row["night"],
            *map(number, row["documents"]),
            share(_kept_share(row)),
            Cell(bar=_kept_share(row)),
            size(row["kept_bytes"]),
            number(row["tokens"]),
        ]
        for row in nights
    ]
    right = set(range(1, len(levels) + 5)) - {len(levels) + 2}
    strong = [place for place, row in enumerate(nights) if row["night"] == report["night"]]
    head = ["night", *levels, "share kept", "", "text kept", "tokens"]
    return [Table(head, cells, "Against earlier nights", right=right, strong=strong)]


def _splits(rows: Sequence[Report]) -> list[Table]:
    """Return the tokens of each split by language, and how many bytes a token stands for."""
    if not rows:
        return []
    languages = list(dict.fromkeys(row["lang"] for row in rows))
    splits = list(dict.fromkeys(row["split"] for row in rows))

    def total(what: str, **of: str) -> int:
        return sum(row[what] for row in rows if all(row[name] == value for name, value in of.items()))

    cells = [
        [
            split,
            number(next(row["documents"] for row in rows if row["split"] == split)),
            size(total("bytes", split=split)),
            number(total("tokens", split=split)),
            *(number(total("tokens", split=split, lang=lang)) for lang in languages),
        ]
        for split in splits
    ]
    groups: list[dict[str, str]] = [{}, *({"lang": lang} for lang in languages)]
    ratios = [decimal(total("bytes", **group) / max(1, total("tokens", **group))) for group in groups]
    head = ["split", "documents", "text", "tokens", *languages]
    right = range(1, len(head))
    return [Table(head, [*cells, ["bytes a token", "", "", *ratios]], "Tokens in the training shards", right=right)]


def _drift(report: Report) -> list[Table | Text | Folded]:
    """Return what is unlike the nights before; the measures that are not unusual are folded."""
    before = len(report["history"]) - 1
    against = f"Against {before} earlier night{'' if before == 1 else 's'}"
    rows = report["drift"]
    if not rows:
        return [Text(f"{against}: too few to call anything unusual.")]
    unusual = [row for row in rows if row["unusual"]]
    if not unusual:
        return [Text(f"{against}: nothing unusual."), _usual(rows)]
    note = f"{len(unusual)} of {len(rows)} measures lie far from the median of the nights before."
    return [
        _measures(unusual, f"{against}: {len(unusual)} unusual", note),
        *([_usual(rows)] if len(rows) > len(unusual) else []),
    ]


def _usual(rows: Sequence[Report]) -> Folded:
    usual = [row for row in rows if not row["unusual"]]
    return Folded("Measures that are as usual", [_measures(usual)], html_only=True)


def _measures(rows: Sequence[Report], title: str = "", note: str = "") -> Table:
    cells = [
        [f"⚠ {row['measure']}" if row["unusual"] else row["measure"]]
        + [decimal(row[name]) for name in ("tonight", "median", "low", "high")]
        for row in rows
    ]
    strong = [place for place, row in enumerate(rows) if row["unusual"]]
    head = ["measure", "tonight", "median", "lowest", "highest"]
    return Table(head, cells, title, note, right=range(1, 5), strong=strong)


def removed(report: Report) -> Section:
    """Return the rules that removed something, with samples."""
    found = max(1, report["funnel"]["levels"][0]["documents"])
    rows = [
        [
            rule["rule"],
            rule["stage"],
            rule["threshold"] or "",
            Cell(bar=rule["documents"] / found),
            number(rule["documents"]),
            share(rule["documents"] / found),
        ]
        for rule in report["rules"]
    ]
    head = ["rule", "stage", "threshold", "", "documents", "of all found"]
    quotes = [
        Quotes([_sample(sample, rule) for sample in rule["samples"]], rule["rule"])
        for rule in report["rules"]
        if rule["samples"]
    ]
    return Section(
        "Removed, and why",
        [Table(head, rows, right=(4, 5)), Folded("Samples", quotes)] if rows else [Text("Nothing was removed.")],
        "removed",
        "Removed",
        "Every removed document is on record with what was measured; “slimpajama explain ID” tells all of one of them.",
    )


def _sample(sample: Report, rule: Report) -> Quote:
    threshold = f", threshold {sample['threshold']}" if sample["threshold"] and not rule["threshold"] else ""
    return _quote(sample, [Span(sample["excerpt"])], note=f"{sample['value']}{threshold}")


def _quote(document: Report, spans: Sequence[Span], label: str = "", note: str = "") -> Quote:
    place = f"{document['id'][:12]} {document['source']} · {document['uri']}"
    return Quote(spans, label, place, note, document["lang"])


def duplicates(report: Report) -> Section:
    """Return pairs of near-duplicates side by side."""
    return Section(
        "Near-duplicates, side by side",
        [_pair(pair, report["night"]) for pair in report["duplicates"]["pairs"]],
        "duplicates",
        "Near-duplicates",
        f"{number(report['duplicates']['documents'])} documents resembled another one. Each pair is shown where the two"
        " texts first part, with what the other one lacks marked; the similarity is the exact Jaccard index of their"
        " character shingles, from 0 to 1.",
    )


def _pair(pair: Report, night: str) -> Quotes:
    since = pair["kept"]["night"]
    quotes = []
    for label in ("kept", "removed"):
        spans = [Span(part["text"], "mark" if part["differs"] else "") for part in pair[label]["segments"]]
        quotes.append(_quote(pair[label], spans or [Span("no longer in the workspace")], label))
    note = pair["rule"] + (f", kept since {since}" if since not in ("", night) else "")
    return Quotes(quotes, decimal(pair["jaccard"]), note)


def training(report: Report) -> Section:
    """Return the night's training and its loss curve."""
    done = report["training"]
    if not done:
        return Section("Training", [])
    begun = f"starting from {done['started_from']}" if done["started_from"] else "from random weights"
    return Section(
        "Training",
        [Figure(plots.loss_curve(done["curve"], done["validation"]), "loss curve")],
        "training",
        "Training",
        f"{number(done['tokens'])} tokens in {number(done['steps'])} steps, {begun}.",
    )


def comparison(report: Report) -> Section:
    """Return the scores of the night's model beside the champion's."""
    verdict, figures = report["verdict"], report["evaluation"]
    percent = 100 * (verdict["confidence"] or 0.95)
    note = (
        "Bits per byte on held-out text, lower is better."
        f" The interval is the {percent:g} % interval of the difference, from a paired bootstrap over documents;"
        " where it lies below zero, left of the line, the new model is better."
    )
    blocks: list[Table | Text | Folded] = []
    if figures:
        blocks = [_scores(_parts(report)), _by_source(figures), *_restoration(figures)]
    elif report["training"]:
        blocks = [Text("Not evaluated.")]
    return Section("Champion and challenger", blocks, "comparison", "Champion and challenger", note)


def _parts(report: Report) -> dict[str, Report]:
    """Return the scores by language and over all: with an interval where the gate compared two models."""
    verdict, figures = report["verdict"], report["evaluation"]
    if verdict["languages"]:
        return {**verdict["languages"], ALL: verdict["overall"]}
    own = figures["challenger"] if figures else {"languages": {}}
    parts = own["languages"] | ({ALL: own["overall"]} if own["languages"] else {})
    return {name: {"documents": p["documents"], "challenger": p["bits_per_byte"]} for name, p in parts.items()}


def _scores(parts: Mapping[str, Report]) -> Table:
    ends = [abs(part[end]) for part in parts.values() for end in ("low", "high", "difference") if end in part]
    scale = 1.08 * max([1e-9, *ends])
    cells: list[list[str | Cell]] = [
        [
            name,
            number(part["documents"]),
            decimal(part.get("champion")),
            decimal(part["challenger"]),
            Cell(signed(part.get("difference")), _tone(part)),
            _interval(part, scale),
        ]
        for name, part in parts.items()
    ]
    head = ["language", "documents", "champion", "new model", "difference", "interval"]
    strong = [place for place, name in enumerate(parts) if name == ALL]
    return Table(head, cells, right=range(1, 5), strong=strong)


def _tone(part: Report) -> str:
    if "low" not in part:
        return ""
    return "good" if part["high"] < 0 else "bad" if part["low"] > 0 else ""


def _interval(part: Report, scale: float) -> Cell:
    if "low" not in part:
        return Cell()
    left, middle, right = (0.5 + part[end] / (2 * scale) for end in ("low", "difference", "high"))
    return Cell(f"{signed(part['low'])} to {signed(part['high'])}", _tone(part), interval=(left, middle, right))


def _by_source(figures: Report) -> Folded:
    before = (figures["champion"] or {"sources": {}})["sources"]
    cells = [
        [
            name,
            number(part["documents"]),
            decimal(before.get(name, {}).get("bits_per_byte")),
            decimal(part["bits_per_byte"]),
        ]
        for name, part in figures["challenger"]["sources"].items()
    ]
    table = Table(["language / source", "documents", "champion", "new model"], cells, right=range(1, 4))
    return Folded("Bits per byte by language and source", [table], html_only=True)


def _restoration(figures: Report) -> list[Table]:
    """Return what was restored by language; nothing for a model without a bottleneck."""
    before = (figures["champion"] or {"languages": {}})["languages"]
    cells = [
        [f"{lang}, {what}", share(before.get(lang, {}).get(name), 2), share(part.get(name), 2)]
        for lang, part in figures["challenger"]["languages"].items()
        if "token_accuracy" in part
        for name, what in (("token_accuracy", "tokens"), ("document_accuracy", "whole documents"))
    ]
    title = "Restored exactly from the bottleneck"
    return [Table(["language", "champion", "new model"], cells, title, right=(1, 2))] if cells else []


def samples(report: Report) -> Section:
    """Return what both models wrote, by prompt."""
    prompts: dict[str, list[Quote]] = {}
    for sample in report["samples"]:
        repeated, copied = share(sample["repeated_share"]), share(sample["copied_share"])
        quote = Quote(
            [Span(sample["prompt"], "prompt"), Span(sample["text"])],
            "new model" if sample["role"] == "challenger" else "champion",
            note=f"{repeated} repeated, {copied} copied from training data",
        )
        prompts.setdefault(sample["prompt"], []).append(quote)
    natural = ", ".join(f"{lang} {share(value)}" for lang, value in report["natural_repetition"].items())
    note = "The same prompts and the same seed for both models."
    return Section(
        "Generated text",
        [Quotes(quotes) for quotes in prompts.values()],
        "samples",
        "Samples",
        f"{note} Held-out text of the same length repeats itself by {natural}." if natural else note,
    )


def corpus(report: Report) -> Section:
    """Return what the kept text is like."""
    lengths, clusters = report["corpus"]["lengths"], report["corpus"]["clusters"]
    blocks: list[Figure | Words | Text] = []
    if lengths["counts"]:
        blocks.append(Figure(plots.length_histogram(lengths["edges"], lengths["counts"]), "lengths of documents"))
    if any(row["size"] > 1 for row in clusters):
        title = "Clusters of near-duplicates"
        blocks.append(Figure(plots.cluster_plot(clusters), "sizes of clusters", title))
    for row in report["corpus"]["words"]:
        some = f" (from {row['files']} of {row['of_files']} shards)" if row["files"] < row["of_files"] else ""
        words = [(word["word"], number(word["count"])) for word in row["words"]]
        blocks.append(Words(f"Most frequent content words, {row['lang']}{some}", words, row["lang"]))
    return Section(
        "The night's corpus",
        blocks or [Text("Nothing was kept.")],
        "corpus",
        "Corpus",
        "What was kept: how long the documents are, and which words carry them.",
    )


def record(report: Report) -> Section:
    """Return sources, settings, versions and files."""
    sources = [
        [
            source["name"],
            source["uri"],
            source["format"],
            str(source["priority"]),
            number(source["files"]),
            size(source["bytes"]),
            source["licence"] or "not stated",
        ]
        for source in report["sources"]
    ]
    head = ["source", "pattern", "format", "priority", "files read", "size", "licence"]
    files = [[row["folder"], number(row["files"]), number(row["rows"]), size(row["bytes"])] for row in report["files"]]
    versions = {
        f"{stage}: {name}": version
        for stage, names in sorted(report["versions"].items())
        for name, version in sorted(names.items())
    }
    return Section(
        "On record",
        [
            Folded("Sources and licences", [Table(head, sources, right=(3, 4, 5))], is_open=True),
            Folded("Settings", [_values(section, name) for name, section in sorted(report["settings"].items())]),
            Folded("Versions", [_values(versions)]),
            Folded("Files", [Table(["folder", "files", "rows", "size"], files, right=range(1, 4))]),
        ],
        "record",
        "Sources, settings, files",
        "Everything that a published byte of this night depends on.",
    )


def _values(values: Mapping[str, Any], title: str = "") -> Table:
    return Table(["", ""], [[name, _plain(value)] for name, value in sorted(values.items())], title)


def _plain(value: Any) -> str:
    """Return a setting as one line."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(item)}" for key, item in sorted(value.items()))
    return ", ".join(map(_plain, value)) if isinstance(value, list) else str(value)
