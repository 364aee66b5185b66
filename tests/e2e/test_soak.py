"""The soak in small: processes killed through every part of a night, and nights in a row that are killed besides."""

import random

import pytest
from library_night import prepare_night

from benchmarks import soak

SEED = 20261126


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    """Of the processes: a tiny model gains nothing from a second."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    soak.CHILDREN.set_forkserver_preload(soak.PRELOADED)


def test_kills_through_preparation_training_and_pointers_leave_no_other_byte(tmp_path):
    accounts = soak.kills(tmp_path, (6, 2, 2), SEED)
    assert [account.kills for account in accounts.values()] == [6, 2, 2]
    for kind, account in accounts.items():
        assert (account.differing, account.lost) == ([], 0), f"seed {SEED}, {kind}, killed at {account.points}"


def test_two_nights_on_a_disk_that_fails_besides_leave_no_other_byte(tmp_path):
    nights = soak.soak(tmp_path, str(tmp_path / "killed"), 2, random.Random(SEED), prepare_night)
    assert [(night.differing, night.lost) for night in nights] == [(0, 0), (0, 0)], f"seed {SEED}: {nights}"
    assert sum(night.kills for night in nights) >= 3, nights
    assert sum(night.faults for night in nights) >= 2, nights


def test_a_process_that_prepares_night_after_night_holds_no_more_files_or_threads(tmp_path):
    states = soak.in_one_process(tmp_path, 4, prepare_night)
    assert states[-1].files <= states[1].files, states
    assert states[-1].threads <= states[1].threads, states
