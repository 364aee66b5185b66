from __future__ import annotations

import json
import sys
import threading
from collections.abc import Mapping
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from slimpajama.core.config import TrainConfig, load_config
from slimpajama.core.errors import ConfigError
from slimpajama.core.logs import LineHandler, logged_to
from slimpajama.model.train import stage as train_stage
from slimpajama.model.train.stage import train
from slimpajama.model.train.tracking import tracking
from slimpajama.workspace.open import Workspace
from slimpajama.workspace.store import read_json

Told = list[tuple[int, dict[str, float]]]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    """What a tracker in TensorBoard's place is told."""
    found: Told = []

    class Recorder:
        def __enter__(self) -> Any:
            return lambda step, figures: found.append((step, dict(figures)))

        def __exit__(self, *_: Any) -> None: ...

    monkeypatch.setattr("slimpajama.model.train.tracking._tensorboard", lambda folder: Recorder())
    return found


def tracked(space: Any, **changes: Any) -> Any:
    return replace(space.cfg, train=replace(space.cfg.train, tensorboard="logs", **changes))


def test_a_tracker_is_told_the_recorded_curve_and_changes_neither_name_nor_bytes(
    workspace: Any, trained: Any, told: Told
):
    space, model = trained
    assert train(Workspace(workspace.store), tracked(space), space.nights[:1], space.nights[0]).model == model
    for path in space.store.list(f"models/{model}"):
        assert workspace.store.read(path) == space.store.read(path)
    record = read_json(space.store, f"models/{model}/training.json")
    expected = [
        (point["step"], {f"{kind}/{k}": v for k, v in point.items() if k not in ("step", "tokens")})
        for kind, points in (("loss", record["curve"]), ("bits_per_byte", record["validation"]))
        for point in points
    ]
    assert sorted(told, key=str) == sorted(expected, key=str)


def test_a_tracker_that_fails_is_given_up_and_the_training_ends_as_without(
    workspace: Any, trained: Any, monkeypatch: pytest.MonkeyPatch
):
    space, model = trained
    calls: list[int] = []

    class Broken:
        def __enter__(self) -> Any:
            return self.log

        def __exit__(self, *_: Any) -> None: ...

        def log(self, step: int, figures: Mapping[str, float]) -> None:
            calls.append(step)
            raise OSError("server \x1b gone")

    monkeypatch.setattr("slimpajama.model.train.tracking._tensorboard", lambda folder: Broken())
    said: list[str] = []
    with logged_to(LineHandler(said.append)):
        train(Workspace(workspace.store), tracked(space), space.nights[:1], space.nights[0])
    weights = f"models/{model}/model.safetensors"
    assert workspace.store.read(weights) == space.store.read(weights)
    assert len(calls) == 1
    assert [line for line in said if "no longer tracked: server \\x1b gone" in line]


@pytest.mark.parametrize(("option", "package"), [("tensorboard", "tensorboard"), ("mlflow", "mlflow")])
def test_a_missing_package_is_named_with_its_extra_before_anything_is_trained(
    workspace: Any, option: str, package: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    steps: list[int] = []
    monkeypatch.setattr(train_stage, "Training", lambda *_, **__: steps.append(1))
    cfg = replace(workspace.cfg, train=replace(workspace.cfg.train, **{option: "logs"}))
    with pytest.raises(ConfigError, match=rf"needs the extra `{option}`.*slimpajama\[{option}\]"):
        train(Workspace(workspace.store), cfg, workspace.nights[:1], workspace.nights[0])
    assert not steps


def test_a_relative_log_folder_starts_at_the_configuration_file(tmp_path: Path):
    file = tmp_path / "slimpajama.toml"
    file.write_text('[train]\ntensorboard = "logs"\n')
    assert load_config(file).train.tensorboard == str(tmp_path / "logs")
    file.write_text("")
    assert load_config(file).train.tensorboard == ""


def test_tensorboard_reads_the_curve_and_a_resumed_run_replaces_what_it_repeats(tmp_path: Path):
    pytest.importorskip("tensorboard", reason="needs the extra `tensorboard`")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    cfg = TrainConfig(tensorboard=str(tmp_path))
    # Killed after step 3; its checkpoint was at 1.
    for steps in ([1, 2, 3], [2, 3, 4]):
        with tracking(cfg, "model", {}) as log:
            for step in steps:
                log(step, {"loss/continue": 1.0 / step})
    events = EventAccumulator(str(tmp_path / "model")).Reload().Scalars("loss/continue")
    assert [event.step for event in events] == [1, 2, 3, 4]
    assert [event.value for event in events] == pytest.approx([1.0, 1 / 2, 1 / 3, 1 / 4])


def test_mlflow_has_one_run_a_model_with_settings_and_curve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    mlflow = pytest.importorskip("mlflow", reason="needs the extra `mlflow`")
    # A server's place in this test.
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    cfg = TrainConfig(mlflow=(tmp_path / "runs").as_uri())
    with tracking(cfg, "model", {"lr": 1.0}) as log:
        log(1, {"loss/continue": 3.0})
    with tracking(cfg, "model", {"lr": 1.0}) as log:
        log(2, {"loss/continue": 2.0})
    client = mlflow.MlflowClient(tracking_uri=cfg.mlflow)
    (experiment,) = [e for e in client.search_experiments() if e.name == "slimpajama"]
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status, run.data.params) == ("model", "FINISHED", {"lr": "1.0"})
    curve = client.get_metric_history(run.info.run_id, "loss/continue")
    assert [(point.step, point.value) for point in curve] == [(1, 3.0), (2, 2.0)]


def test_a_server_that_is_down_at_the_start_or_later_costs_a_line(monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("mlflow", reason="needs the extra `mlflow`")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    stays = threading.Event()

    class Server(BaseHTTPRequestHandler):
        def answer(self):
            known = {
                "experiments/get-by-name": {"experiment": {"experiment_id": "1"}},
                "runs/search": {"runs": [{"info": {"run_id": "2"}, "data": {}}]},
            }
            body = json.dumps(next((made for path, made in known.items() if path in self.path), {})).encode()
            self.send_response(200 if stays.is_set() else 500)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = answer

        def log_message(self, *_: Any) -> None: ...

    said: list[str] = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server, logged_to(LineHandler(said.append)):
        threading.Thread(target=server.serve_forever, daemon=True).start()
        cfg = TrainConfig(mlflow=f"http://127.0.0.1:{server.server_port}")
        with tracking(cfg, "model", {}) as log:
            log(1, {"loss/continue": 3.0})
        assert [line.count("not tracked: ") for line in said] == [1]
        stays.set()
        with tracking(cfg, "model", {}) as log:
            log(1, {"loss/continue": 3.0})
            assert len(said) == 1
            stays.clear()
            log(2, {"loss/continue": 2.0})
            log(3, {"loss/continue": 1.0})
        server.shutdown()
    assert [line.count("no longer tracked: ") for line in said[1:]] == [1]


def test_without_a_tracker_nothing_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with tracking(TrainConfig(), "model", {}) as log:
        log(1, {"loss/continue": 1.0})
    assert not list(tmp_path.iterdir())
