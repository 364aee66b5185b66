"""What the report says is what the night's files hold."""

from __future__ import annotations

import json
from typing import Any

import pytest

from slimpajama.core.errors import InputError, ModelError
from slimpajama.ops.report.collect import collect
from slimpajama.workspace.local import LocalStore
from slimpajama.workspace.manifest import Manifest, json_bytes
from slimpajama.workspace.open import Workspace

Nights = dict[str, str | None]
Reports = dict[str, dict[str, Any]]


def test_the_report_is_plain_json(reports: Reports) -> None:
    for report in reports.values():
        assert json.loads(json_bytes(report)) == report


def test_levels_count_broken_records_short_documents_and_duplicates(reports: Reports) -> None:
    report = reports["2026-01-02"]
    levels = {level["name"]: level["documents"] for level in report["funnel"]["levels"]}
    assert levels == {"found": 11, "readable": 10, "clean": 7, "unique": 5, "kept": 5}
    assert report["funnel"]["levels"][0]["bytes"] is None
    assert [row["documents"] for row in report["funnel"]["sources"]] == [[11, 10, 7, 5, 5]]
    assert {row["name"]: row["documents"] for row in report["funnel"]["languages"]} == {
        "en": [None, 9, 6, 5, 5],
        "zh": [None, 1, 1, 0, 0],
    }


def test_history_holds_earlier_nights_and_this_one_but_no_later_one(reports: Reports, nights: Nights) -> None:
    found = [[row["night"] for row in report["history"]] for report in reports.values()]
    assert found == [list(nights)[: number + 1] for number in range(3)]


def test_a_night_that_was_cleaned_up_is_left_out_of_the_history(store: LocalStore, nights: Nights) -> None:
    store.delete_tree("nights/2026-01-01")
    report = collect(Workspace(store), "2026-01-02", nights["2026-01-02"])
    assert [row["night"] for row in report["history"]] == ["2026-01-02"]
    assert all(pair["kept"]["segments"] == [] for pair in report["duplicates"]["pairs"])


def test_rules_are_counted_and_shown_with_the_smallest_ids(reports: Reports) -> None:
    rules = {rule["rule"]: rule for rule in reports["2026-01-02"]["rules"]}
    assert {name: rule["documents"] for name, rule in rules.items()} == {
        "short-document": 3,
        "not-json": 1,
        "near-duplicate": 1,
        "exact-duplicate": 1,
    }
    short = rules["short-document"]
    assert (short["stage"], short["threshold"]) == ("clean", "at least 200")
    assert [sample["id"] for sample in short["samples"]] == [f"{number:032x}" for number in (22, 23, 24)]
    assert short["samples"][0]["value"] == "3 content characters"


def test_a_pair_names_both_documents_with_their_nights_and_marks_what_differs(reports: Reports) -> None:
    duplicates = reports["2026-01-02"]["duplicates"]
    near, exact = duplicates["pairs"]
    assert (duplicates["documents"], duplicates["exact"], duplicates["of_earlier_nights"]) == (2, 1, 1)
    assert (near["jaccard"], near["kept"]["night"], near["removed"]["night"]) == (0.9, "2026-01-01", "2026-01-02")
    assert next(s["text"] for s in near["kept"]["segments"] if s["differs"]) == "霜"
    assert next(s["text"] for s in near["removed"]["segments"] if s["differs"]) == "雪"
    assert not any(segment["differs"] for segment in exact["kept"]["segments"])


def test_the_verdict_names_both_models_and_gives_the_intervals(reports: Reports, nights: Nights) -> None:
    first, second, third = (report["verdict"] for report in reports.values())
    assert (first["status"], first["champion"], first["challenger"]) == ("promoted", None, nights["2026-01-01"])
    assert (second["status"], second["champion"]) == ("promoted", nights["2026-01-01"])
    assert second["languages"]["en"]["low"] == 0.05
    assert (third["status"], third["promoted"], third["challenger"]) == ("untrained", None, None)


