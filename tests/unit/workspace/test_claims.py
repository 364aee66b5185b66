"""Units made by others: the stage's own process finds them, makes what is missing, and ends in the same bytes."""

import threading

import pyarrow as pa
import pytest
from steps import begin_step

from slimpajama.core.errors import StorageError
from slimpajama.workspace.claims import assigned_keys, only_keys, use_executor
from slimpajama.workspace.open import open_store
from slimpajama.workspace.step import Part

NAMES = ["一", "二", "three", "four", "五", "six"]
FIRST = [(f"first-{n}", name) for n, name in enumerate(NAMES)]
SECOND = [(f"second-{n}", name) for n, name in enumerate(NAMES)]


@pytest.fixture
def store(tmp_path):
    return open_store(str(tmp_path / "w"))


def run(store, made, done=None, setting=1):
    """Run a stage of two maps in this thread, whole or the share it has; note who makes what."""
    stage = begin_step(store, "letters", work="work/letters", about={"setting": setting})

    def make(name):
        made.append(name)
        return Part({f"out/{name}-{len(name)}.parquet": pa.table({"name": [name]})}, {"letters": len(name)})

    counts = stage.map(FIRST, make, workers=2, done=done)
    assert assigned_keys() or [row["letters"] for row in counts] == [len(name) for name in NAMES]
    stage.map(SECOND, lambda name: Part({}, {"again": 1}))
    return stage.finish()


def contents(store):
    return {path: store.read(path) for path in store.list()}


def in_another_thread(work):
    """Run as another process would: without this thread's context."""
    failed = []

    def catch():
        try:
            work()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=catch)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]


@pytest.fixture
def alone(tmp_path):
    store = open_store(str(tmp_path / "alone"))
    run(store, [])
    return contents(store)


def test_units_made_by_others_are_found_and_the_bytes_are_the_same(store, alone):
    here, there, told, asked = [], [], [], []

    def others(stage, keys):
        asked.append((stage, keys))
        for share in (keys[::2], keys[1::2]):
            with only_keys(share):
                run(store, there)
            yield share

    with use_executor(others):
        run(store, here, told.append)
    assert asked == [("letters", [key for key, _ in FIRST]), ("letters", [key for key, _ in SECOND])]
    assert sorted(there) == sorted(NAMES)
    assert here == []
    assert sorted(told) == sorted(NAMES)
    assert contents(store) == alone


def test_what_others_do_not_make_is_made_here(store, alone):
    here, there, told = [], [], []

    def others(stage, keys):
        in_another_thread(lambda: only(keys[:2]))
        # Whoever has the rest has died.
        yield keys[:2]

    def only(keys):
        with only_keys(keys):
            run(store, there)

    with use_executor(others):
        run(store, here, told.append)
    assert there == NAMES[:2]
    assert sorted(here) == sorted(NAMES[2:])
    assert sorted(told) == sorted(NAMES)
    assert contents(store) == alone


def test_help_is_not_asked_for_what_is_committed(store):
    class Killed(BaseException):
        pass

    def dies(name):
        if name == "four":
            raise Killed
        return Part({}, {"letters": len(name)})

    stage = begin_step(store, "letters", work="work/letters", about={"setting": 1})
    with pytest.raises(Killed):
        stage.map(FIRST, dies)
    asked = []

    def others(stage, keys):
        asked.extend(keys)
        return iter(())

    with use_executor(others):
        run(store, [])
    assert "first-3" in asked
    assert not {"first-0", "first-1", "first-2"} & {*asked}


def test_a_worker_with_other_settings_or_libraries_is_refused_and_removes_nothing(store):
    stage = begin_step(store, "letters", work="work/letters", about={"setting": 1})
    stage.map(FIRST[:2], lambda name: Part({}, {"letters": len(name)}))
    before = contents(store)
    with pytest.raises(StorageError, match="this worker would not make the same letters"), only_keys(["first-3"]):
        run(store, [], setting=2)
    assert contents(store) == before


def test_a_worker_does_not_begin_a_stage(store):
    with pytest.raises(StorageError, match="of a step that runs"), only_keys(["first-0"]):
        run(store, [])
    assert contents(store) == {}


def test_a_share_asks_no_help(store):
    stage = begin_step(store, "letters", work="work/letters", about={"setting": 1})
    made = []
    with use_executor(lambda *_: pytest.fail("asked for help")), only_keys(["first-1", "first-2"]):
        run(store, made)
    assert made == NAMES[1:3]
    assert not stage.finished


def test_other_errors_pass(store):
    begin_step(store, "letters", work="work/letters", about={"setting": 1})
    with pytest.raises(ZeroDivisionError), only_keys(["first-1"]):
        1 / 0  # noqa: B018
