"""The one mechanism of resuming: what is committed is never done again, and the outcome does not tell."""

import threading

import pyarrow as pa
import pytest
from steps import begin_step

from slimpajama.core.errors import StorageError
from slimpajama.workspace.manifest import add_counts, load_manifest
from slimpajama.workspace.open import open_store
from slimpajama.workspace.parquet import read_verified
from slimpajama.workspace.step import Part

UNITS = [(f"{n:05d}", n) for n in range(6)]


@pytest.fixture
def store(tmp_path):
    return open_store(str(tmp_path))


def make_square(calls):
    def make(n):
        calls.append(n)
        return Part(
            {f"out/{n:05d}.parquet": pa.table({"n": [n * n]})}, {"rows": 1, "by": {"even" if n % 2 == 0 else "odd": 1}}
        )

    return make


def stage_of(store, **about):
    return begin_step(store, "square", work="work/square", about={"version": 1} | about)


def contents(store):
    return {path: store.read(path) for path in store.list() if "/parts/" not in path}


def test_a_finished_stage_with_the_same_fingerprint_is_skipped(store):
    calls = []
    stage = stage_of(store)
    stage.map(UNITS, make_square(calls))
    stage.finish()
    assert stage_of(store).finished
    assert stage_of(store).result.counts == {"rows": 6, "by": {"even": 3, "odd": 3}}


def test_another_setting_runs_the_stage_again(store):
    first = stage_of(store, setting=1)
    first.map(UNITS, make_square([]))
    first.finish()
    calls = []
    second = stage_of(store, setting=2)
    assert not second.finished
    second.map(UNITS, make_square(calls))
    assert sorted(calls) == [0, 1, 2, 3, 4, 5]


def test_a_broken_off_stage_does_only_what_is_missing_and_ends_in_the_same_bytes(store, tmp_path):
    class Killed(BaseException):
        pass

    def dies_at_three(n):
        if n == 3:
            raise Killed
        return make_square([])(n)

    with pytest.raises(Killed):
        stage_of(store).map(UNITS, dies_at_three)
    calls = []
    resumed = stage_of(store)
    resumed.map(UNITS, make_square(calls))
    resumed.finish()
    assert 3 in calls
    assert 0 not in calls
    undisturbed_store = open_store(str(tmp_path / "other"))
    undisturbed = stage_of(undisturbed_store)
    undisturbed.map(UNITS, make_square([]))
    undisturbed.finish()
    expected = contents(undisturbed_store)
    assert {path: data for path, data in contents(store).items() if not path.startswith("other/")} == expected


def test_the_outcome_does_not_depend_on_the_number_of_workers(tmp_path):
    def run(workers):
        store = open_store(str(tmp_path / str(workers)))
        stage = stage_of(store)
        counts = stage.map(UNITS, make_square([]), workers=workers)
        stage.finish()
        return counts, contents(store)

    assert run(1) == run(4)


def test_units_really_run_side_by_side(store):
    together = threading.Barrier(2, timeout=20)

    def make(n):
        together.wait()
        return Part()

    stage_of(store).map(UNITS[:2], make, workers=2)


def test_an_empty_table_is_not_published(store):
    stage = stage_of(store)
    stage.map(UNITS[:1], lambda n: Part({"out/empty.parquet": pa.table({"n": pa.array([], pa.int64())})}))
    assert stage.finish().files == ()
    assert not store.exists("out/empty.parquet")


def test_a_manifest_elsewhere_takes_the_work_folder_over(store):
    stage = begin_step(store, "train", work="models/m/work", about={}, manifest="models/m/manifest.json")
    stage.map(UNITS, make_square([]))
    manifest = stage.finish()
    assert store.list("models") == ["models/m/manifest.json"]
    assert load_manifest(store, "models/m/manifest.json") == manifest


def test_a_changed_file_is_refused(store):
    stage = stage_of(store)
    stage.map(UNITS[:1], make_square([]))
    entry = stage.finish().files[0]
    assert len(read_verified(store, entry)) == entry.bytes
    store.write(entry.path, b"something else")
    with pytest.raises(StorageError, match=r"00000\.parquet: the file is not what its manifest says"):
        read_verified(store, entry)


def test_a_damaged_manifest_is_named(store):
    store.write("m.json", b'{"name": 1}')
    with pytest.raises(StorageError, match=r"m\.json: not a manifest"):
        load_manifest(store, "m.json")


def test_nested_counts_add_up():
    assert add_counts([{"a": 1, "b": {"zh": 2}}, {"b": {"zh": 3, "en": 1}}]) == {"a": 1, "b": {"zh": 5, "en": 1}}


@pytest.mark.parametrize("damaged", ["parts/00002.json", "state.json", "manifest.json"])
def test_damaged_records_of_a_step_are_made_again_and_not_believed(store, tmp_path_factory, damaged):
    def stage(store):
        return begin_step(store, "square", work="nights/n/work/square", about={"version": 1})

    quiet = open_store(str(tmp_path_factory.mktemp("quiet")))
    whole, calls = stage(quiet), []
    whole.map(UNITS, make_square([]))
    whole.finish()
    begun = stage(store)
    begun.map(UNITS, make_square([]))
    if damaged == "manifest.json":
        begun.finish()
    path = f"nights/n/work/square/{damaged}"
    data = store.read(path)
    # A digit, so that it is JSON as before.
    place = next(n for n, byte in enumerate(data) if chr(byte) in "246")
    store.write(path, data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
    resumed = stage(store)
    resumed.map(UNITS, make_square(calls))
    resumed.finish()
    assert len(calls) == {"parts/00002.json": 1, "state.json": 6, "manifest.json": 0}[damaged]
    assert contents(store) == contents(quiet)
