"""The tuple of all steps: what flows, tasks and pages rely on."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from slimpajama.corpus.pipeline import NAMES
from slimpajama.ops.pipeline import BY_NAME, PIPELINE

PAGE = Path(__file__).resolve().parents[3] / "docs" / "architecture.md"


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
