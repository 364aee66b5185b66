"""What a night's report says, as a page: built from `report.json` alone."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from slimpajama.core.format import decimal, number, share, short, signed, size
from slimpajama.core.page import (
    Block,
    Column,
    Figure,
    Folded,
    Page,
    Quote,
    Quotes,
    Section,
    Span,
    Table,
    Tile,
    Words,
    columns,
)
from slimpajama.ops.report import plots
from slimpajama.ops.report.passages import passages
from slimpajama.ops.report.problems import problems
from slimpajama.ops.report.samples import samples
from slimpajama.ops.report.tuning import tuning

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
    sections = [
        make(report) for make in (problems, funnel, removed, duplicates, passages, training, comparison, samples)
    ]
    sections += [tuning(report["tuning"])] if report["tuning"] else []
    return Page(
        title=f"Night {report['night']}",
        badge=LABELS[verdict["status"]],
        badge_kind=verdict["status"],
        lead=verdict["reason"],
        tiles=_tiles(report),
        sections=[*sections, corpus(report), record(report)],
        version=report["versions"]["software"]["slimpajama"],
    )


def _tiles(report: Report) -> list[Tile]:
    found, *_, kept = report["funnel"]["levels"]
    alike = report["duplicates"]
    train = sum(row["tokens"] for row in report["corpus"]["splits"] if row["split"] == "train")
    earlier = f"{number(alike['of_earlier_nights'])} of earlier nights' documents"
    trained = short(report["training"]["tokens"]) if report["training"] else "0"
    tiles = [
        Tile("documents kept", number(kept["documents"]), f"of {number(found['documents'])} found"),
        Tile("duplicates", number(alike["documents"]), earlier),
        Tile("tokens trained", trained, f"the night has {short(train)}, of {size(kept['bytes'])} of text"),
    ]
    languages = [row for row in _scores(report) if row["name"] != ALL]
    for row in sorted(languages, key=lambda row: row["name"] not in ("zh", "en"))[:2]:
        note = (
            f"{signed(row['difference'])} against the champion" if "champion" in row else "no champion to compare with"
        )
        tiles.append(Tile(f"bits per byte, {row['name']}", decimal(row["challenger"]), note, _tone(row)))
    restored = (report["evaluation"] or {"challenger": {}})["challenger"].get("overall", {}).get("token_accuracy")
    if restored is not None:
        tiles.append(Tile("tokens restored", share(restored, 2), "exactly, from the bottleneck"))
    return tiles


def funnel(report: Report) -> Section:
    """Return what was left after each stage, by source and language, and against earlier nights."""
    rows = report["funnel"]["levels"]
    found = max(1, rows[0]["documents"])
    after = [
        Column("after", "name"),
        Column("", bar=lambda row: row["documents"] / found),
        *columns("documents", show=number),
        Column("text", "bytes", size),
    ]
    levels = [
        Column(row["name"], partial(lambda level, row: row["documents"][level], i), number)
        for i, row in enumerate(rows)
    ]
    note = "Documents that were left after each stage, and the text in them."
    blocks = [
        Table(rows, after),
        *_splits(report["corpus"]["splits"]),
        _by("source", levels, report["funnel"]["sources"]),
        _by("language", levels, report["funnel"]["languages"]),
        *_history(report, levels),
        *_drift(report),
    ]
    return Section("From raw text to tokens", blocks, "funnel", note)


def _by(title: str, levels: Sequence[Column], rows: Sequence[Report]) -> Table:
    """Return the funnel of each source or language, with its share of all text kept."""
    total = max(1, sum(row["kept_bytes"] for row in rows))
    shown = [
        Column(title, "name"),
        *levels,
        Column("text kept", "kept_bytes", size),
        Column("", bar=lambda row: row["kept_bytes"] / total),
        Column("share kept", _kept_share, share),
    ]
    return Table(rows, shown, f"By {title}")


def _kept_share(row: Report) -> float:
    first = next((count for count in row["documents"] if count is not None), 0)
    return row["documents"][-1] / first if first else 0.0


def _history(report: Report, levels: Sequence[Column]) -> list[Table]:
    nights = list(reversed(report["history"]))
    shown = [
        *columns("night"),
        *levels,
        Column("share kept", _kept_share, share),
        Column("", bar=_kept_share),
        Column("text kept", "kept_bytes", size),
        *columns("tokens", show=number),
    ]
    table = Table(nights, shown, "Against earlier nights", is_strong=lambda row: row["night"] == report["night"])
    return [table] if len(nights) > 1 else []


def _splits(rows: Sequence[Report]) -> list[Table]:
    """Return the tokens of each split by language, and how many bytes a token stands for."""
    languages = list(dict.fromkeys(row["lang"] for row in rows))
    splits: dict[str, dict[str, Any]] = {}
    for row in rows:
        split = splits.setdefault(row["split"], {**row, "bytes": 0, "tokens": 0, **dict.fromkeys(languages, 0)})
        split["bytes"] += row["bytes"]
        split["tokens"] += row["tokens"]
        split[row["lang"]] = row["tokens"]
    shown = [*columns("split"), *columns("documents", show=number), Column("text", "bytes", size)]
    shown += columns("tokens", *languages, show=number)
    ratios = [f"{lang} {_bytes_per_token([row for row in rows if row['lang'] == lang])}" for lang in languages]
    note = f"A token stands for {_bytes_per_token(rows)} bytes: {', '.join(ratios)}."
    return [Table(list(splits.values()), shown, "Tokens in the training shards", note)] if rows else []


def _bytes_per_token(rows: Sequence[Report]) -> str:
    return decimal(sum(row["bytes"] for row in rows) / max(1, sum(row["tokens"] for row in rows)))


def _drift(report: Report) -> list[Block]:
    """Return what is unlike the nights before; the measures that are not unusual are folded."""
    before, rows = len(report["history"]) - 1, report["drift"]
    against = f"Against {before} earlier night{'' if before == 1 else 's'}"
    if not rows:
        return [f"{against}: too few to call anything unusual."]
    unusual, usual = ([row for row in rows if row["unusual"] is kind] for kind in (True, False))
    shown = [
        Column("measure", lambda row: f"⚠ {row['measure']}" if row["unusual"] else row["measure"]),
        *columns("tonight", "median", show=decimal),
        Column("lowest", "low", decimal),
        Column("highest", "high", decimal),
    ]
    note = f"{len(unusual)} of {len(rows)} measures lie far from the median of the nights before."
    table = Table(unusual, shown, f"{against}: {len(unusual)} unusual", note, is_strong=lambda row: True)
    rest = Folded("Measures that are as usual", [Table(usual, shown)], html_only=True)
    return [table if unusual else f"{against}: nothing unusual.", rest]


def removed(report: Report) -> Section:
    """Return the rules that removed something, with samples."""
    rules = report["rules"]
    found = max(1, report["funnel"]["levels"][0]["documents"])
    shown = [
        *columns("rule", "stage", "threshold"),
        Column("", bar=lambda rule: rule["documents"] / found),
        *columns("documents", show=number),
        Column("of all found", lambda rule: rule["documents"] / found, share),
    ]
    quotes = [Quotes([_sample(sample, rule) for sample in rule["samples"]], rule["rule"]) for rule in rules]
    note = "Every removed document is on record with what was measured: see “slimpajama explain ID”."
    blocks: list[Block] = [Table(rules, shown), Folded("Samples", quotes)] if rules else ["Nothing was removed."]
    return Section("Removed, and why", blocks, "removed", note)


def _sample(sample: Report, rule: Report) -> Quote:
    threshold = f", threshold {sample['threshold']}" if sample["threshold"] and not rule["threshold"] else ""
    return _quote(sample, [Span(sample["excerpt"])], note=f"{sample['value']}{threshold}")


def _quote(document: Report, spans: Sequence[Span], label: str = "", note: str = "") -> Quote:
    place = " · ".join(filter(None, (document["id"][:12], document["source"], document["uri"])))
    return Quote(spans, label, place, note, document["lang"])


def duplicates(report: Report) -> Section:
    """Return pairs of near-duplicates side by side."""
    note = (
        f"{number(report['duplicates']['documents'])} documents resembled another one. Each pair is shown where the two"
        " texts first part, with what the other one lacks marked; the similarity is the exact Jaccard index of their"
        " character shingles, from 0 to 1."
    )
    blocks = [_pair(pair, report["night"]) for pair in report["duplicates"]["pairs"]]
    return Section("Near-duplicates, side by side", blocks, "duplicates", note)


def _pair(pair: Report, night: str) -> Quotes:
    quotes = []
    for label in ("kept", "removed"):
        spans = [Span(part["text"], "mark" if part["differs"] else "") for part in pair[label]["segments"]]
        quotes.append(_quote(pair[label], spans or [Span("no longer in the workspace")], label))
    since = pair["kept"]["night"]
    note = pair["rule"] if since in ("", night) else f"{pair['rule']}, kept since {since}"
    return Quotes(quotes, decimal(pair["jaccard"]), note)


def training(report: Report) -> Section:
    """Return the night's training and its loss curve."""
    done = report["training"]
    if not done:
        return Section("Training", [])
    begun = f"starting from {done['started_from']}" if done["started_from"] else "from random weights"
    note = f"{number(done['tokens'])} tokens in {number(done['steps'])} steps, {begun}."
    if read := done.get("read"):
        note += f" It read {number(read['read'])} of the night's {number(read['documents'])} documents."
    return Section(
        "Training", [Figure(plots.loss_curve(done["curve"], done["validation"]), "loss curve")], "training", note
    )


