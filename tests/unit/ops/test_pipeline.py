"""The tuple of all steps: what flows, tasks and pages rely on."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from slimpajama.core.config import Config, PairsConfig, PairSourceConfig, TuneConfig
from slimpajama.corpus.pipeline import NAMES
from slimpajama.ops.pipeline import BY_NAME, FLOWS, PIPELINE, follow

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs" / "architecture.md"
PAIRS = PairSourceConfig(name="messages", uri="*.tsv", task="translation")


@pytest.mark.parametrize(("nightly", "good"), [(False, True), (True, True), (True, False)])
def test_what_follows_a_publication_runs_in_order_on_the_model_that_was_trained(nightly: bool, good: bool):
    tuned = nightly and good
    asked: list[tuple[str, str]] = []

    def run(flow: str, model: str) -> dict[str, SimpleNamespace]:
        asked.append((flow, model))
        return {step: SimpleNamespace(model=f"{step}ed", promote=good, champion="") for step in FLOWS[flow]}

    reports = follow(Config(pairs=PairsConfig(sources=(PAIRS,)), tune=TuneConfig(nightly=nightly)), run)
    in_order = [("train-model", ""), ("evaluate-model", "trained"), ("generate-text", "trained"), ("tune-model", "")]
    assert asked == in_order[: 4 if tuned else 3]
    assert list(reports) == ["index", "train", "memory", "evaluate", "gate", "generate", *(["tune"] if tuned else [])]


@pytest.mark.parametrize(
    "file", sorted([*ROOT.glob("tasks/*.py"), *ROOT.glob("flows/*.py")]), ids=lambda file: file.stem
)
def test_no_task_or_flow_is_written_for_one_step(file: Path):
    # Two of the preparation's steps may end it. The gate's verdict names a run's last state, and what a tuning made is
    # shown beside its run.
    known = {
        "corpus": {"ingest", "dedup"},
        "model": {"evaluate", "tune"},
        "nightly": {"shards", "report"},
        "report": {"train", "tune", "report"},
    }
    calls = re.findall(r"""\b(\w+)_task\b|["'](\w+)["']""", file.read_text(encoding="utf-8"))
    named = {name for call in calls for name in call} & set(BY_NAME)
    assert named <= known.get(file.stem, set())


def test_no_two_steps_share_a_name():
    assert len(BY_NAME) == len(PIPELINE)


def test_a_preparation_comes_first_and_each_of_its_steps_takes_manifests_of_steps_before_it():
    assert tuple(step.name for step in PIPELINE[: len(NAMES)]) == NAMES
    for place, name in enumerate(NAMES):
        assert set(BY_NAME[name].before()) <= set(NAMES[:place])


@pytest.mark.parametrize("name", BY_NAME)
def test_the_architecture_page_says_what_the_step_reads_and_writes(name: str):
    rows = re.findall(r"^\| (\w+) \| `(\S+)` \|", PAGE.read_text(encoding="utf-8"), flags=re.M)
    (folder,) = [code for step, code in rows if step == name]
    assert (PAGE.parents[1] / folder).exists()


@pytest.mark.parametrize("name", BY_NAME)
def test_the_folders_that_a_step_reads_are_told_by_an_expression_that_compiles(name: str):
    re.compile(BY_NAME[name].folders)
    assert BY_NAME[name].grows_with in ("text", "cleaned", "kept", "once")
