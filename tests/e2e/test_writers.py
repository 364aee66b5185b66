"""Two writers on S3, of which one may stand still at any moment: neither harms what the other has published."""

import json
from dataclasses import replace

import pyarrow as pa
import pytest
from small_corpus import published_in
from steps import begin_step

from benchmarks.attacks import writers
from slimpajama.core.errors import LockedError
from slimpajama.corpus.pipeline import BY_NAME
from slimpajama.ops.verify import verify
from slimpajama.workspace.claims import use_executor
from slimpajama.workspace.manifest import FileEntry, Manifest, entry_of, json_bytes, load_manifest
from slimpajama.workspace.open import Workspace, open_store
from slimpajama.workspace.parquet import parquet_bytes, read_table
from slimpajama.workspace.step import Context, Part
from slimpajama.workspace.store import sha256
from slimpajama.workspace.worker import run_some

TABLE = pa.table({"text": ["中文", "english"]})


@pytest.fixture
def two(s3_uri):
    """Two writers of one workspace."""
    return open_store(s3_uri), open_store(s3_uri)


def manifest_of(*contents, night="n"):
    entries = [FileEntry(f"nights/{night}/{name}", sha256(data), len(data)) for name, data in contents]
    return json_bytes(Manifest("night", "f", tuple(entries), {}, {}))


def test_writers_that_stand_still_or_whose_clock_is_wrong_publish_no_bad_night_and_none_twice(s3, tmp_path):
    # Its first ten tries are each pair twice, with the lease seen and unseen, and a clock that is ahead.
    (row,) = writers.attack_here(tmp_path / "corpus", 10, seed=20261201)
    assert row.broken == []


def test_a_listed_file_lies_under_a_name_of_its_own_that_its_manifest_leads_to(two):
    first, second = two
    for store, data in ((first, b"of one"), (second, b"of another")):
        store.write_listed("nights/n/README.md", data, sha256(data))
    assert first.list("nights/n") == sorted(f"nights/n/README.{sha256(d)[:16]}.md" for d in (b"of one", b"of another"))
    second.publish("nights/n/manifest.json", manifest_of(("README.md", b"of another")))
    reader = open_store(first.uri)
    assert load_manifest(reader, "nights/n/manifest.json").paths("") == ["nights/n/README.md"]
    assert reader.read("nights/n/README.md") == b"of another"
    assert reader.exists("nights/n/README.md")
    # What the first one wrote goes with the next sweep, what is listed stays.
    Workspace(second).nights.drop_unlisted("n")
    assert reader.list("nights/n") == [second.name("nights/n/README.md"), "nights/n/manifest.json"]


def test_a_shard_has_its_hash_in_its_name_already(two):
    store, data = two[0], b"rows"
    path = f"nights/n/shards/train/{sha256(data)[:16]}.parquet"
    store.write_listed(path, data, sha256(data))
    assert store.list() == [path]


def test_of_two_manifests_the_second_is_refused_and_the_first_stays(two):
    first, second = two
    for store in two:
        assert load_manifest(store, "nights/n/manifest.json") is None
    with first.lock("night n"):
        first.publish("nights/n/manifest.json", manifest_of(("a", b"1")))
    with pytest.raises(LockedError, match="another run was first while this one stood still"):
        second.publish("nights/n/manifest.json", manifest_of(("a", b"2")))
    assert second.read("nights/n/manifest.json") == manifest_of(("a", b"1"))


def test_a_manifest_that_was_replaced_since_it_was_read_is_not_replaced_again(two):
    first, second = two
    first.publish("nights/n/manifest.json", manifest_of(("a", b"1")))
    with first.lock("forget"):
        load_manifest(first, "nights/n/manifest.json")
        load_manifest(second, "nights/n/manifest.json")
        second.publish("nights/n/manifest.json", manifest_of(("a", b"2")))
        # Reading it again does not make what was computed before any newer.
        load_manifest(first, "nights/n/manifest.json")
        with pytest.raises(LockedError, match="another run was first"):
            first.publish("nights/n/manifest.json", manifest_of(("a", b"3")))


def test_a_night_that_was_given_up_is_not_published_by_whoever_began_it_and_can_be_begun_anew(two):
    first, second = two
    for store in two:
        assert load_manifest(store, "nights/n/manifest.json") is None
    path, data = "nights/n/documents/part.parquet", parquet_bytes(TABLE)
    first.write_listed(path, data, sha256(data))
    Workspace(second).nights.discard("n")
    assert second.list() == []
    assert not second.exists("nights/n/manifest.json")
    assert Workspace(second).nights.begun() == []
    with pytest.raises(LockedError):
        first.publish("nights/n/manifest.json", manifest_of(("documents/part.parquet", data)))
    old = first.name(path)
    # The same bytes get another name, which those who still delete the old one do not know.
    second.write_listed(path, data, sha256(data))
    second.publish("nights/n/manifest.json", manifest_of(("documents/part.parquet", data)))
    assert second.name(path) != old
    second.delete(old)
    reader = open_store(first.uri)
    assert load_manifest(reader, "nights/n/manifest.json").paths("") == [path]
    assert read_table(reader, entry_of(path, data)).equals(TABLE)
    with pytest.raises(LockedError):
        Workspace(first).nights.discard("n")
    assert read_table(reader, entry_of(path, data)).equals(TABLE)


