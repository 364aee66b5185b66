"""`explain` tells where a document came from, why it was kept or removed, and where it went."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from slimpajama.core.config import CleanConfig, DedupConfig, IngestConfig, SourceConfig, canonical
from slimpajama.core.errors import InputError
from slimpajama.core.schema import DOCUMENTS, SHARDS, removed_table
from slimpajama.core.split import document_keys
from slimpajama.ops.explain import MOST_LISTED, explain, render
from slimpajama.workspace.lineage import READ
from slimpajama.workspace.local import LocalStore
from slimpajama.workspace.manifest import FileEntry, Manifest, entry_of, json_bytes
from slimpajama.workspace.open import Workspace
from slimpajama.workspace.parquet import parquet_bytes
from slimpajama.workspace.registry import Models
from slimpajama.workspace.store import sha256

FIRST, SECOND = "2026-01-01", "2026-01-02"
KEPT, HELD_OUT, NEAR, SHORT, BROKEN, TWICE = (f"{digit}{digit}{digit}{digit}" + "0" * 28 for digit in "abcdef")
POEM = "床前明月光，疑是地上霜。" * 10


def row(doc_id: str, night: str, text: str = POEM, place: str = "1") -> dict[str, Any]:
    return {
        "id": doc_id,
        "text": text,
        "lang": "zh",
        "source": "poems",
        "uri": f"raw/a#b.jsonl#{place}",
        "night": night,
        "sha256": sha256(text.encode()),
        "n_chars": len(text),
        "n_bytes": len(text.encode()),
        "quality": {"content_chars": 100, "han_share": 1.0, "lang_zh": 0.98, "lang_en": 0.0, "lang_reliable": True},
    }


def duplicate(doc_id: str, night: str, of: str, jaccard: float) -> dict[str, Any]:
    rule = "exact-duplicate" if jaccard == 1 else "near-duplicate"
    verdict = {"stage": "dedup", "rule": rule, "value": f"{jaccard:.6f}", "threshold": "0.8"}
    return row(doc_id, night, place="2") | verdict | {"duplicate_of": of, "jaccard": jaccard}


def contaminated(doc_id: str, night: str) -> dict[str, Any]:
    value = "16 words of exam: eval/a.jsonl#7, characters 3 to 40: 床前明月光"
    said = {"stage": "decontaminate", "rule": "evaluation-overlap", "value": value, "threshold": "less than 13 words"}
    return row(doc_id, night, place="3") | said


def shard(ids: list[str]) -> pa.Table:
    rows = [
        {
            "id": doc_id,
            "lang": "zh",
            "source": "poems",
            "words": [],
            "content_words": [],
            "input_ids": [1] * (7 + place),
        }
        | {"content_mask": "1" * (7 + place), "n_bytes": 1}
        for place, doc_id in enumerate(ids)
    ]
    return pa.Table.from_pylist(rows, SHARDS)


def write_night(
    store: LocalStore, night: str, tables: dict[str, pa.Table], unlisted: str = "", clean: CleanConfig | None = None
) -> None:
    entries = []
    for name, table in tables.items():
        data = parquet_bytes(table)
        store.write(f"nights/{night}/{name}", data)
        entries.append(FileEntry(f"nights/{night}/{name}", sha256(data), len(data), table.num_rows))
    source = SourceConfig(name="poems", uri="raw/*.jsonl", licence="CC0-1.0")
    parts = {"ingest": IngestConfig(sources=(source,)), "clean": clean or CleanConfig(), "dedup": DedupConfig()}
    names = ("raw/a", "raw/a#b.jsonl", "raw/c.jsonl")
    inputs = [{"source": "poems", "path": path, "bytes": 12, "sha256": sha256(path.encode())} for path in names]
    settings = {name: canonical(value) for name, value in parts.items()}
    about = {"settings": settings, "stages": {"ingest": {"inputs": inputs}}}
    listed = tuple(entry for entry in entries if entry.path != f"nights/{night}/{unlisted}")
    store.write(f"nights/{night}/manifest.json", json_bytes(Manifest("night", "0", listed, {}, about)))


def write_model(store: LocalStore, model: str, nights: list[str]) -> None:
    about = {"night": nights[-1], "nights": dict.fromkeys(nights, "")}
    store.write(f"models/{model}/manifest.json", json_bytes(Manifest("train", "0", (), {}, about)))


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    store = LocalStore(str(tmp_path))
    short = row(SHORT, FIRST, "太短了。") | {
        "stage": "clean",
        "rule": "short-document",
        "value": "3",
        "threshold": "at least 70",
    }
    broken = {"id": BROKEN, "source": "poems", "uri": "raw/c.jsonl#5", "night": FIRST, "stage": "ingest"}
    broken |= {"rule": "not-json", "value": "line 5: \x1b[31mred", "threshold": "one JSON object"}
    kept = [row(KEPT, FIRST), row(HELD_OUT, FIRST, place="3"), row(TWICE, FIRST, place="4")]
    first = {
        "documents/part-0.parquet": pa.Table.from_pylist(kept, DOCUMENTS),
        "removed/clean-part-0.parquet": removed_table([short]),
        "removed/ingest-part-0.parquet": removed_table([broken]),
        "shards/train/train-00000-of-00001.parquet": shard([TWICE, KEPT]),
        "shards/test/test-00000-of-00001.parquet": shard([HELD_OUT]),
    }
    again = [duplicate(NEAR, SECOND, KEPT, 0.9125), duplicate(TWICE, SECOND, TWICE, 1.0)]
    ghost = pa.Table.from_pylist([row("9" * 32, SECOND)], DOCUMENTS)
    second = {"removed/dedup-part-0.parquet": removed_table(again), "documents/stray.parquet": ghost}
    write_night(store, FIRST, first)
    write_night(store, SECOND, second, unlisted="documents/stray.parquet")
    store.write("nights/index.json", json_bytes({"nights": [FIRST, SECOND]}))
    write_model(store, "2026-01-01-tiny-0", [FIRST])
    write_model(store, "2026-01-02-tiny-0", [SECOND])
    write_model(store, "2026-01-02-tiny-1", [FIRST, SECOND])
    return store


def only(store: LocalStore, doc_id: str) -> dict[str, Any]:
    (record,) = explain(Workspace(store), doc_id)["records"]
    return dict(record)


def test_a_kept_document_tells_its_origin_down_to_the_raw_file(store: LocalStore) -> None:
    record = only(store, KEPT)
    assert (record["status"], record["night"], record["licence"]) == ("kept", FIRST, "CC0-1.0")
    assert record["uri"] == "raw/a#b.jsonl#1"
    assert record["raw_file"] == {"path": "raw/a#b.jsonl", "bytes": 12, "sha256": sha256(b"raw/a#b.jsonl")}


def test_a_kept_document_names_its_shard_row_tokens_and_the_models_that_saw_it(store: LocalStore) -> None:
    record = only(store, KEPT)
    path = f"nights/{FIRST}/shards/train/train-00000-of-00001.parquet"
    assert record["shards"] == [{"path": path, "split": "train", "row": 1, "tokens": 8}]
    assert [model["model"] for model in record["models"]] == ["2026-01-01-tiny-0", "2026-01-02-tiny-1"]


@pytest.mark.parametrize("seen", [True, False])
def test_only_models_that_really_read_a_document_are_named_with_the_share_of_the_night(
    store: LocalStore, seen: bool
) -> None:
    keys = document_keys([KEPT if seen else HELD_OUT])
    table = pa.table([[FIRST], keys], schema=READ)
    path = "models/2026-01-02-tiny-9/read.parquet"
    store.write(path, parquet_bytes(table))
    about = {"night": SECOND, "nights": {FIRST: "", SECOND: ""}, "started_from": ""}
    counts = {"read": {FIRST: {"read": 1, "documents": 40}, SECOND: {"read": 0, "documents": 7}}}
    made = Manifest("train", "9", (entry_of(path, store.read(path), 1),), counts, about)
    store.write("models/2026-01-02-tiny-9/manifest.json", json_bytes(made))
    heir = Manifest("train", "8", (), {"read": {SECOND: {"read": 7, "documents": 7}}}, about | {"nights": {SECOND: ""}})
    heir.depends_on["started_from"] = "2026-01-02-tiny-9"
    store.write("models/2026-01-02-tiny-8/manifest.json", json_bytes(heir))
    found = {row["model"]: (row["saw"], row["share"]) for row in only(store, KEPT)["models"]}
    assert found["2026-01-01-tiny-0"] == ("may have seen it", None)
    own = {name: found.get(name) for name in ("2026-01-02-tiny-9", "2026-01-02-tiny-8")}
    shown = render(explain(Workspace(store), KEPT))
    if seen:
        assert list(own.values()) == [("read it", 0.025), ("began as one that has", None)]
        assert "2026-01-02-tiny-9 read it, with 2.5 % of the night's documents" in shown
    else:
        assert set(own.values()) == {None}
        assert "tiny-9" not in shown


def test_what_was_trained_on_a_document_and_what_looks_it_up_are_told_apart(store: LocalStore) -> None:
    assert only(store, KEPT)["remembered_by"] == []
    for night, indexes in ((FIRST, {FIRST: "d"}), (SECOND, {SECOND: "e"})):
        manifest = Manifest("memory", "0", (), {}, {"indexes": indexes})
        store.write(f"models/2026-01-02-tiny-0/memory/{night}/manifest.json", json_bytes(manifest))
    # The newest memory is used, and does not hold the first night.
    assert only(store, KEPT)["remembered_by"] == []
    Models(store).promote("2026-01-02-tiny-0", "by hand", FIRST)
    record = only(store, KEPT)
    assert record["remembered_by"] == [{"model": "2026-01-02-tiny-0", "night": FIRST}]
    assert "2026-01-02-tiny-0" not in [model["model"] for model in record["models"]]
    assert "memories     2026-01-02-tiny-0" in render(explain(Workspace(store), KEPT))
    assert only(store, HELD_OUT)["remembered_by"] == []


def test_a_kept_document_names_those_removed_for_it(store: LocalStore) -> None:
    (other,) = only(store, KEPT)["removed_for_it"]
    assert (other["id"], other["night"], other["jaccard"]) == (NEAR, SECOND, 0.9125)


def test_a_licence_with_many_copies_shows_the_first_ones_and_how_many_more(tmp_path: Path) -> None:
    store = LocalStore(str(tmp_path))
    copies = [duplicate(f"{number:032x}", FIRST, KEPT, 0.9) for number in range(1, MOST_LISTED + 4)]
    tables = {"documents/0.parquet": pa.Table.from_pylist([row(KEPT, FIRST)], DOCUMENTS)}
    write_night(store, FIRST, tables | {"removed/dedup-0.parquet": removed_table(copies)})
    store.write("nights/index.json", json_bytes({"nights": [FIRST]}))
    story = explain(Workspace(store), KEPT)
    assert len(story["records"][0]["removed_for_it"]) == MOST_LISTED + 3
    shown = [line for line in render(story).splitlines() if line.startswith("instead of")]
    assert len(shown) == MOST_LISTED + 1
    assert "3 more" in shown[-1]


def test_a_held_out_document_was_seen_by_no_model(store: LocalStore) -> None:
    record = only(store, HELD_OUT)
    assert ([shard["split"] for shard in record["shards"]], record["models"]) == (["test"], [])
    assert "held out" in render(explain(Workspace(store), HELD_OUT))


def test_a_near_duplicate_names_its_partner_with_similarity_night_and_place(store: LocalStore) -> None:
    record = only(store, NEAR)
    assert (record["status"], record["stage"], record["rule"]) == ("removed", "dedup", "near-duplicate")
    partner = record["duplicate_of"]
    assert (partner["id"], partner["jaccard"], partner["night"]) == (KEPT, 0.9125, FIRST)
    assert partner["uri"] == "raw/a#b.jsonl#1"
    assert [(rule["rule"], rule["passed"]) for rule in record["rules"]] == [
        ("no-content", True),
        ("short-document", True),
        ("language", True),
        ("mojibake", True),
        ("near-duplicate", False),
    ]


def test_a_short_document_shows_the_chinese_bound_and_what_was_measured(store: LocalStore) -> None:
    failed = [rule for rule in only(store, SHORT)["rules"] if not rule["passed"]]
    assert failed == [
        {"rule": "short-document", "value": "3 content characters", "threshold": "at least 70", "passed": False}
    ]


def test_a_repeated_advertisement_shows_every_rule_of_its_nights_preset(tmp_path: Path) -> None:
    store, advert = LocalStore(str(tmp_path)), "全场五折优惠，正品保证，七天包退，加微信领红包！" * 20
    verdict = {"stage": "clean", "rule": "gopher-dup-5gram", "value": "0.9", "threshold": "at most 0.198"}
    table = removed_table([row(SHORT, FIRST, advert) | verdict])
    write_night(store, FIRST, {"removed/clean-part-0.parquet": table}, clean=CleanConfig(preset="chinese"))
    store.write("nights/index.json", json_bytes({"nights": [FIRST]}))
    rules = {rule["rule"]: rule for rule in only(store, SHORT)["rules"]}
    assert rules["chinesewebtext-length"]["passed"]
    assert not rules["gopher-dup-10gram"]["passed"]
    assert float(rules["gopher-dup-10gram"]["value"]) > 0.9
    assert "FAILED gopher-dup-5gram" in render(explain(Workspace(store), SHORT))


def test_a_broken_record_has_a_reason_and_no_rules(store: LocalStore) -> None:
    record = only(store, BROKEN)
    assert (record["rules"], record["rule"], record["raw_file"]["path"]) == ([], "not-json", "raw/c.jsonl")
    assert "line 5: \\x1b[31mred" in render(explain(Workspace(store), BROKEN))


def test_a_document_that_came_twice_has_both_records_in_order(store: LocalStore) -> None:
    records = explain(Workspace(store), TWICE)["records"]
    assert [(record["night"], record["status"]) for record in records] == [(FIRST, "kept"), (SECOND, "removed")]
    assert records[1]["duplicate_of"]["id"] == TWICE


def test_a_partner_that_is_gone_is_said_to_be_gone(store: LocalStore) -> None:
    store.write("nights/index.json", json_bytes({"nights": [SECOND]}))
    assert only(store, NEAR)["duplicate_of"]["uri"] is None
    assert "no longer there" in render(explain(Workspace(store), NEAR))


def test_a_unique_beginning_is_enough_in_any_case(store: LocalStore) -> None:
    assert explain(Workspace(store), "AAAA00")["id"] == KEPT


@pytest.mark.parametrize(
    ("doc_id", "message"),
    [
        ("aaaa", "at least 6 hex digits"),
        ("../../etc/passwd", "at least 6 hex digits"),
        ("123456", "no such document"),
        ("999999", "no such document"),
    ],
)
def test_an_id_that_is_malformed_unknown_or_in_no_manifest_is_refused(
    store: LocalStore, doc_id: str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        explain(Workspace(store), doc_id)


def test_a_beginning_that_several_documents_share_lists_them(store: LocalStore) -> None:
    twin = row(KEPT[:-1] + "1", FIRST)
    documents = pa.Table.from_pylist([row(KEPT, FIRST), twin], DOCUMENTS)
    write_night(store, FIRST, {"documents/part-0.parquet": documents})
    with pytest.raises(InputError, match=f"{KEPT}, {twin['id']}"):
        explain(Workspace(store), KEPT[:12])


def test_every_story_is_plain_json_and_printable_lines(store: LocalStore) -> None:
    for doc_id in (KEPT, HELD_OUT, NEAR, SHORT, BROKEN, TWICE):
        story = explain(Workspace(store), doc_id)
        assert json.loads(json.dumps(story)) == story
        assert all(line.isprintable() for line in render(story).split("\n"))


def test_a_contaminated_document_shows_test_and_stretch_and_is_named_where_another_was_removed_for_it(
    store: LocalStore,
) -> None:
    other, night = "1" * 32, "2026-01-03"
    removed = removed_table([contaminated("0" * 32, night), duplicate(other, night, "0" * 32, 0.9)])
    write_night(store, night, {"removed/part-0.parquet": removed})
    store.write("nights/index.json", json_bytes({"nights": [FIRST, SECOND, night]}))
    *before, (name, passed) = [(rule["rule"], rule["passed"]) for rule in only(store, "0" * 32)["rules"]]
    assert (name, passed) == ("evaluation-overlap", False)
    assert ("near-duplicate", True) in before
    assert "FAILED evaluation-overlap: 16 words of exam: eval/a.jsonl#7, characters 3 to 40: 床前明月光" in render(
        explain(Workspace(store), "0" * 32)
    )
    assert only(store, other)["duplicate_of"]["uri"] == "raw/a#b.jsonl#3"
