"""A night's life: chosen, begun, published once, never changed."""

import datetime as dt
import json

import pytest
from steps import begin_step

from slimpajama.core.config import load_config
from slimpajama.core.errors import ConfigError, InputError
from slimpajama.corpus.pipeline import NAMES
from slimpajama.workspace import layout
from slimpajama.workspace.manifest import json_bytes
from slimpajama.workspace.nights import Nights
from slimpajama.workspace.open import open_store
from slimpajama.workspace.step import Part

TODAY = dt.date(2026, 11, 23)
CFG = load_config(None)


@pytest.fixture
def store(tmp_path):
    return open_store(str(tmp_path))


def stages(store, night):
    stage = begin_step(store, "dedup", work=layout.night(night).work("dedup"), about={})
    if not stage.finished:
        files = {f"nights/{night}/documents/part-00000.parquet": b"kept", f"{stage.work}/signatures": b"intermediate"}
        stage.commit("0", Part(files, {"kept": 1}))
        stage.finish()
    return [stage.result]


def finish(store, night):
    Nights(store).publish(night, stages(store, night), CFG)
    store.write(f"reports/{night}/manifest.json", b"{}")


def test_the_first_night_has_todays_name_and_later_ones_a_suffix(store):
    assert Nights(store).choose(today=TODAY) == "2026-11-23"
    finish(store, "2026-11-23")
    assert Nights(store).choose(today=TODAY) == "2026-11-23.2"
    finish(store, "2026-11-23.2")
    assert Nights(store).choose(today=TODAY) == "2026-11-23.3"
    assert Nights(store).choose(today=dt.date(2026, 11, 24)) == "2026-11-24"


def test_a_night_that_was_begun_is_gone_on_with(store):
    stages(store, "2026-11-20")
    assert Nights(store).begun() == ["2026-11-20"]
    assert Nights(store).choose(today=TODAY) == "2026-11-20"


def test_a_published_night_without_a_report_is_gone_on_with(store):
    Nights(store).publish("2026-11-22", stages(store, "2026-11-22"), CFG)
    assert Nights(store).choose(today=TODAY) == "2026-11-22"


def test_a_preparation_alone_goes_on_to_the_next_night_once_one_is_published(store):
    Nights(store).publish("2026-11-22", stages(store, "2026-11-22"), CFG)
    assert Nights(store).choose_preparation(today=TODAY) == "2026-11-23"
    store.write("nights/2026-11-22/work/left/state.json", b"{}")
    # Its publication was broken off.
    assert Nights(store).choose_preparation(today=TODAY) == "2026-11-22"
    store.delete_tree("nights/2026-11-22/work")
    store.write("nights/2026-11-21/work/ingest/state.json", b"{}")
    assert Nights(store).choose_preparation(today=TODAY) == "2026-11-21"


def test_publishing_lists_outcomes_only_and_drops_the_work_folder(store):
    manifest = Nights(store).publish("n", stages(store, "n"), CFG)
    assert [entry.path for entry in manifest.files] == ["nights/n/documents/part-00000.parquet"]
    assert store.list("nights") == [
        "nights/index.json",
        "nights/n/documents/part-00000.parquet",
        "nights/n/manifest.json",
    ]
    assert Nights(store).published() == ["n"]


def test_what_no_manifest_lists_is_swept_away(store):
    store.write("nights/n/documents/part-00009.parquet", b"of other settings")
    Nights(store).publish("n", stages(store, "n"), CFG)
    assert not store.exists("nights/n/documents/part-00009.parquet")


@pytest.mark.parametrize("dies_after", ["manifest", "index"])
def test_a_publication_that_was_broken_off_is_completed(store, monkeypatch, dies_after):
    class Killed(BaseException):
        pass

    def killed(*_):
        raise Killed

    made = stages(store, "n")
    name = (
        "slimpajama.workspace.nights.Nights._append_to_index"
        if dies_after == "manifest"
        else "slimpajama.workspace.local.LocalStore.delete_tree"
    )
    with monkeypatch.context() as patch:
        patch.setattr(name, killed)
        with pytest.raises(Killed):
            Nights(store).publish("n", made, CFG)
    assert Nights(store).choose(today=TODAY) == "n"
    assert Nights(store).finish_publication("n", CFG) == Nights(store).load("n")
    assert Nights(store).published() == ["n"]
    assert not store.list("nights/n/work")


def test_a_published_night_refuses_other_settings(store):
    finish(store, "n")
    with pytest.raises(
        InputError, match=r"night n: the night is published and never changes: found other settings of dedup"
    ):
        Nights(store).finish_publication("n", load_config(None, ["dedup.threshold=0.7"]))


def test_settings_of_where_and_how_it_runs_do_not_matter_to_a_published_night(store):
    finish(store, "n")
    assert Nights(store).finish_publication("n", load_config(None, ["run.workers=7", "train.tokens=5"])) is not None


@pytest.mark.parametrize("lacks", ["dedup.threshold", "clean.preset", "shards.seed"])
def test_a_night_of_an_earlier_version_that_lacks_a_setting_goes_on(store, lacks):
    """A setting that was added since is at its default; what the night was made with is no other setting."""
    finish(store, "n")
    manifest = json.loads(store.read("nights/n/manifest.json"))
    section, _, name = lacks.partition(".")
    del manifest["about"]["settings"][section][name]
    store.write("nights/n/manifest.json", json_bytes(manifest))
    assert Nights(store).finish_publication("n", CFG) is not None
    with pytest.raises(InputError, match="other settings of ingest"):
        Nights(store).finish_publication("n", load_config(None, ["ingest.part_mb=3"]))


@pytest.mark.parametrize(
    "name", ["../x", "a/b", "", " ", "-x", "x" * 65, "夜", "work", "index.json", ".lock", "n1\n", "n\udcff"]
)
def test_a_name_that_could_leave_its_folder_is_refused(store, name):
    if name:
        with pytest.raises(ConfigError, match="not a night's name"):
            Nights(store).choose(name)
    else:
        assert Nights(store).choose(name, TODAY) == "2026-11-23"


def test_a_night_that_is_not_published_is_named(store):
    with pytest.raises(InputError, match="nothing is published yet"):
        Nights(store).choose_published()
    finish(store, "n")
    with pytest.raises(InputError, match="no such night: found 2020-01-01"):
        Nights(store).choose_published("2020-01-01")
    assert Nights(store).choose_published() == "n"


def test_a_night_is_begun_again_at_a_stage_and_what_was_before_stays(store):
    for name in NAMES:
        stage = begin_step(store, name, work=layout.night("n").work(name), about={})
        stage.commit("0", Part({f"{stage.work}/a": b"x"}, {}))
        stage.finish()
    Nights(store).begin_at("n", "dedup", NAMES)
    assert {path.split("/")[3] for path in store.list("nights/n/work")} == {
        "ingest",
        "clean",
        "compare",
        "decontaminate",
        "passages",
    }
    Nights(store).begin_at("n", "ingest", NAMES)
    assert store.list("nights/n") == []


def test_a_published_night_is_not_begun_again(store):
    finish(store, "n")
    before = store.list()
    with pytest.raises(InputError, match="never changes"):
        Nights(store).begin_at("n", "clean", NAMES)
    assert store.list() == before


def test_an_unknown_stage_is_named_with_those_that_there_are(store):
    with pytest.raises(ConfigError, match=r"expected ingest, clean, .*dedupe"):
        Nights(store).begin_at("n", "dedupe", NAMES)