def test_the_champion_of_a_night_stays_the_same_when_the_pointer_moves_on(store: LocalStore, nights: Nights) -> None:
    before = collect(Workspace(store), "2026-01-02", nights["2026-01-02"])
    store.write(
        "models/champion.json", json_bytes({"model": nights["2026-01-02"], "night": "2026-01-02", "history": []})
    )
    assert collect(Workspace(store), "2026-01-02", nights["2026-01-02"]) == before


def test_another_model_of_the_same_night_is_not_taken_for_the_champion(store: LocalStore, nights: Nights) -> None:
    before = collect(Workspace(store), "2026-01-02", nights["2026-01-02"])
    decoy = Manifest("evaluate", "0", (), {}, {"max_mb_per_language": 1.0, "model": "decoy"})
    store.write("models/2025-decoy/evaluations/2026-01-02/manifest.json", json_bytes(decoy))
    assert collect(Workspace(store), "2026-01-02", nights["2026-01-02"]) == before


def test_a_model_that_was_not_evaluated_is_said_to_be_so(store: LocalStore, nights: Nights) -> None:
    store.delete_tree(f"models/{nights['2026-01-01']}/evaluations")
    report = collect(Workspace(store), "2026-01-01", nights["2026-01-01"])
    assert (report["verdict"]["status"], report["evaluation"]) == ("pending", None)
    assert report["training"]["tokens"] == 300


def test_words_are_counted_without_case_blanks_and_numbers(reports: Reports) -> None:
    words = reports["2026-01-01"]["corpus"]["words"]
    assert {row["lang"] for row in words} == {"zh", "en"}
    assert {word["word"]: word["count"] for word in words[0]["words"]} == {"moon": 2, "<b>evil</b>": 1, "明月": 1}


def test_lengths_of_all_kept_documents_are_in_some_bin(reports: Reports) -> None:
    for report in reports.values():
        counts = report["corpus"]["lengths"]["counts"]
        assert sum(map(sum, counts.values())) == report["funnel"]["levels"][-1]["documents"]


def test_clusters_are_counted_by_their_size(reports: Reports) -> None:
    assert reports["2026-01-01"]["corpus"]["clusters"] == [{"size": 1, "clusters": 2}]
    assert reports["2026-01-02"]["corpus"]["clusters"] == [{"size": 1, "clusters": 7}]


def test_sources_carry_their_licence_and_files_their_sizes(reports: Reports, nights: Nights) -> None:
    report = reports["2026-01-01"]
    assert report["sources"][0] | {"uri": ""} == {
        "name": "web",
        "uri": "",
        "format": "auto",
        "priority": 0,
        "licence": "CC0-1.0",
        "files": 1,
        "bytes": 9,
    }
    folders = {row["folder"]: row for row in report["files"]}
    assert folders["nights/2026-01-01/documents"]["rows"] == 2
    assert folders[f"models/{nights['2026-01-01']}"]["bytes"] > 0


def test_a_night_or_model_that_is_not_there_is_named(store: LocalStore) -> None:
    with pytest.raises(InputError, match="no such night"):
        collect(Workspace(store), "2026-01-09")
    with pytest.raises(ModelError, match="no such model"):
        collect(Workspace(store), "2026-01-01", "nobody")
    with pytest.raises(ModelError, match="no such tuned model"):
        collect(Workspace(store), "2026-01-01", None, "nobody")


def test_a_tuning_has_its_own_reasons_and_excerpts_and_what_it_depends_on(reports: Reports) -> None:
    tuning = reports["2026-01-02"]["tuning"]
    assert reports["2026-01-01"]["tuning"] is None
    assert {task: one["reason"][:8] for task, one in tuning["decisions"].items()} == {
        "translation": "better: ",
        "question-answering": "nobody s",
    }
    assert tuning["base"] == reports["2026-01-02"]["verdict"]["challenger"]
    assert len(tuning["scores"]["samples"][1]["source"]) <= 600
    assert reports["2026-01-02"]["settings"]["tune"] == {"tokens": 4096}
    folders = {row["folder"] for row in reports["2026-01-02"]["files"]}
    assert f"tuned/{tuning['model']}" in folders
