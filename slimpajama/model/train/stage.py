"""Training as a stage: shards of the nights in, `models/MODEL/` out.

    models/MODEL/checkpoints/    while it trains, removed afterwards
    models/MODEL/model.safetensors, config.json, tokenizer.json, training.json, README.md
    models/MODEL/manifest.json   written last

MODEL is `NIGHT-PRESET-XXXXXXXX`; the eight hex digits cover settings, data, tokenizer, the champion it starts from and
the version of torch, so the same training is never done twice and another one never lands in the same folder.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from slimpajama.core.config import Config
from slimpajama.core.logs import step_log
from slimpajama.core.page import render
from slimpajama.core.progress import track
from slimpajama.core.result import Result
from slimpajama.model.architectures import LanguageModel, Optimiser, build
from slimpajama.model.architectures.fsdp import shard
from slimpajama.model.device import device, with_precision
from slimpajama.model.loading import Loaded, load_model, weights_bytes
from slimpajama.model.train.checkpoint import Checkpoints
from slimpajama.model.train.data import TrainingData, gather
from slimpajama.model.train.distributed import SINGLE, ProcessGroup, joined
from slimpajama.model.train.launch import launch
from slimpajama.model.train.loop import Training
from slimpajama.model.train.memory import require_memory
from slimpajama.model.train.parallel import ThreadPool
from slimpajama.model.train.tracking import tracking
from slimpajama.model.train.validate import validation_bits, validation_rows
from slimpajama.text.tokenizer import Tokenizer
from slimpajama.workspace import layout
from slimpajama.workspace.lineage import DOCUMENTS
from slimpajama.workspace.manifest import json_bytes
from slimpajama.workspace.open import Workspace
from slimpajama.workspace.step import Context, OnNight, Part, Run, Step, run_step
from slimpajama.workspace.store import sha256

# Raise it when the same inputs give other weights.
VERSION = 7
CARD = Path(__file__).with_name("card.md")
NOT_IN_WEIGHTS = ("checkpoint_seconds", "keep_checkpoints", "tensorboard", "mlflow")


@dataclass(frozen=True, slots=True)
class TrainReport(Result):
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

    def text(self) -> str:
        """Return one line for people."""
        bits = ", ".join(f"{lang} {value:.4f}" for lang, value in self.bits_per_byte.items())
        return f"{self.uri} after {self.steps} steps, bits per byte {bits}"


def train(
    workspace: Workspace, cfg: Config, nights: Sequence[str], night: str, champion: str | None = None
) -> TrainReport:
    """Train a night's model and publish it; skip what is finished, go on where a killed run stopped.

    Args:
        nights: Published nights, oldest first; those before `night` are replayed where the tokenizer is the same.
        champion: Model to start from if its architecture and tokenizer are the same.

    Raises:
        InputError: If a night is not published or there is nothing to train on.
        ModelError: If the training diverged.
    """
    run = run_step(TRAIN, Context(workspace, with_precision(cfg), night), nights=nights, champion=champion)
    counts = run.result.counts

    def figures(point: dict[str, float]) -> dict[str, float]:
        return {key: value for key, value in point.items() if key not in ("step", "tokens")}

    return TrainReport(
        model=_model_id(run),
        uri=f"{workspace.uri}/{_folder(run).path}",
        skipped=run.skipped,
        started_from=run.result.depends_on["started_from"],
        steps=counts["steps"],
        tokens=counts["tokens"],
        losses=figures(counts["losses"]),
        bits_per_byte=figures(counts["validation"]),
    )


def train_worker(
    workspace: Workspace, cfg: Config, nights: Sequence[str], night: str, champion: str | None = None
) -> str:
    """Take part in a training that torchrun started, up to its last checkpoint; return the model's id.

    Args and errors are those of `train`, which publishes afterwards.
    """
    run = Run(TRAIN, Context(workspace, with_precision(cfg), night), nights=nights, champion=champion)
    with joined() as group:
        _train(run, group)
    return _model_id(run)


def _data(run: Run) -> TrainingData:
    return gather(run.workspace, run.options["nights"], run.night)


def _base(run: Run) -> Loaded | None:
    """Return the champion if its weights fit the night's model and tokenizer."""
    workspace, cfg, champion = run.workspace, run.cfg, run.options["champion"]
    if not (cfg.train.warm_start and champion):
        return None
    if workspace.models.manifest(champion).depends_on["tokenizer"] != sha256(run.once(_data).tokenizer_json):
        step_log("train").info(f"{champion} has another tokenizer: a fresh start")
        return None
    loaded = load_model(workspace, champion, memory=False)
    # Without memory: these sizes have not been compared with what there is.
    with torch.device("meta"):
        fresh = build(cfg.model, loaded.tokenizer.vocab_size, cfg.train.seed)
    if fresh.describe() != loaded.model.describe():
        step_log("train").info(f"{champion} has another architecture: a fresh start")
        return None
    return loaded


