from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from slimpajama.core.config import ModelConfig, TrainConfig
from slimpajama.core.errors import ModelError
from slimpajama.core.progress import Bar
from slimpajama.model.architectures import Optimiser, build
from slimpajama.model.train import parallel
from slimpajama.model.train.cache import ShardTokens
from slimpajama.model.train.checkpoint import Checkpoints
from slimpajama.model.train.loop import History, Training
from slimpajama.model.train.parallel import ThreadPool
from slimpajama.model.train.rows import Mix, Stream
from slimpajama.workspace.local import LocalStore

VOCAB = 300
MODEL = ModelConfig(preset="tiny", row_tokens=32)
CFG = TrainConfig(tokens=24 * 128, batch_tokens=128, precision="fp32", checkpoint_seconds=1e-9)
FOLDER = "models/m/checkpoints"


def read_shard(name: str) -> ShardTokens:
    rng = np.random.default_rng(int(name))
    # Something to learn: small steps upwards.
    ids = np.cumsum(rng.integers(0, 3, 900)) % (VOCAB - 1) + 1
    keys = np.arange(9, dtype=np.uint64) + 9 * int(name)
    return ShardTokens(ids.astype(np.uint16), ids % 3 > 0, np.full(9, 100), keys)


def rows() -> Mix:
    stream = Stream(dict.fromkeys("123", 1), read_shard, 0, 32, seed=5)
    return Mix(stream, None, replay_share=0.0, batch_tokens=128)


def train(
    store: LocalStore | None, cfg: TrainConfig = CFG, validate: bool = True, threads: int = 1
) -> tuple[dict[str, torch.Tensor], History]:
    model = build(MODEL, VOCAB, seed=1)
    probe = torch.arange(64).reshape(2, 32) + 1
    with ThreadPool(threads) as pool:
        history = Training(
            model,
            Optimiser(model, cfg.lr),
            rows(),
            cfg,
            pool,
            warmup=True,
            checkpoints=Checkpoints(store, FOLDER, cfg.keep_checkpoints) if store else None,
            validate=(lambda: {"en": float(model.nll(probe).mean())}) if validate else None,
        ).run()
    return model.state_dict(), history


def assert_same_bits(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> None:
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, two[name]), name


@pytest.fixture(scope="module")
def undisturbed() -> tuple[dict[str, torch.Tensor], History]:
    return train(None)


def test_the_loss_falls_and_the_history_has_no_gap(undisturbed: tuple[dict[str, torch.Tensor], History]):
    _, history = undisturbed
    assert history.step == 24
    assert [point["step"] for point in history.curve] == list(range(1, 25))
    assert [point["step"] for point in history.validation] == [6, 12, 18, 24]
    assert [point["tokens"] for point in history.validation] == [768, 1536, 2304, 3072]
    assert history.curve[-1]["continue"] < history.curve[0]["continue"] - 0.3


def test_checkpoints_and_validation_do_not_change_the_weights(
    undisturbed: tuple[dict[str, torch.Tensor], History], tmp_path: Path
):
    with_checkpoints, _ = train(LocalStore(str(tmp_path)))
    without_validation, _ = train(None, validate=False)
    assert_same_bits(undisturbed[0], with_checkpoints)
    assert_same_bits(undisturbed[0], without_validation)


def test_the_number_of_threads_does_not_change_the_weights(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(parallel, "PART_TOKENS", 32)  # four parts a step
    alone, _ = train(None)
    for threads in (2, 3):
        assert_same_bits(alone, train(None, threads=threads)[0])


def test_a_damaged_newest_checkpoint_costs_steps_but_no_bit(
    undisturbed: tuple[dict[str, torch.Tensor], History], tmp_path: Path
):
    store = LocalStore(str(tmp_path))
    train(store)
    newest = Checkpoints(store, FOLDER).steps()[-1]
    store.write(f"{FOLDER}/step-{newest:07d}/state.safetensors", b"cut")
    weights, history = train(store)
    assert_same_bits(undisturbed[0], weights)
    assert (history.curve, history.validation) == (undisturbed[1].curve, undisturbed[1].validation)


SCRIPT = """
import sys
sys.path.insert(0, {folder!r})
from test_loop import LocalStore, train
train(LocalStore(sys.argv[1]))
"""


def test_a_run_killed_by_sigkill_and_resumed_ends_with_identical_weights(
    undisturbed: tuple[dict[str, torch.Tensor], History], tmp_path: Path
):
    store = LocalStore(str(tmp_path))
    checkpoints = Checkpoints(store, FOLDER)
    command = [sys.executable, "-c", SCRIPT.format(folder=str(Path(__file__).parent)), str(tmp_path)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    killed_at = []
    for wanted in (3, 11):
        process = subprocess.Popen(command, env=environment)
        while process.poll() is None and (checkpoints.steps() or [0])[-1] < wanted:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "it ended before it was killed"
        killed_at.append(checkpoints.steps()[-1])
    assert 3 <= killed_at[0] < killed_at[1] < 24
    weights, history = train(store)
    assert_same_bits(undisturbed[0], weights)
    assert (history.curve, history.validation) == (undisturbed[1].curve, undisturbed[1].validation)


def test_a_finished_run_takes_no_further_step(undisturbed: tuple[dict[str, torch.Tensor], History], tmp_path: Path):
    store = LocalStore(str(tmp_path))
    train(store)
    weights, history = train(store)
    assert_same_bits(undisturbed[0], weights)
    assert history.step == 24


def test_a_time_limit_ends_the_run_with_its_last_checkpoint(tmp_path: Path):
    store = LocalStore(str(tmp_path))
    cfg = TrainConfig(tokens=10**9, batch_tokens=128, precision="fp32", max_seconds=0.2, checkpoint_seconds=1e6)
    _, history = train(store, cfg)
    assert history.seconds >= 0.2
    assert Checkpoints(store, FOLDER).steps() == [history.step]
    assert history.curve[-1]["step"] == history.validation[-1]["step"] == history.step


def test_the_bar_of_a_limited_run_foretells_its_end_by_the_time_and_never_more_tokens_than_were_asked_for():
    cfg = TrainConfig(tokens=10**9, batch_tokens=128, precision="fp32", max_seconds=0.2)
    bar, totals = Bar("train", cfg.tokens, "tokens"), []
    bar.on_change = lambda bar: totals.append(bar.total)
    model = build(MODEL, VOCAB, seed=1)
    with ThreadPool(1) as pool:
        history = Training(model, Optimiser(model, cfg.lr), rows(), cfg, pool, warmup=True, bar=bar).run()
    assert bar.done == history.step * 128
    assert max(totals) <= cfg.tokens
    assert bar.done / bar.total == pytest.approx(history.seconds / 0.2)


def test_a_loss_that_is_not_finite_stops_the_run_and_names_step_and_rows():
    model = build(MODEL, VOCAB, seed=1)

    def poison() -> dict[str, float]:
        with torch.no_grad():
            next(model.parameters())[5] = float("nan")
        return {}

    with (
        ThreadPool(1) as pool,
        pytest.raises(ModelError, match=r"rows from newest: epoch 0, lot 1 of 1, row 24: training diverged at step 6"),
    ):
        Training(model, Optimiser(model, 1.0), rows(), CFG, pool, warmup=True, validate=poison).run()
