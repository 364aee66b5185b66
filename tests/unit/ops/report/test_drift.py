from __future__ import annotations

from typing import Any

import pytest

from slimpajama.ops.report.drift import drift, measures


def night(found: int, kept: int, zh: int, rules: dict[str, int] | None = None) -> dict[str, Any]:
    """Return counts of a night as its manifest holds them."""
    return {
        "ingest": {"documents": {"web": found}},
        "clean": {"removed": {"web": rules or {}}},
        "dedup": {
            "kept": {"web": kept},
            "kept_bytes": {"web": 1000 * kept},
            "kept_languages": {"zh": zh, "en": kept - zh},
        },
        "shards": {"tokens": {"train": {"zh": 300 * kept}}, "bytes": {"train": {"zh": 900 * kept}}},
    }


def test_measures_are_shares_and_sizes_of_the_counts():
    assert measures(night(100, 80, 60, {"short-document": 20})) == pytest.approx(
        {
            "kept of all found": 0.8,
            "bytes a kept document": 1000.0,
            "bytes a token": 3.0,
            "zh of kept": 0.75,
            "en of kept": 0.25,
            "short-document of found": 0.2,
            "kept of web": 0.8,
        }
    )


def test_a_night_like_the_others_is_not_unusual():
    rows = drift([night(100, 80, 60), night(110, 90, 66), night(95, 75, 57), night(105, 84, 64)])
    assert not any(row["unusual"] for row in rows)
    assert {"kept of all found", "zh of kept"} <= {row["measure"] for row in rows}


def test_a_language_that_vanishes_and_a_rule_that_appears_come_first():
    usual = [night(100 + n, 80 + n, 60) for n in range(4)]
    rows = drift([*usual, night(100, 40, 0, {"damaged": 60})])
    unusual = [row["measure"] for row in rows if row["unusual"]]
    assert unusual == [row["measure"] for row in rows[: len(unusual)]]
    assert {"zh of kept", "en of kept", "kept of all found", "damaged of found"} <= set(unusual)
    assert "bytes a token" not in unusual
    row = next(row for row in rows if row["measure"] == "damaged of found")
    assert (row["tonight"], row["median"], row["low"], row["high"]) == (0.6, 0.0, 0.0, 0.0)


def test_two_earlier_nights_are_too_few_to_judge_by():
    assert drift([night(100, 80, 60), night(100, 80, 60), night(100, 1, 1)]) == []


def test_a_night_without_documents_has_nothing_to_compare():
    assert drift([night(100, 80, 60)] * 3 + [{"ingest": {}}]) == []
