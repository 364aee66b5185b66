"""A forecast for people and as plain JSON types."""

from dataclasses import asdict
from typing import Any

from slimpajama.core.config import TrainConfig
from slimpajama.core.errors import printable
from slimpajama.core.format import megabytes, number
from slimpajama.core.page import Column, columns, plain_facts, plain_table
from slimpajama.ops.forecast.estimate import ERROR, Forecast

# So many files and problems are listed for people; --json has all.
SHOWN = 10
TOTALS = ("documents", "text_bytes", "broken", "cleaned", "cleaned_bytes", "kept", "kept_at_most", "kept_bytes")


def as_dict(forecast: Forecast, train: TrainConfig | None = None) -> dict[str, Any]:
    """Return a forecast as plain JSON types; counts are whole numbers.

    Where a model is trained, too, its budget is named, which the forecast's time does not cover.
    """
    found = forecast.plan
    sources = [
        {key: round(value) if isinstance(value, float) and key != "sampled" else value for key, value in row.items()}
        for row in map(asdict, forecast.sources)
    ]
    budget = {"train": {"tokens": train.tokens, "max_seconds": train.max_seconds, "in_seconds": False}} if train else {}
    return {
        "files": [{"source": file.source, "path": file.path, "bytes": file.bytes} for file in found.files],
        "bytes": sum(file.bytes for file in found.files),
        "problems": [
            {"source": source, "path": path, "rule": bad.rule, "value": bad.value}
            for source, path, bad in found.problems
        ],
        "broken": [asdict(one) | {"text": one.text()} for one in forecast.problems],
        "sources": sources,
        "total": {name: sum(source[name] for source in sources) for name in TOTALS},
        "tokens": round(forecast.tokens),
        "seconds": round(sum(forecast.seconds.values()), 2),
        "seconds_by_stage": {name: round(value, 3) for name, value in forecast.seconds.items()},
        "cpu_seconds": round(forecast.cpu_seconds, 2),
        "disk_bytes": round(forecast.disk_bytes),
        "peak_disk_bytes": round(forecast.peak_disk_bytes),
        "memory_bytes": round(forecast.memory_bytes),
        "sampled_bytes": forecast.sampled_bytes,
        "error": {
            "documents": 0.0 if forecast.whole else ERROR,
            "kept": 0.0 if forecast.whole else ERROR if forecast.sure else None,
            "other": ERROR,
        },
    } | budget


def render(forecast: Forecast, train: TrainConfig | None = None) -> str:
    """Return a forecast as a table, totals with their errors, and the first of the files; arguments as above."""
    value = as_dict(forecast, train)
    problems = [
        f"{problem['rule']:>20}  {problem['source']:<16} {printable(problem['path'])}: {printable(problem['value'])}"
        for problem in value["problems"]
    ]
    broken = [f"{'went wrong':>20}  {one['text']}" for one in value["broken"]]
    files = [f"{file['bytes']:>14,} bytes  {file['source']:<16} {printable(file['path'])}" for file in value["files"]]
    listed = [*_first(files, "files"), *_first(problems, "problems"), *_first(broken, "problems")]
    if not forecast.sources:
        return "\n".join([*listed, "no new or changed file: nothing to do"])
    shown = [
        Column("source", "name"),
        *columns("files", "bytes", show=number),
        Column("sampled", "sampled", "{:.1%}".format),
        *columns("documents", show=number),
        Column("text", "text_bytes", _mb),
        *columns("cleaned", "kept", show=number),
    ]
    return "\n".join([*listed, "", plain_table(value["sources"], shown), "", plain_facts(_totals(forecast, value))])


def _totals(forecast: Forecast, value: dict[str, Any]) -> dict[str, str]:
    total, error = value["total"], f"±{ERROR:.0%}"
    counted = "counted" if forecast.whole else error
    stages = ", ".join(f"{name} {seconds:.1f}" for name, seconds in forecast.seconds.items())
    kept = counted if forecast.sure else f"at most {total['kept_at_most']:,}: duplicates far apart, a sample shows few"
    derived = error if forecast.sure else "as kept"
    facts = {
        "files": f"{len(value['files']):,} new or changed, {value['bytes']:,} bytes",
        "documents": f"{total['documents']:,} ({counted}), {total['broken']:,} broken records",
        "kept": f"{total['kept']:,} of {total['cleaned']:,} after cleaning ({kept})",
        "text": f"{_mb(total['text_bytes'])} ({counted})",
        "kept text": f"{_mb(total['kept_bytes'])}, {value['tokens']:,} tokens ({derived})",
        "time": f"{value['seconds']:,.0f} s ({error}: {stages}); starting Prefect comes on top",
        "processor": f"{value['cpu_seconds']:,.0f} s ({error})",
        "disk": f"{_mb(value['disk_bytes'])} published ({error}), {_mb(value['peak_disk_bytes'])} while it runs",
        "memory": f"{_mb(value['memory_bytes'])} ({error})",
    }
    if train := value.get("train"):
        limit = f", at most {train['max_seconds']:g} s" if train["max_seconds"] else ""
        facts["training"] = f"{train['tokens']:,} tokens{limit}; neither time nor memory above covers it"
    return facts


def _first(lines: list[str], noun: str) -> list[str]:
    more = len(lines) - SHOWN
    return [*lines[:SHOWN], f"{'':>14} and {more:,} more {noun}; --json lists all"] if more > 0 else lines


def _mb(n_bytes: float) -> str:
    return f"{megabytes(n_bytes, 1)} MB"