def test_a_night_of_an_earlier_version_is_read_and_its_files_stay(two):
    store, path, data = two[0], "nights/n/documents/part.parquet", parquet_bytes(TABLE)
    store.write(path, data)
    store.write("nights/n/manifest.json", manifest_of(("documents/part.parquet", data)))
    store.write("nights/index.json", json.dumps({"nights": ["n"]}).encode())
    reader = open_store(store.uri)
    assert Workspace(reader).nights.load("n").paths("") == [path]
    assert read_table(reader, entry_of(path, data)).equals(TABLE)
    assert verify(Workspace(reader)) == (1, {})
    Workspace(reader).nights.drop_unlisted("n")
    assert reader.list("nights/n/documents") == [path]


def test_a_workspace_on_s3_that_is_copied_into_a_folder_opens_there_and_its_files_stay(two, tmp_path):
    store, path, data = two[0], "nights/n/documents/part.parquet", parquet_bytes(TABLE)
    for night in ("gone", "n"):
        Workspace(store).nights.discard(night)
    store.write_listed(path, data, sha256(data))
    store.publish("nights/n/manifest.json", manifest_of(("documents/part.parquet", data)))
    store.write("nights/index.json", json.dumps({"nights": ["n"]}).encode())
    store._fs.get(f"{store.uri}/nights", str(tmp_path / "nights"), recursive=True)
    copy = Workspace(open_store(str(tmp_path)))
    assert (tmp_path / "nights/gone/manifest.json").read_bytes() == b"\n\n"
    assert verify(copy) == (1, {})
    assert copy.nights.load("n").paths("") == [path]
    assert copy.nights.begun() == []
    assert load_manifest(copy.store, "nights/gone/manifest.json") is None
    copy.nights.drop_unlisted("n")
    assert read_table(copy.store, entry_of(path, data)).equals(TABLE)
    assert copy.store.exists(path)


def test_a_step_begun_with_other_settings_leaves_the_units_of_the_first_and_takes_none_of_them(two):
    made = {}
    for store, value in zip(two, ("中", "b"), strict=True):
        made[value] = begin_step(store, "s", work="nights/n/work/s", about={"value": value})
    for value, run in made.items():
        run.map([("0", value)], lambda text: Part({"nights/n/out.parquet": pa.table({"text": [text]})}, {"rows": 1}))
    again = begin_step(open_store(two[0].uri), "s", work="nights/n/work/s", about={"value": "中"})
    # Its marker was written over by the other one.
    assert not again.has("0")
    for value, run in made.items():
        entry = run.finish().file("out.parquet")
        assert read_table(run.store, entry)["text"].to_pylist() == [value]


def test_a_report_that_is_written_again_replaces_the_one_before_and_one_that_stood_still_replaces_none(two):
    first, second = two
    path = "reports/n/report.html"

    def begun(store, version):
        work, manifest = "reports/n/work/report", "reports/n/manifest.json"
        return begin_step(store, "report", work=work, manifest=manifest, about={"version": version})

    def finished(run, page):
        run.commit("report", Part({path: page}))
        return run.finish()

    finished(begun(first, 1), b"first")
    with first.lock("a run that will stand still"):
        stalled = begun(first, 2)
        finished(begun(second, 3), b"third")
        with pytest.raises(LockedError, match="another run was first"):
            finished(stalled, b"second")
    left = [name for name in open_store(first.uri).list("reports") if "/work/" not in name]
    pages = [second.name(path, sha256(page)) for page in (b"second", b"third")]
    assert left == sorted(["reports/n/manifest.json", *pages])
    assert load_manifest(second, "reports/n/manifest.json").fingerprint == begun(second, 3).fingerprint
    assert second.read(path) == b"third"


def test_workers_of_a_cluster_find_what_each_other_made_under_the_names_of_its_content(s3_uri, tmp_path):
    cfg, helped = writers.write_corpus(tmp_path / "corpus"), []
    cfg = replace(cfg, ingest=replace(cfg.ingest, part_mb=0.02))

    def others(name, keys):
        for some in (keys[::2], keys[1::2]):
            run_some(BY_NAME[name], Context(Workspace(open_store(s3_uri)), cfg, "n1"), some)
            helped.append(name)
            yield some

    with use_executor(others):
        assert writers.make_night(open_store(s3_uri), cfg) == "published n1"
    assert {"clean", "compare", "dedup", "segment", "shards"} <= set(helped), helped
    assert writers.make_night(open_store(f"{s3_uri}-alone"), cfg) == "published n1"
    assert published_in(open_store(s3_uri)) == published_in(open_store(f"{s3_uri}-alone"))


def test_a_run_whose_lease_was_taken_stops_with_one_sentence(two, monkeypatch):
    first, second = two
    with writers.apart(), first.lock("first"):
        first._lease.stop.set()
        with second.lock("second"):
            first._lease.is_held()
            with pytest.raises(
                LockedError, match=r"stood still\. What it has published is as it left it\. Run again\."
            ):
                first.write("a", b"1")
    assert second.list() == []