def comparison(report: Report, *, networks: bool = True) -> Section:
    """Return the scores of the night's model beside the champion's; `networks` without their memories, too."""
    both = [*_BOTH, *(_NETWORKS if networks else [])]
    level = f"{100 * (report['verdict']['confidence'] or 0.95):g} %"
    note = (
        f"Bits per byte on held-out text, lower is better. The interval is that of the difference at {level}, from a"
        " paired bootstrap over documents; where it lies below zero, left of the line, the new model is better."
        " Networks are shown without what their models look up in the corpus."
    )
    note += f" {report['verdict']['memory']}" * bool(report["verdict"].get("memory"))
    rows = _scores(report)
    ends = [abs(row[end]) for row in rows for end in ("low", "high", "difference") if end in row]
    scale = 2.16 * max([1e-9, *ends])
    shown = [
        Column("language", "name"),
        *both,
        Column("difference", "difference", signed, _tone),
        Column("interval", _ends, tone=_tone, interval=partial(_places, scale)),
    ]
    blocks: list[Block] = ["Not evaluated."] if report["training"] else []
    if rows:
        table = Table(rows, shown, is_strong=lambda row: row["name"] == ALL)
        blocks = [table, _by_source(report["evaluation"], both), *_restoration(report["evaluation"])]
    return Section("Champion and challenger", blocks, "comparison", note)


