"""What is unlike the nights before: measures of a night beside the median of up to seven earlier ones.

A measure is unusual where its modified z-score exceeds 3.5 (Iglewicz and Hoaglin 1993, "How to Detect and Handle
Outliers"), with the median absolute deviation taken as at least a twentieth of the median: nights that hardly differ
would otherwise make a flag of the first normal one.
"""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from slimpajama.workspace.manifest import total

# The spread of fewer nights says nothing.
LEAST_NIGHTS = 3
# The shares of a source with fewer documents say little.
LEAST_DOCUMENTS = 20
LIMIT, NORMAL = 3.5, 0.6745
FLOOR = 0.05

Counts = Mapping[str, Any]


def measures(counts: Counts) -> dict[str, float]:
    """Return a night's measures by name, from its manifest's counts alone: shares, and bytes a document and a token."""
    ingest, clean, dedup, shards = (counts.get(stage, {}) for stage in ("ingest", "clean", "dedup", "shards"))
    found = total(ingest.get("documents", 0)) + total(ingest.get("removed", 0))
    kept, kept_bytes = total(dedup.get("kept", 0)), total(dedup.get("kept_bytes", 0))
    values = {"kept of all found": (kept, found)}
    values["bytes a kept document"] = (kept_bytes, kept)
    values["bytes a token"] = (total(shards.get("bytes", 0)), total(shards.get("tokens", 0)))
    for lang, number in dedup.get("kept_languages", {}).items():
        values[f"{lang} of kept"] = (number, kept)
    passages = counts.get("passages", {})
    values["repeated passages of text"] = (total(passages.get("bytes", 0)), total(clean.get("bytes", 0)))
    for stage in (ingest, clean, dedup, counts.get("decontaminate", {}), passages):
        for rules in stage.get("removed", {}).values():
            for rule, number in rules.items():
                name = f"{rule} of found"
                values[name] = (number + values.get(name, (0, 0))[0], found)
    for source, number in ingest.get("documents", {}).items():
        if number >= LEAST_DOCUMENTS:
            values[f"kept of {source}"] = (dedup.get("kept", {}).get(source, 0), number)
    return {name: part / whole for name, (part, whole) in values.items() if whole}


def _value(night: Mapping[str, float], name: str) -> float | None:
    """Return a night's measure: 0 where a rule or language did not occur, None where there was nothing to measure."""
    whole = {" of found": "kept of all found", " of kept": "bytes a kept document"}
    something = any(name.endswith(end) and of in night for end, of in whole.items())
    return night.get(name, 0.0 if something else None)


def drift(nights: Sequence[Counts]) -> list[dict[str, Any]]:
    """Return the last night's measures beside the nights before it, oldest first; unusual measures come first.

    Returns:
        `measure`, `tonight`, `median`, `low` and `high` of the earlier nights that have it, and `unusual`; only
        measures that at least LEAST_NIGHTS earlier nights have. A rule that removed nothing counts as 0.
    """
    *earlier, last = [measures(counts) for counts in nights]
    rows = []
    for name in sorted({name for night in [*earlier, last] for name in night}):
        before = [value for night in earlier if (value := _value(night, name)) is not None]
        now = _value(last, name)
        if now is None or len(before) < LEAST_NIGHTS:
            continue
        middle = median(before)
        spread = max(median(abs(value - middle) for value in before), FLOOR * abs(middle), 1e-3)
        rows.append(
            {
                "measure": name,
                "tonight": now,
                "median": middle,
                "low": min(before),
                "high": max(before),
                "unusual": NORMAL * abs(now - middle) / spread > LIMIT,
            }
        )
    return sorted(rows, key=lambda row: (not row["unusual"], row["measure"]))
