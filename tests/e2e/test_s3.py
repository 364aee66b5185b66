"""The workspace's promises against a real S3 server."""

import json
import threading
import time

import nights_to_forget as forgetting
import pyarrow as pa
import pytest
import s3fs
from small_corpus import arguments, published_in
from steps import begin_step, ingest

from slimpajama.core.config import Config, IngestConfig, SourceConfig
from slimpajama.core.errors import LockedError, StorageError
from slimpajama.corpus.index import index_nights
from slimpajama.corpus.trace import trace
from slimpajama.ops.forget import forget
from slimpajama.ops.verify import verify
from slimpajama.workspace import lease, mapped
from slimpajama.workspace import s3 as storage
from slimpajama.workspace.manifest import entry_of
from slimpajama.workspace.open import Workspace, open_store
from slimpajama.workspace.parquet import parquet_bytes, read_table, read_verified
from slimpajama.workspace.step import Part


@pytest.fixture
def store(s3_uri):
    return open_store(s3_uri)


def test_files_read_back_and_are_listed_as_on_a_disk(store):
    store.write("b/中.txt", "你好".encode())
    store.write("a.txt", b"")
    assert store.read("b/中.txt").decode() == "你好"
    assert store.list() == ["a.txt", "b/中.txt"]
    assert store.list("b") == ["b/中.txt"]
    assert store.exists("a.txt")
    assert not store.exists("b")
    store.delete_tree("b")
    assert store.list() == ["a.txt"]


@pytest.mark.parametrize(("start", "end"), [(0, None), (2, None), (0, 3), (2, 5), (4, 4), (4, 99)])
def test_a_range_of_a_file_is_read_alone(store, start, end):
    store.write("a", b"0123456789")
    assert store.read("a", start, end) == b"0123456789"[start:end]


def test_another_writers_file_is_seen_at_once(store, s3_uri):
    assert not store.exists("new")
    open_store(s3_uri).write("new", b"1")
    assert store.exists("new")
    assert store.list() == ["new"]


