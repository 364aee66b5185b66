"""Metrics: a file that Prometheus' own parser reads, written whole, kept from run to run."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from steps import begin_step

from slimpajama.core.config import load_config
from slimpajama.core.errors import ConfigError
from slimpajama.core.progress import track
from slimpajama.ops.observe.metrics import METRICS, _day
from slimpajama.workspace import layout
from slimpajama.workspace.manifest import json_bytes
from slimpajama.workspace.open import Workspace
from slimpajama.workspace.registry import Models


def read(file: Path) -> dict[tuple[str, ...], float]:
    """Return value by name and labels without the workspace."""
    found = {}
    for family in text_string_to_metric_families(file.read_text(encoding="utf-8")):
        assert family.type == "gauge"
        for sample in family.samples:
            assert sample.labels["workspace"]
            labels = sorted((key, value) for key, value in sample.labels.items() if key != "workspace")
            found[sample.name.removeprefix("slimpajama_"), *(value for _, value in labels)] = sample.value
    return found


def test_a_night_is_measured_stage_by_stage(toy: Any, tmp_path: Path):
    file = tmp_path / "s.prom"
    before = time.time()
    toy.run(metrics=str(file))
    found = read(file)
    seconds = found["stage_seconds", "ingest"]
    assert found["stage_documents_per_second", "ingest"] == pytest.approx(2 / seconds)
    assert found["stage_bytes_per_second", "ingest"] == pytest.approx(40 / seconds)
    assert ("stage_documents_per_second", "segment") not in found
    assert found["run_success", "nightly"] == 1
    assert before <= found["run_last_success_timestamp_seconds", "nightly"] <= time.time()
    assert found["workspace_bytes",] == toy.store.size() > 0
    assert [path.name for path in tmp_path.glob("s.prom*")] == ["s.prom"]
    assert toy.said == []


def test_a_hostile_workspace_is_one_label_that_reads_back(toy: Any, tmp_path: Path):
    toy.run(metrics=str(tmp_path / "s.prom"))
    text = (tmp_path / "s.prom").read_text(encoding="utf-8")
    shown = {s.labels["workspace"] for family in text_string_to_metric_families(text) for s in family.samples}
    assert shown == {toy.store.uri.replace("\n", "\\x0a")}


def test_a_failed_night_keeps_when_the_last_one_came_through(toy: Any, tmp_path: Path):
    file = tmp_path / "s.prom"
    toy.run(metrics=str(file))
    good = read(file)

    def fails(_: Any) -> None:
        raise ValueError("坏了")

    with pytest.raises(ValueError, match="坏了"):
        toy.run(fails, metrics=str(file))
    bad = read(file)
    assert bad["run_success", "nightly"] == 0
    assert bad["run_end_timestamp_seconds", "nightly"] > good["run_end_timestamp_seconds", "nightly"]
    kept = ("run_last_success_timestamp_seconds", "nightly")
    assert bad[kept] == good[kept]
    assert bad["stage_seconds", "ingest"] == good["stage_seconds", "ingest"]


def test_a_file_of_another_workspace_is_started_anew(toys: Any, tmp_path: Path):
    one, other = toys("one"), toys("other")
    one.run(metrics=str(tmp_path / "s.prom"))
    other.run(lambda _: None, metrics=str(tmp_path / "s.prom"))
    assert ("stage_seconds", "ingest") not in read(tmp_path / "s.prom")


def test_a_broken_file_is_a_warning_and_then_replaced(toy: Any, tmp_path: Path):
    (tmp_path / "s.prom").write_text('slimpajama_run_success{flow="半', encoding="utf-8")
    toy.run(metrics=str(tmp_path / "s.prom"))
    assert len(toy.said) == 1
    assert toy.said[0].startswith("observe       metrics failed")
    assert read(tmp_path / "s.prom")["run_success", "nightly"] == 1


def test_a_folder_that_is_not_there_costs_warnings_only(toy: Any, tmp_path: Path):
    toy.run(metrics=str(tmp_path / "missing" / "s.prom"))
    assert toy.said
    assert toy.store.exists("nights/2026-01-01/work/segment/manifest.json")


def test_a_file_that_is_none_of_prometheus_is_never_overwritten():
    with pytest.raises(ConfigError, match=r"observe\.metrics"):
        load_config(overrides=["observe.metrics=slimpajama.toml"])


def test_a_resumed_training_counts_only_its_own_tokens(toy: Any, tmp_path: Path):
    def resumed(store: Any) -> None:
        stage = begin_step(store, "train", work="models/m/work", about={})
        with track("train", total=2e9, unit="tokens") as bar:
            bar.resume(1e9)
            bar.advance(10)
            time.sleep(0.05)
        stage.finish({"losses": {"continue": 2.5, "step": 3, "tokens": 1e9}})

    toy.run(resumed, metrics=str(tmp_path / "s.prom"))
    assert {key: value for key, value in read(tmp_path / "s.prom").items() if key[0] == "train_loss"} == {
        ("train_loss", "continue"): 2.5
    }
    assert 0 < read(tmp_path / "s.prom")["train_tokens_per_second",] < 10 / 0.05


def test_training_and_evaluation_of_both_languages_and_the_champions_age(trained: Any, toys: Any, tmp_path: Path):
    from slimpajama.model.evaluate.stage import evaluate

    space, model = trained
    toy = toys("unused")
    toy.store = space.store
    Models(space.store).promote(model, "first")

    def work(store: Any) -> None:
        evaluate(Workspace(store), space.cfg, model, space.nights[:1])

    toy.run(work, metrics=str(tmp_path / "s.prom"))
    found = read(tmp_path / "s.prom")
    assert {key[1:] for key in found if key[0] == "bits_per_byte"} == {
        (lang, role) for lang in ("en", "zh") for role in ("champion", "tonight")
    }
    assert found["champion_age_nights",] == 1
    assert found["champion_timestamp_seconds", model] == pytest.approx(time.time(), abs=60)
    space.store.write(layout.NIGHTS_INDEX, json_bytes({"nights": list(space.nights)[:1]}))
    toy.run(lambda _: None, metrics=str(tmp_path / "s.prom"))
    again = read(tmp_path / "s.prom")
    assert again["champion_age_nights",] == 0
    assert again["champion_timestamp_seconds", model] == found["champion_timestamp_seconds", model]
    assert again["bits_per_byte", "zh", "champion"] == found["bits_per_byte", "zh", "champion"]


def test_an_older_champion_is_dated_by_its_night():
    assert _day("2026-01-01.2", 5.0) == 1767225600.0
    assert _day("夜", 5.0) == 5.0


def test_every_metric_has_a_unit_or_none_and_a_meaning():
    for name, (labels, meaning) in METRICS.items():
        assert meaning.endswith("."), name
        assert "workspace" not in labels
