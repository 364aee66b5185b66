from __future__ import annotations

import pytest

from slimpajama.model.train.loop import lr_scale, progress_share


def scales(steps: int, warmup: float, decay: float) -> list[float]:
    return [lr_scale(progress_share(step, steps), warmup, decay) for step in range(steps)]


def test_a_cold_start_rises_stays_and_falls_to_zero():
    found = scales(100, 0.1, 0.3)
    assert found[0] == pytest.approx(0.05)
    assert found[10:70] == [1.0] * 60
    assert found == sorted(found[:70]) + sorted(found[70:], reverse=True)
    assert 0 < found[-1] < 0.02
    assert lr_scale(1.0, 0.1, 0.3) == 0.0


def test_a_warm_start_begins_at_the_full_rate():
    assert scales(10, 0.0, 0.3)[0] == 1.0


def test_no_decay_keeps_the_rate_to_the_end():
    assert scales(10, 0.0, 0.0) == [1.0] * 10


def test_a_rise_and_fall_that_overlap_never_exceed_either():
    assert max(scales(101, 1.0, 1.0)) == pytest.approx(0.5)


def test_with_a_time_limit_whichever_ends_first_counts():
    assert progress_share(0, 100, seconds=30, max_seconds=60) == 0.5
    assert progress_share(89, 100, seconds=30, max_seconds=60) == pytest.approx(0.895)
    assert progress_share(0, 100, seconds=90, max_seconds=60) == 1.0