_BOTH = [
    *columns("documents", show=number),
    *columns("champion", show=decimal),
    Column("new model", "challenger", decimal),
]
_NETWORKS = [
    Column("champion's network", "champion_network", decimal),
    Column("new network", "challenger_network", decimal),
]


def _scores(report: Report) -> list[Report]:
    """Return the scores by language and over all: with an interval where the gate compared two models."""
    verdict, figures = report["verdict"], report["evaluation"]
    if not figures:
        return []
    parts = {**figures["challenger"]["languages"], ALL: figures["challenger"]["overall"]}
    networks = _networks(figures, "languages") | {ALL: _networks(figures, None).get("overall", {})}
    if verdict["languages"]:
        parts = {**verdict["languages"], ALL: verdict["overall"]}
        return [{"name": name, **part, **networks.get(name, {})} for name, part in parts.items()]
    return [{"name": name, "challenger": part["bits_per_byte"], **networks[name]} for name, part in parts.items()]


def _networks(figures: Report, group: str | None) -> dict[str, dict[str, Any]]:
    """Return by language or source what the networks of both models take without their memories."""
    found: dict[str, dict[str, Any]] = {}
    for role in ("champion", "challenger"):
        own = figures[role] or {}
        for name, part in (own.get(group, {}) if group else {"overall": own.get("overall", {})}).items():
            # Earlier evaluations are of networks without a memory.
            bits = part.get("network_bits_per_byte", part.get("bits_per_byte"))
            found.setdefault(name, {})[f"{role}_network"] = bits
    return found