def _inputs(run: Run) -> dict[str, Any]:
    """Return everything the weights depend on."""
    data, base = run.once(_data), run.once(_base)
    settings = {name: value for name, value in asdict(run.cfg.train).items() if name not in NOT_IN_WEIGHTS}
    return {
        "night": data.night,
        "model": run.cfg.model,
        "train": settings,
        "nights": {night: manifest.digest for night, manifest in data.nights.items()},
        "tokenizer": sha256(data.tokenizer_json),
        "text": run.cfg.text,
        "started_from": base.id if base else "",
        "started_from_digest": run.workspace.models.manifest(base.id).digest if base else "",
        "torch": torch.__version__,
        "numpy": np.__version__,
    }


def _model_id(run: Run) -> str:
    return f"{run.night}-{run.cfg.model.preset}-{run.fingerprint[:8]}"


def _folder(run: Run) -> layout.Model:
    return layout.model(_model_id(run))


def _place(run: Run) -> tuple[str, str]:
    return _folder(run).work(), _folder(run).manifest


def _checkpoints(run: Run) -> Checkpoints:
    return Checkpoints(run.store, _folder(run).checkpoints, run.cfg.train.keep_checkpoints)


def _make(run: Run) -> None:
    if run.has("model"):
        return
    require_memory(run.cfg, Tokenizer.load(run.once(_data).tokenizer_json).vocab_size)
    if run.cfg.train.processes > 1:
        launch(run.store, run.cfg, run.options["nights"], run.night, run.options["champion"])
    # It goes on from the last checkpoint, be it the last step's.
    model, training = _train(run, SINGLE)
    run.commit("model", _published(run, model, training))


def _on_night(context: Context, start: str) -> TrainReport:
    workspace, night = context.workspace, context.night
    start_from = start or workspace.models.champion_before(night)
    return train(workspace, context.cfg, workspace.nights.published(), night, start_from)


TRAIN = Step(
    "train",
    VERSION,
    _inputs,
    _make,
    place=_place,
    tidy=lambda run: _checkpoints(run).clear(),
    folders="shards/(train|validation)|tokenizer|models/[^/]+",
    on_night=OnNight(_on_night, "train-model", model=""),
)
"""Train a night's model. Options: `nights` that are published, `champion` to start from, or None."""


def _train(run: Run, group: ProcessGroup) -> tuple[LanguageModel, dict[str, Any]]:
    """Return the trained model and what is recorded of the training, as plain JSON."""
    cfg, data, base = run.cfg, run.once(_data), run.once(_base)
    tokenizer = Tokenizer.load(data.tokenizer_json, cfg.text)
    model = base.model if base else build(cfg.model, tokenizer.vocab_size, cfg.train.seed)
    sharded = cfg.train.sharded and group.size > 1
    if sharded:
        shard(model)
    else:
        model.to(device())
    rows = data.rows(cfg.train, model.row_tokens, tokenizer.document_id)
    held_out = validation_rows(data.held_out(), tokenizer.document_id, model.row_tokens)
    validation = partial(validation_bits, model, held_out, tokenizer.token_bytes, cfg.train.precision)
    tracked = replace(cfg.train, tensorboard="", mlflow="") if group.rank else cfg.train
    settings = asdict(cfg.model) | asdict(cfg.train) | {"started_from": base.id if base else "", "night": data.night}
    with (
        ThreadPool(1 if sharded else max(1, cfg.run.threads() // group.neighbours), group) as pool,
        tracking(tracked, _model_id(run), settings) as log,
        track("train", total=cfg.train.tokens, unit="tokens") as bar,
    ):
        history = Training(
            model,
            Optimiser(model, cfg.train.lr, cfg.train.precision),
            rows,
            cfg.train,
            pool,
            warmup=base is None,
            checkpoints=_checkpoints(run),
            validate=validation,
            bar=bar,
            log=log,
        ).run()
    documents, counts = data.read(rows) if not group.rank else (None, {})
    return model, {
        "documents": documents,
        "read": counts,
        "started_from": base.id if base else "",
        "steps": history.step,
        "tokens": history.step * rows.batch_rows * rows.row_tokens,
        "curve": history.curve,
        "validation": history.validation,
    }


def _published(run: Run, model: LanguageModel, training: dict[str, Any]) -> Part:
    """Return the finished model's files and counts."""
    cfg, data, name, place = run.cfg, run.once(_data), _model_id(run), _folder(run)
    documents = training.pop("documents")
    card = render(CARD, name=name, description=model.describe(), training=training, sources=data.sources())
    config = {
        "format": 1,
        "model": cfg.model,
        "text": cfg.text,
        "tokenizer": sha256(data.tokenizer_json),
        "description": model.describe(),
    }
    files = {
        place.file("model.safetensors"): weights_bytes(model.state_dict()),
        place.file("config.json"): json_bytes(config),
        place.file("tokenizer.json"): data.tokenizer_json,
        place.file("training.json"): json_bytes(training),
        place.file("README.md"): card.encode(),
        place.file(DOCUMENTS): documents,
    }
    counts = {
        "read": training["read"],
        "steps": training["steps"],
        "tokens": training["tokens"],
        "losses": training["curve"][-1],
        "validation": training["validation"][-1],
    }
    return Part(files, counts)
