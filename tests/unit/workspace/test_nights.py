"""A night's life: chosen, begun, published once, never changed."""

import datetime as dt

import pytest

from slimpajama.core.config import load_config
from slimpajama.core.errors import ConfigError, InputError
from slimpajama.workspace.nights import (
    STAGES,
    begin_at,
    choose_night,
    choose_preparation,
    choose_published,
    finish_publication,
    load_night,
    open_nights,
    publish,
    published_nights,
    work_folder,
)
from slimpajama.workspace.open import open_store
from slimpajama.workspace.stage import Part, Stage

TODAY = dt.date(2026, 11, 23)
CFG = load_config(None)


@pytest.fixture
def store(tmp_path):
    return open_store(str(tmp_path))


def stages(store, night):
    stage = Stage(store, "dedup", work=work_folder(night, "dedup"), about={})
    if not stage.finished:
        files = {f"nights/{night}/documents/part-00000.parquet": b"kept", f"{stage.work}/signatures": b"intermediate"}
        stage.commit("0", Part(files, {"kept": 1}))
        stage.finish()
    return [stage.result]


def finish(store, night):
    publish(store, night, stages(store, night), CFG)
    store.write(f"reports/{night}/manifest.json", b"{}")


def test_the_first_night_has_todays_name_and_later_ones_a_suffix(store):
    assert choose_night(store, today=TODAY) == "2026-11-23"
    finish(store, "2026-11-23")
    assert choose_night(store, today=TODAY) == "2026-11-23.2"
    finish(store, "2026-11-23.2")
    assert choose_night(store, today=TODAY) == "2026-11-23.3"
    assert choose_night(store, today=dt.date(2026, 11, 24)) == "2026-11-24"


def test_a_night_that_was_begun_is_gone_on_with(store):
    stages(store, "2026-11-20")
    assert open_nights(store) == ["2026-11-20"]
    assert choose_night(store, today=TODAY) == "2026-11-20"


def test_a_published_night_without_a_report_is_gone_on_with(store):
    publish(store, "2026-11-22", stages(store, "2026-11-22"), CFG)
    assert choose_night(store, today=TODAY) == "2026-11-22"


def test_a_preparation_alone_goes_on_to_the_next_night_once_one_is_published(store):
    publish(store, "2026-11-22", stages(store, "2026-11-22"), CFG)
    assert choose_preparation(store, today=TODAY) == "2026-11-23"
    store.write("nights/2026-11-22/work/left/state.json", b"{}")
    # Its publication was broken off.
    assert choose_preparation(store, today=TODAY) == "2026-11-22"
    store.delete_tree("nights/2026-11-22/work")
    store.write("nights/2026-11-21/work/ingest/state.json", b"{}")
    assert choose_preparation(store, today=TODAY) == "2026-11-21"


def test_publishing_lists_outcomes_only_and_drops_the_work_folder(store):
    manifest = publish(store, "n", stages(store, "n"), CFG)
    assert [entry.path for entry in manifest.files] == ["nights/n/documents/part-00000.parquet"]
    assert store.list("nights") == [
        "nights/index.json",
        "nights/n/documents/part-00000.parquet",
        "nights/n/manifest.json",
    ]
    assert published_nights(store) == ["n"]


def test_what_no_manifest_lists_is_swept_away(store):
    store.write("nights/n/documents/part-00009.parquet", b"of other settings")
    publish(store, "n", stages(store, "n"), CFG)
    assert not store.exists("nights/n/documents/part-00009.parquet")


@pytest.mark.parametrize("dies_after", ["manifest", "index"])
def test_a_publication_that_was_broken_off_is_completed(store, monkeypatch, dies_after):
    class Killed(BaseException):
        pass

    def killed(*_):
        raise Killed

    made = stages(store, "n")
    name = (
        "slimpajama.workspace.nights._append_to_index"
        if dies_after == "manifest"
        else "slimpajama.workspace.local.LocalStore.delete_tree"
    )
    with monkeypatch.context() as patch:
        patch.setattr(name, killed)
        with pytest.raises(Killed):
            publish(store, "n", made, CFG)
    assert choose_night(store, today=TODAY) == "n"
    assert finish_publication(store, "n", CFG) == load_night(store, "n")
    assert published_nights(store) == ["n"]
    assert not store.list("nights/n/work")


def test_a_published_night_refuses_other_settings(store):
    finish(store, "n")
    with pytest.raises(
        InputError, match=r"night n: the night is published and never changes: found other settings of dedup"
    ):
        finish_publication(store, "n", load_config(None, ["dedup.threshold=0.7"]))


def test_settings_of_where_and_how_it_runs_do_not_matter_to_a_published_night(store):
    finish(store, "n")
    assert finish_publication(store, "n", load_config(None, ["run.workers=7", "train.tokens=5"])) is not None


@pytest.mark.parametrize("name", ["../x", "a/b", "", " ", "-x", "x" * 65, "夜"])
def test_a_name_that_could_leave_its_folder_is_refused(store, name):
    if name:
        with pytest.raises(ConfigError, match="not a night's name"):
            choose_night(store, name)
    else:
        assert choose_night(store, name, TODAY) == "2026-11-23"


def test_a_night_that_is_not_published_is_named(store):
    with pytest.raises(InputError, match="nothing is published yet"):
        choose_published(store)
    finish(store, "n")
    with pytest.raises(InputError, match="no such night: found 2020-01-01"):
        choose_published(store, "2020-01-01")
    assert choose_published(store) == "n"


def test_a_night_is_begun_again_at_a_stage_and_what_was_before_stays(store):
    for name in STAGES:
        stage = Stage(store, name, work=work_folder("n", name), about={})
        stage.commit("0", Part({f"{stage.work}/a": b"x"}, {}))
        stage.finish()
    begin_at(store, "n", "dedup")
    assert {path.split("/")[3] for path in store.list("nights/n/work")} == {
        "ingest",
        "clean",
        "compare",
        "decontaminate",
    }
    begin_at(store, "n", "ingest")
    assert store.list("nights/n") == []


def test_a_published_night_is_not_begun_again(store):
    finish(store, "n")
    before = store.list()
    with pytest.raises(InputError, match="never changes"):
        begin_at(store, "n", "clean")
    assert store.list() == before


def test_an_unknown_stage_is_named_with_those_that_there_are(store):
    with pytest.raises(ConfigError, match=r"expected ingest, clean, .*dedupe"):
        begin_at(store, "n", "dedupe")