def _tone(row: Report) -> str:
    if "low" not in row:
        return ""
    return "good" if row["high"] < 0 else "bad" if row["low"] > 0 else ""


def _ends(row: Report) -> str:
    return f"{signed(row['low'])} to {signed(row['high'])}" if "low" in row else ""


def _places(scale: float, row: Report) -> list[float]:
    """Return where an interval lies on a scale with zero in the middle."""
    return [0.5 + row[end] / scale for end in ("low", "difference", "high")] if "low" in row else []


def _by_source(figures: Report, both: Sequence[Column]) -> Folded:
    before = (figures["champion"] or {"sources": {}})["sources"]
    networks = _networks(figures, "sources")
    rows = [
        {"name": name, "documents": part["documents"], "challenger": part["bits_per_byte"], **networks[name]}
        | {"champion": before.get(name, {}).get("bits_per_byte")}
        for name, part in figures["challenger"]["sources"].items()
    ]
    table = Table(rows, [Column("language / source", "name"), *both])
    return Folded("Bits per byte by language and source", [table], html_only=True)


def _restoration(figures: Report) -> list[Table]:
    """Return what was restored by language; nothing for a model without a bottleneck."""
    before = (figures["champion"] or {"languages": {}})["languages"]
    rows = [
        {"name": f"{lang}, {what}", "challenger": part.get(key), "champion": before.get(lang, {}).get(key)}
        for lang, part in figures["challenger"]["languages"].items()
        if "token_accuracy" in part
        for key, what in (("token_accuracy", "tokens"), ("document_accuracy", "whole documents"))
    ]
    percent = partial(share, places=2)
    shown = [Column("language", "name"), *columns("champion", show=percent), Column("new model", "challenger", percent)]
    return [Table(rows, shown, "Restored exactly from the bottleneck")] if rows else []


def corpus(report: Report) -> Section:
    """Return what the kept text is like."""
    lengths, clusters = report["corpus"]["lengths"], report["corpus"]["clusters"]
    blocks: list[Block] = []
    if lengths["counts"]:
        blocks.append(Figure(plots.length_histogram(lengths["edges"], lengths["counts"]), "lengths of documents"))
    if any(row["size"] > 1 for row in clusters):
        blocks.append(Figure(plots.cluster_plot(clusters), "sizes of clusters", "Clusters of near-duplicates"))
    for row in report["corpus"]["words"]:
        some = f" (from {row['files']} of {row['of_files']} shards)" if row["files"] < row["of_files"] else ""
        words = [(word["word"], number(word["count"])) for word in row["words"]]
        blocks.append(Words(f"Most frequent content words, {row['lang']}{some}", words, row["lang"]))
    note = "What was kept: how long the documents are, and which words carry them."
    return Section("The night's corpus", blocks or ["Nothing was kept."], "corpus", note)


def record(report: Report) -> Section:
    """Return sources, settings, versions and files."""
    sources = [
        Column("source", "name"),
        Column("pattern", "uri"),
        *columns("format"),
        *columns("priority", show=number),
        Column("files read", "files", number),
        Column("size", "bytes", size),
        Column("licence", lambda source: source["licence"] or "not stated"),
    ]
    files = [*columns("folder"), *columns("files", "rows", show=number), Column("size", "bytes", size)]
    blocks = [
        Folded("Sources and licences", [Table(report["sources"], sources)], is_open=True),
        Folded("Settings", [_values(section, name) for name, section in sorted(report["settings"].items())]),
        Folded("Versions", [_values(names, stage) for stage, names in sorted(report["versions"].items())]),
        Folded("Files", [Table(report["files"], files)]),
    ]
    return Section("On record", blocks, "record", "Everything that a published byte of this night depends on.")


def _values(values: Mapping[str, Any], title: str) -> Table:
    rows = [{"name": name, "value": _plain(value)} for name, value in sorted(values.items())]
    return Table(rows, [Column("", "name"), Column("", "value")], title)


def _plain(value: Any) -> str:
    """Return a setting as one line."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(item)}" for key, item in sorted(value.items()))
    return ", ".join(map(_plain, value)) if isinstance(value, list) else str(value)
