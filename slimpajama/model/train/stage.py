"""Training as a stage: shards of the nights in, `models/MODEL/` out.

    models/MODEL/checkpoints/    while it trains, removed afterwards
    models/MODEL/model.safetensors, config.json, tokenizer.json, training.json, README.md
    models/MODEL/manifest.json   written last

MODEL is `NIGHT-PRESET-XXXXXXXX`; the eight hex digits cover settings, data, tokenizer, the champion it starts from and
the version of torch, so the same training is never done twice and another one never lands in the same folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from slimpajama.core.config import Config, fingerprint
from slimpajama.core.progress import say, track
from slimpajama.model.architectures import LanguageModel, build, make_optimiser
from slimpajama.model.architectures.fsdp import shard
from slimpajama.model.device import device, with_precision
from slimpajama.model.loading import Loaded, load_model, weights_bytes
from slimpajama.model.train.card import model_card
from slimpajama.model.train.checkpoint import Checkpoints
from slimpajama.model.train.data import TrainingData, gather
from slimpajama.model.train.distributed import SINGLE, ProcessGroup, joined
from slimpajama.model.train.launch import launch
from slimpajama.model.train.loop import Training
from slimpajama.model.train.parallel import ThreadPool
from slimpajama.model.train.tracking import tracking
from slimpajama.model.train.validate import Validation, validation_rows
from slimpajama.text.tokenizer import Tokenizer
from slimpajama.workspace.manifest import Manifest, json_bytes
from slimpajama.workspace.open import Workspace
from slimpajama.workspace.stage import Part, Stage
from slimpajama.workspace.store import Store, sha256

# Raise it when the same inputs give other weights.
VERSION = 6
NOT_IN_WEIGHTS = ("checkpoint_seconds", "keep_checkpoints", "tensorboard", "mlflow")


@dataclass(frozen=True, slots=True)
class TrainReport:
    """What a training came to."""

    model: str
    uri: str
    skipped: bool
    """Whether it was finished before."""
    started_from: str
    """The champion whose weights it started from, or empty."""
    steps: int
    tokens: int
    losses: dict[str, float]
    """Last point of the loss curve, in nats a token."""
    bits_per_byte: dict[str, float]
    """Last validation, by language."""


def train(
    workspace: Workspace, cfg: Config, nights: Sequence[str], tonight: str, champion: str | None = None
) -> TrainReport:
    """Train tonight's model and publish it; skip what is finished, go on where a killed run stopped.

    Args:
        workspace: The workspace.
        cfg: `model`, `train` and `text` are used.
        nights: Published nights, oldest first; those before `tonight` are replayed where the tokenizer is the same.
        tonight: The night whose documents are new; one of `nights`.
        champion: Model to start from if its architecture and tokenizer are the same.

    Raises:
        InputError: If a night is not published or there is nothing to train on.
        ModelError: If the training diverged.
    """
    cfg = with_precision(cfg)
    plan = _plan(workspace, cfg, nights, tonight, champion)
    folder = f"models/{plan.name}"
    stage = Stage(workspace.store, "train", work=f"{folder}/work", about=plan.about, manifest=f"{folder}/manifest.json")
    skipped = stage.finished
    if not skipped:
        if not stage.has("model"):
            if cfg.train.processes > 1:
                launch(workspace.store, cfg, nights, tonight, champion)
            # Goes on from the last checkpoint, be it the last step's.
            model, training = _train(cfg, plan, SINGLE)
            stage.commit("model", _publish(cfg, plan, model, training))
        stage.finish()
    # Only after the manifest: a kill before it must find them.
    plan.checkpoints.clear()
    return _report(workspace.store, plan.name, stage.result, skipped)


def train_worker(
    workspace: Workspace, cfg: Config, nights: Sequence[str], tonight: str, champion: str | None = None
) -> str:
    """Take part in a training that torchrun started, up to its last checkpoint; return the model's id.

    Args and errors are those of `train`, which publishes afterwards.
    """
    cfg = with_precision(cfg)
    plan = _plan(workspace, cfg, nights, tonight, champion)
    with joined() as group:
        _train(cfg, plan, group)
    return plan.name


@dataclass(frozen=True, slots=True)
class _Plan:
    """What a training starts from, the same for all of its processes."""

    name: str
    data: TrainingData
    base: Loaded | None
    about: dict[str, Any]
    checkpoints: Checkpoints


def _plan(workspace: Workspace, cfg: Config, nights: Sequence[str], tonight: str, champion: str | None) -> _Plan:
    data = gather(workspace, nights, tonight)
    base = _warm_start(workspace, cfg, champion, data.tokenizer_json) if cfg.train.warm_start and champion else None
    about = _about(workspace, cfg, data, base.id if base else "")
    name = f"{tonight}-{cfg.model.preset}-{fingerprint('train', about)[:8]}"
    checkpoints = Checkpoints(workspace.store, f"models/{name}/checkpoints", cfg.train.keep_checkpoints)
    return _Plan(name, data, base, about, checkpoints)


def _warm_start(workspace: Workspace, cfg: Config, champion: str, tokenizer_json: bytes) -> Loaded | None:
    """Return the champion if its weights fit tonight's model and tokenizer."""
    if workspace.models.manifest(champion).about["tokenizer"] != sha256(tokenizer_json):
        say("train", f"{champion} has another tokenizer: a fresh start")
        return None
    loaded = load_model(workspace, champion)
    fresh = build(cfg.model, loaded.tokenizer.vocab_size, cfg.train.seed)
    if fresh.describe() != loaded.model.describe():
        say("train", f"{champion} has another architecture: a fresh start")
        return None
    return loaded


