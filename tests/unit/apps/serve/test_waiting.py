"""Who is next, who has to make room, and when a job has taken enough."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from slimpajama.apps.serve.schemas import ApiError
from slimpajama.apps.serve.waiting import Job, SpentError, StoppedError, Waiting, bounded, client_of


def waiting(most: int) -> Waiting:
    return Waiting(most, lambda: ApiError(429, "full", "queue_full"))


def job(client: str, told: list[Any] | None = None) -> Job:
    return Job(None, (), (told if told is not None else []).append, client=client)  # type: ignore[arg-type]


def order(jobs: Waiting) -> str:
    """Return the clients in the order in which they are served."""
    return "".join(found.client for found in iter(lambda: jobs.take(0), None))


def test_clients_take_turns_and_one_that_comes_late_is_next():
    jobs = waiting(16)
    for client in "aaaabbc":
        jobs.put(job(client))
    assert order(jobs) == "abcabaa"
    for _ in range(4):
        jobs.put(job("a"))
    first = jobs.take(0)
    # While the first one runs.
    jobs.put(job("d"))
    assert first
    assert first.client + order(jobs) == "adaaa"


def test_where_it_is_full_the_last_job_of_the_client_with_most_makes_room():
    jobs, told = waiting(3), []
    kept = [job("a"), job("a")]
    for one in (*kept, job("a", told)):
        jobs.put(one)
    jobs.put(job("b"))
    assert [error.status for error in told] == [429]
    assert len(jobs) == 3
    for client in "bca":
        # Nobody has two more than another one now, and a third client finds two of `a`.
        if client == "c":
            jobs.put(job(client))
        else:
            with pytest.raises(ApiError):
                jobs.put(job(client))
    assert order(jobs) == "abc"


def test_a_job_that_nobody_waits_for_leaves_its_place():
    jobs = waiting(2)
    one, other = job("a"), job("a")
    jobs.put(one)
    jobs.put(other)
    jobs.drop(one)
    jobs.drop(one)
    jobs.put(job("b"))
    assert order(jobs) == "ab"
    assert not len(jobs)


def test_a_household_is_one_client():
    assert client_of("2001:db8::1") == client_of("2001:db8::ffff:1:2:3") != client_of("2001:db8:0:1::1")
    assert client_of("192.0.2.1") != client_of("192.0.2.2")
    assert client_of("testclient") == "testclient"


def test_work_ends_after_its_tokens_and_its_seconds_and_when_nobody_waits():
    spend = bounded(10, 60, lambda: False)
    spend(4)
    spend(6)
    with pytest.raises(SpentError, match="10 tokens"):
        spend(1)
    spend = bounded(10, 0.01, lambda: False)
    time.sleep(0.02)
    with pytest.raises(SpentError, match=r"0\.01 s"):
        spend(1)
    gone = threading.Event()
    spend = bounded(10, 60, gone.is_set)
    spend(1)
    gone.set()
    with pytest.raises(StoppedError):
        spend(1)