def test_of_many_creators_one_wins(store, s3_uri):
    wins = []

    def create(number):
        if open_store(s3_uri).create("pointer", str(number).encode()):
            wins.append(number)

    threads = [threading.Thread(target=create, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(wins) == 1
    assert store.read("pointer") == str(wins[0]).encode()


def test_swap_refuses_a_version_that_is_gone(store):
    assert store.swap("pointer", b"1", "")
    assert not store.swap("pointer", b"x", "")
    _, version = store.read_versioned("pointer")
    assert store.swap("pointer", b"2", version)
    assert not store.swap("pointer", b"3", version)
    assert store.read("pointer") == b"2"


def test_a_second_run_is_refused_while_the_lease_lasts_and_let_in_after_it(store, s3_uri, monkeypatch):
    monkeypatch.setattr(lease, "LEASE_S", 3.0)
    with store.lock("first"):
        # As another process sees it.
        monkeypatch.setattr(storage, "held", set())
        with pytest.raises(LockedError, match="first, process"), open_store(s3_uri).lock("second"):
            pass
    with open_store(s3_uri).lock("second"):
        pass
    assert store.list() == []


@pytest.mark.parametrize("until", [1.0, 1e11], ids=["long ago", "far ahead"])
def test_a_lease_that_stands_still_is_taken_over_whatever_the_clock_of_its_host_said(store, monkeypatch, caplog, until):
    monkeypatch.setattr(lease, "LEASE_S", 1.0)
    store.write(".lock", json.dumps({"owner": "killed", "token": "x", "until": until}).encode())
    began = time.monotonic()
    with caplog.at_level("INFO", "slimpajama"), store.lock("next"):
        assert 1.0 <= time.monotonic() - began < 5.0
    assert "held by killed: it is taken over if it gives no sign of life for 1 s" in caplog.text


def test_parquet_and_stages_work_as_on_a_disk(store):
    table = pa.table({"text": ["中文", "english"]})
    store.write("t.parquet", parquet_bytes(table))
    assert read_table(store, entry_of("t.parquet", store.read("t.parquet")), ["text"]).equals(table)
    stage = begin_step(store, "s", work="work/s", about={})
    stage.map([("0", 0)], lambda n: Part({"out.parquet": table}, {"rows": 2}))
    entry = stage.finish().files[0]
    assert len(read_verified(store, entry)) == entry.bytes
    assert begin_step(store, "s", work="work/s", about={}).finished


def test_a_wrong_key_is_an_error_that_names_the_place(s3_uri, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    # As in a new process: a client reads its keys once.
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(StorageError, match=f"{s3_uri}/x: .*(denied|Forbidden|signature)"):
        open_store(s3_uri).read("x")
    s3fs.S3FileSystem.clear_instance_cache()


def test_a_file_larger_than_is_read_at_once_reads_the_same(store, monkeypatch):
    data, table = bytes(range(256)) * 40, pa.table({"n": range(3000), "text": ["中文"] * 3000})
    store.write("t.parquet", parquet_bytes(table, 1000))
    for size in (len(data) - 1, len(data), len(data) + 1):
        monkeypatch.setattr(storage, "WHOLE", size)
        store.write("d", data)
        with store.open("d") as file:
            assert file.read() == data
            assert file.seek(-7, 2) == len(data) - 7
            assert file.read(3) == data[-7:-4]
    monkeypatch.setattr(storage, "WHOLE", 64)
    assert read_table(store, entry_of("t.parquet", store.read("t.parquet")), ["text"]).equals(table.select(["text"]))
    assert read_table(store, entry_of("t.parquet", store.read("t.parquet"))).equals(table)


def test_a_folder_goes_whatever_it_holds(store):
    names = [f"w/{n:04d}" for n in range(3)] + ["w/中 文&<>.json", "w/sub/x+y"]
    for name in (*names, "w-else"):
        store.write(name, b"1")
    store.delete_tree("w")
    assert store.list() == ["w-else"]
    # Nothing there is nothing to do.
    store.delete_tree("w")


def test_a_missing_object_is_named(store, s3_uri):
    with pytest.raises(StorageError, match=f"{s3_uri}/nights/none"):
        store.read("nights/none")
    with pytest.raises(StorageError, match=f"{s3_uri}/nights/none"):
        store.open("nights/none")


@pytest.mark.parametrize("pattern", ["raw/**", "raw/**/*", "raw/"])
def test_an_object_that_marks_a_folder_is_no_file(s3_uri, tmp_path, pattern):
    text = json.dumps({"text": "研究人员 read the weather data"}, ensure_ascii=False).encode()
    objects = {"raw/": b"", "raw/2024/": b"", "raw/2024/a.jsonl": text, "raw/2024/空/": b"", "raw/2024_$folder$": b""}
    bucket, _, prefix = s3_uri.removeprefix("s3://").partition("/")
    client = s3fs.S3FileSystem(use_listings_cache=False)
    for key, body in objects.items():
        client.call_s3("put_object", Bucket=bucket, Key=f"{prefix}/{key}", Body=body)
    sources = (SourceConfig(name="s", uri=f"{s3_uri}/{pattern}"),)
    made = ingest(Workspace(open_store(str(tmp_path))), Config(ingest=IngestConfig(sources=sources)), "n")
    assert (made.counts["files"], made.counts["documents"], made.counts["removed"]) == (1, {"s": 1}, {})


def test_a_whole_night_on_s3_publishes_and_repairs_the_same_bytes_as_on_a_disk(
    s3_uri, s3, corpus, undisturbed, slimpajama
):
    store = open_store(s3_uri)
    slimpajama(*arguments(corpus, s3_uri), **s3)
    assert published_in(store) == undisturbed
    (report,) = (path for path in store.list("reports/n1/") if path.endswith(".html"))
    for path in (store.list("nights/n1/documents")[0], store.list("nights/n1/shards")[0], report):
        store.write(path, store.read(path)[:-1] + b"?")
    verify = ["verify", "--config", corpus / "config.toml", "--workspace", s3_uri]
    assert slimpajama(*verify, check=1, **s3).stdout.endswith(" files, 3 bad\n")
    assert slimpajama(*verify, "--repair", **s3).stdout.endswith(" files, 0 bad, 3 repaired\n")
    assert published_in(store) == undisturbed


def test_an_index_on_s3_is_asked_through_the_cache_as_on_a_disk_and_forgets(s3_uri, tmp_path, monkeypatch):
    monkeypatch.setenv(mapped.CACHE_VARIABLE, str(tmp_path / "cache"))
    mapped._cache.cache_clear()
    cfg, answers, manifests = forgetting.settings(tmp_path), [], []
    quote = forgetting.secret("zh")[40:90]
    for night, texts in ((forgetting.FIRST, forgetting.first_night()), (forgetting.SECOND, forgetting.second_night())):
        forgetting.write_raw(tmp_path, night, texts)
    for uri in (s3_uri, str(tmp_path / "disk")):
        space = Workspace(open_store(uri))
        with space.store.lock("test"):
            forgetting.prepare(space.store, cfg, forgetting.FIRST)
            index_nights(space, cfg)
        answers.append(trace(space, quote))
        manifests.append(space.store.read(f"nights/{forgetting.FIRST}/index/manifest.json"))
    assert answers[0] == answers[1]
    assert answers[0].spans[0].end == len(quote)
    assert manifests[0] == manifests[1]
    space = Workspace(open_store(s3_uri))
    arrays = [path for path in space.store.list("nights") if path.endswith(".npy")]
    kept = {path: space.store.read(path) for path in arrays}
    for path in arrays:
        space.store.delete(path)
    assert trace(Workspace(open_store(s3_uri)), quote) == answers[0]
    for path, data in kept.items():
        space.store.write(path, data)
    forget(space, "id", answers[0].spans[0].documents[0].id)
    again = trace(Workspace(open_store(s3_uri)), quote)
    assert all(span.end - span.start < len(quote) for span in again.spans)
    # The old arrays are gone, under every name.
    assert not set(arrays) & set(space.store.list("nights"))
    assert verify(space)[1] == {}
