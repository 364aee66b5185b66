"""A store or a disk that fails, and two processes at once: the same bytes, or a clear stop and then the same bytes."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import s3fs
from dying import failing_sync
from fault_proxy import PASSING, Plan, proxy
from library_night import prepare
from servers import until
from small_corpus import published, published_in

from slimpajama.core.config import RetentionConfig
from slimpajama.core.errors import LockedError, ModelError, StorageError
from slimpajama.ops.explain import explain
from slimpajama.ops.forget import forget
from slimpajama.ops.retention import clean_up
from slimpajama.ops.verify import verify
from slimpajama.workspace import layout, lease
from slimpajama.workspace import s3 as storage
from slimpajama.workspace.local import LocalStore
from slimpajama.workspace.manifest import Manifest, entry_of, json_bytes
from slimpajama.workspace.nights import Nights
from slimpajama.workspace.open import Workspace, open_store
from slimpajama.workspace.parquet import read_table, read_with_checksum, with_checksum
from slimpajama.workspace.registry import Models

SEED = 20261126


@pytest.fixture(scope="module")
def config(corpus):
    return corpus / "config.toml"


@pytest.fixture(scope="module")
def quiet(config, tmp_path_factory):
    """What a preparation that was left alone publishes: sha256 by path."""
    workspace = tmp_path_factory.mktemp("quiet") / "w"
    prepare(config, workspace)
    return published(workspace)


@pytest.fixture
def faulty(s3_uri, s3, monkeypatch):
    """A workspace on S3, reached through a proxy whose plan is set; clients wait for a second, try twice."""
    for module, name, value in ((storage, "ANSWER_S", 1), (storage, "ATTEMPTS", 2), (lease, "LEASE_S", 3.0)):
        monkeypatch.setattr(module, name, value)
    with proxy(s3["AWS_ENDPOINT_URL"]) as (endpoint, server):
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        s3fs.S3FileSystem.clear_instance_cache()
        yield s3_uri, server
    s3fs.S3FileSystem.clear_instance_cache()


def on_s3(uri):
    return published_in(open_store(uri))


@pytest.mark.parametrize("seed", [SEED])
def test_a_night_through_short_faults_of_every_kind_ends_in_the_same_bytes(faulty, config, quiet, seed):
    uri, server = faulty
    server.plan = plan = Plan(PASSING, share=0.08, seed=seed, most=1)
    prepare(config, uri)
    server.plan = Plan()
    assert set(plan.struck) == set(PASSING), f"seed {seed}: {plan.struck}"
    assert on_s3(uri) == quiet, f"seed {seed}: {plan.struck}"


def test_faults_that_last_stop_a_night_clearly_and_later_it_ends_in_the_same_bytes(faulty, config, quiet, monkeypatch):
    uri, server = faulty
    monkeypatch.setattr(storage, "ATTEMPTS", 1)
    for number, kind in enumerate(("500", "reset before", "hang", "cut", "damage", "expired")):
        # As in a new process: with new credentials, without old waits.
        s3fs.S3FileSystem.clear_instance_cache()
        server.plan = Plan((kind,), share=1.0, start=30 + 3 * number, hang_s=1.5)
        with pytest.raises(StorageError, match=f"{uri}/.*goes on where it stopped") as stopped:
            until_free(config, uri)
        assert ("Renew the credentials" in str(stopped.value)) == (kind == "expired"), stopped.value
        server.plan = Plan()
        assert not open_store(uri).exists(layout.NIGHTS_INDEX), kind
    s3fs.S3FileSystem.clear_instance_cache()
    until_free(config, uri)
    assert on_s3(uri) == quiet


def until_free(config, uri):
    """Prepare, once the lease of a run that could not give it back has run out."""

    def attempt():
        try:
            return prepare(config, uri)
        except StorageError as error:
            return error

    if error := until(attempt, 60, "the end of a lease"):
        raise error


def test_a_put_whose_answer_is_lost_is_known_as_ours(faulty):
    uri, server = faulty
    store = open_store(uri)
    server.plan = Plan(("reset after",), share=1.0, most=1)
    assert store.create("pointer", b"1")
    version = store.read_versioned("pointer")[1]
    assert store.swap("pointer", b"2", version)
    assert not store.swap("pointer", b"3", version)
    assert not store.create("pointer", b"2")
    assert store.read("pointer") == b"2"


def test_a_damaged_answer_is_asked_for_again(faulty):
    uri, server = faulty
    store = open_store(uri)
    store.write("a", b"0123456789")
    store.write("s", with_checksum(b"0123456789"))
    server.plan = Plan(("damage",), share=1.0, most=1)
    assert read_with_checksum(store, "s", 0, 14, "") == b"0123456789"
    assert store.read("a") == b"0123456789"
    with store.open("a") as file:
        assert file.read() == b"0123456789"
    assert server.plan.struck == {"damage": 3}


@pytest.fixture
def small_disk(tmp_path):
    """A file system of half a megabyte of its own."""
    if os.geteuid() != 0:
        pytest.skip("needs root to mount a tmpfs")
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=512k", "none", folder], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"mounting is refused here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def remount(folder, options):
    subprocess.run(["mount", "-o", f"remount,{options}", folder], check=True)


def test_a_full_and_a_read_only_disk_stop_a_night_clearly_and_with_room_it_goes_on(small_disk, config, quiet):
    workspace = small_disk / "w"
    for size in ("512k", "1m", "2m"):
        remount(small_disk, f"size={size}")
        with pytest.raises(StorageError, match=r"No space left on device\. Free some space\. Run again"):
            prepare(config, workspace)
        assert not list((workspace / ".tmp").iterdir()), size
        assert not (workspace / layout.NIGHTS_INDEX).exists()
    store = open_store(str(workspace))
    with contextlib.suppress(OSError):
        (small_disk / "rest").write_bytes(bytes(4 << 20))
    # What makes room needs none.
    assert clean_up(Workspace(store), RetentionConfig()).as_dict()
    (small_disk / "rest").unlink()
    remount(small_disk, "size=64m,ro")
    with pytest.raises(StorageError, match=r"Read-only file system\. Mount it writable"):
        prepare(config, workspace)
    remount(small_disk, "size=64m,rw")
    prepare(config, workspace)
    assert published(workspace) == quiet
    remount(small_disk, "ro")
    store = open_store(str(workspace))
    assert verify(Workspace(store))[1] == {}
    doc_id = first_document(store, "n1")
    assert explain(Workspace(store), doc_id)["id"] == doc_id


def test_a_full_or_read_only_folder_for_temporary_files_stops_a_night_clearly(
    small_disk, config, quiet, tmp_path, monkeypatch
):
    monkeypatch.setattr(tempfile, "tempdir", str(small_disk))
    rest = small_disk / "rest"
    with contextlib.suppress(OSError):
        rest.write_bytes(bytes(4 << 20))
    for what in ("No space left on device", "Read-only file system"):
        with pytest.raises(StorageError, match=rf"{small_disk}: temporary files cannot be written: .*{what}.*TMPDIR"):
            prepare(config, tmp_path / "w")
        assert list(small_disk.iterdir()) == [rest]
        assert not (tmp_path / "w" / layout.NIGHTS_INDEX).exists()
        remount(small_disk, "ro")
    remount(small_disk, "rw")
    rest.unlink()
    prepare(config, tmp_path / "w")
    assert published(tmp_path / "w") == quiet
    assert not list(small_disk.iterdir())


def test_a_disk_that_fails_to_write_stops_a_night_clearly_and_later_it_goes_on(tmp_path, config, quiet, monkeypatch):
    workspace = tmp_path / "w"
    for number in (1, 4, 10, 16):
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", failing_sync(number))
            with pytest.raises(StorageError, match=r"cannot be written: Input/output error\. The disk may be failing"):
                prepare(config, workspace)
        assert not list((workspace / ".tmp").glob("*")), number
        assert not (workspace / layout.NIGHTS_INDEX).exists()
    prepare(config, workspace)
    assert published(workspace) == quiet


@contextlib.contextmanager
def stopped_night(config, workspace, night, *point):
    """Yield a process that is preparing a night, stopped at a point; afterwards let it end."""
    command = [sys.executable, Path(__file__).with_name("library_night.py"), config, workspace, night, *point]
    process = subprocess.Popen(list(map(str, command)), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status), process.stderr.read().decode()
        yield process
        os.kill(process.pid, signal.SIGCONT)
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said.decode()
    finally:
        if process.returncode is None:
            process.kill()
            process.wait()


def first_document(store, night):
    path = next(path for path in store.list(f"nights/{night}/documents/"))
    return read_table(store, entry_of(path, store.read(path)), ["id"])["id"][0].as_py()


@pytest.mark.parametrize("point", [("after", "n1/manifest.json"), ("after", "index.json")])
def test_while_a_night_is_published_readers_see_before_or_after_and_writers_are_told_who_holds_it(
    point, config, quiet, tmp_path
):
    store = open_store(str(tmp_path / "w"))
    with stopped_night(config, store.uri, "n1", *point) as holder:
        assert Nights(store).published() == (["n1"] if point == ("after", "index.json") else [])
        assert verify(Workspace(store))[1] == {}
        told = f"night n1, process {holder.pid}"
        with pytest.raises(LockedError, match=told):
            prepare(config, store.uri, "n2")
        with pytest.raises(LockedError, match=told):
            clean_up(Workspace(store), RetentionConfig())
        if Nights(store).published():
            doc_id = first_document(store, "n1")
            assert explain(Workspace(store), doc_id)["id"] == doc_id
            with pytest.raises(LockedError, match=told):
                forget(Workspace(store), "id", doc_id)
    assert published(store.uri) == quiet
    assert clean_up(Workspace(store), RetentionConfig()).as_dict()
    assert published(store.uri) == quiet


def test_champions_promoted_and_rolled_back_by_several_processes_are_all_in_the_history(tmp_path):
    store = LocalStore(str(tmp_path / "w"))
    for model in ("n0-a", "n1-b", "n2-c"):
        about = {"night": model[:2], "nights": [model[:2]]}
        store.write(f"models/{model}/manifest.json", json_bytes(Manifest("train", model, (), {}, about)))
    program = (
        "import sys; from slimpajama.workspace.open import open_workspace\n"
        "from slimpajama.core.errors import LockedError\n"
        "models, done = open_workspace(sys.argv[1]).models, 0\n"
        "while done < 15:\n"
        "    try: done += models.promote('n0-a', sys.argv[2]) or models.promote('n1-b', sys.argv[2])\n"
        "    except LockedError: pass\n"
    )
    names = ("one", "two")
    others = [subprocess.Popen([sys.executable, "-c", program, store.uri, name]) for name in names]
    Models(store).promote("n2-c", "ours")
    Models(store).promote("n0-a", "ours")
    done = 0
    while done < 15:
        # Someone was first, or left nothing to go back to.
        with contextlib.suppress(LockedError, ModelError):
            Models(store).rollback("ours")
            Models(store).promote("n2-c", "ours")
            done += 1
    assert [other.wait(120) for other in others] == [0, 0]
    reasons = [entry["reason"] for entry in Models(store).history()]
    assert {name: reasons.count(name) for name in names} == dict.fromkeys(names, 15)
    assert Models(store).published() == ["n0-a", "n1-b", "n2-c"]
    assert json.loads(store.read("models/champion.json"))["history"] == Models(store).history()
