"""A lifecycle that is killed again and again ends in the bytes of one that was left alone."""

import os
import random
import signal
import subprocess
import sys
import time

from small_corpus import arguments, published

SEED = 20261123


def test_every_stage_published_something(undisturbed):
    for prefix in (
        "nights/n1/documents/",
        "nights/n1/removed/",
        "nights/n1/minhash/",
        "nights/n1/bands/",
        "nights/n1/windows/",
        "nights/n1/passages/",
        "nights/n1/shards/train/",
        "nights/n1/README.md",
        "nights/n1/croissant.json",
        "nights/n1/manifest.json",
        "models/n1-tiny-",
        "models/champion.json",
        "reports/n1/report.html",
    ):
        assert any(name.startswith(prefix) for name in undisturbed), prefix


def test_kills_around_writes_change_no_published_byte(corpus, undisturbed, slimpajama, tmp_path):
    draw = random.Random(SEED)
    workspace, points = tmp_path / "w", []
    for _ in range(60):
        point = f"{draw.choice(['before', 'torn', 'after'])}:{draw.randint(3, 14)}"
        done = slimpajama(*arguments(corpus, workspace), dies_at=point, check=None)
        points.append(point)
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, f"{points}\n{done.stderr}"
    assert done.returncode == 0, f"never came through: {points}"
    assert len(points) >= 6, points
    assert published(workspace) == undisturbed, f"seed {SEED}, killed at {points}"


def test_kills_at_any_time_change_no_published_byte(corpus, undisturbed, prefect_server, tmp_path):
    draw = random.Random(SEED)
    workspace, delays = tmp_path / "w", []
    command = [sys.executable, "-m", "slimpajama", *map(str, arguments(corpus, workspace))]
    for _ in range(5):
        process = subprocess.Popen(
            command,
            env=os.environ | prefect_server,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        delays.append(round(draw.uniform(4.0, 14.0), 2))
        time.sleep(delays[-1])
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    subprocess.run(command, env=os.environ | prefect_server, check=True, timeout=600, stdin=subprocess.DEVNULL)
    assert published(workspace) == undisturbed, f"seed {SEED}, killed after {delays}"


def test_a_finished_night_run_again_skips_everything_and_changes_nothing(corpus, slimpajama, tmp_path):
    workspace = tmp_path / "w"
    slimpajama(*arguments(corpus, workspace))
    before = published(workspace)
    again = slimpajama(*arguments(corpus, workspace))
    assert "skipped" in again.stderr
    assert published(workspace) == before


def test_one_and_two_workers_and_two_hash_seeds_give_the_same_bytes(corpus, undisturbed, slimpajama, tmp_path):
    for workers, hash_seed in ((1, "1"), (2, "2")):
        workspace = tmp_path / hash_seed
        slimpajama(*arguments(corpus, workspace), "--set", f"run.workers={workers}", PYTHONHASHSEED=hash_seed)
        assert published(workspace) == undisturbed