def _about(workspace: Workspace, cfg: Config, data: TrainingData, base: str) -> dict[str, Any]:
    """Return everything the weights depend on."""
    settings = {name: value for name, value in asdict(cfg.train).items() if name not in NOT_IN_WEIGHTS}
    return {
        "version": VERSION,
        "night": data.night,
        "model": cfg.model,
        "train": settings,
        "nights": {night: manifest.digest for night, manifest in data.nights.items()},
        "tokenizer": sha256(data.tokenizer_json),
        "text": cfg.text,
        "started_from": base,
        "started_from_digest": workspace.models.manifest(base).digest if base else "",
        "torch": torch.__version__,
        "numpy": np.__version__,
    }


def _train(cfg: Config, plan: _Plan, group: ProcessGroup) -> tuple[LanguageModel[Any], dict[str, Any]]:
    """Return the trained model and what is recorded of the training, as plain JSON."""
    data, base = plan.data, plan.base
    tokenizer = Tokenizer.load(data.tokenizer_json, cfg.text)
    model = base.model if base else build(cfg.model, tokenizer.vocab_size, cfg.train.seed)
    sharded = cfg.train.sharded and group.size > 1
    if sharded:
        shard(model)
    else:
        model.to(device())
    rows = data.rows(cfg.train, model.row_tokens, tokenizer.document_id)
    held_out = validation_rows(data.held_out(), tokenizer.document_id, model.row_tokens)
    validation = Validation(model, held_out, tokenizer.token_bytes, cfg.train.precision)
    tracked = replace(cfg.train, tensorboard="", mlflow="") if group.rank else cfg.train
    settings = asdict(cfg.model) | asdict(cfg.train) | {"started_from": base.id if base else "", "night": data.night}
    with (
        ThreadPool(1 if sharded else max(1, cfg.run.threads() // group.neighbours), group) as pool,
        tracking(tracked, plan.name, settings) as log,
        track("train", total=cfg.train.tokens, unit="tokens") as bar,
    ):
        history = Training(
            model,
            make_optimiser(model, cfg.train.lr, cfg.train.precision),
            rows,
            cfg.train,
            pool,
            warmup=base is None,
            checkpoints=plan.checkpoints,
            validate=validation,
            bar=bar,
            log=log,
        ).run()
    return model, {
        "started_from": base.id if base else "",
        "steps": history.step,
        "tokens": history.step * rows.batch_rows * rows.row_tokens,
        "curve": history.curve,
        "validation": history.validation,
    }


def _publish(cfg: Config, plan: _Plan, model: LanguageModel[Any], training: dict[str, Any]) -> Part:
    """Return the finished model's files and counts."""
    data, folder = plan.data, f"models/{plan.name}"
    config = {
        "format": 1,
        "model": cfg.model,
        "text": cfg.text,
        "tokenizer": sha256(data.tokenizer_json),
        "description": model.describe(),
    }
    files: dict[str, pa.Table | bytes] = {
        f"{folder}/model.safetensors": weights_bytes(model.state_dict()),
        f"{folder}/config.json": json_bytes(config),
        f"{folder}/tokenizer.json": data.tokenizer_json,
        f"{folder}/training.json": json_bytes(training),
        f"{folder}/README.md": model_card(plan.name, model.describe(), training, data.sources()).encode(),
    }
    counts = {
        "steps": training["steps"],
        "tokens": training["tokens"],
        "losses": training["curve"][-1],
        "validation": training["validation"][-1],
    }
    return Part(files, counts)


def _report(store: Store, name: str, manifest: Manifest, skipped: bool) -> TrainReport:
    counts = manifest.counts

    def figures(point: dict[str, float]) -> dict[str, float]:
        return {key: value for key, value in point.items() if key not in ("step", "tokens")}

    return TrainReport(
        model=name,
        uri=f"{store.uri}/models/{name}",
        skipped=skipped,
        started_from=manifest.about["started_from"],
        steps=counts["steps"],
        tokens=counts["tokens"],
        losses=figures(counts["losses"]),
        bits_per_byte=figures(counts["validation"]),
    )
