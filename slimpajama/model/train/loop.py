"""The training loop: steps until the budget is used, resumable at any moment.

What a step computes depends on the weights, the rows' position, the seed and the step's number alone. Checkpoints and
validation consume no randomness and change no state, so a run that was killed and resumed ends with the same bits as
an undisturbed one (CPU, any number of threads). With `max_seconds` the number of steps depends on the machine.
"""

# B = rows a batch, T = tokens a row

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from slimpajama.core.config import TrainConfig
from slimpajama.core.errors import ModelError
from slimpajama.core.progress import Bar
from slimpajama.model.architectures import Optimiser
from slimpajama.model.architectures.fsdp import is_share, share_of, whole
from slimpajama.model.train.checkpoint import Checkpoint, Checkpoints
from slimpajama.model.train.parallel import Team, batch_gradients, sharded_gradients
from slimpajama.model.train.rows import Rows
from slimpajama.model.train.schedule import lr_scale, progress_share
from slimpajama.model.train.tracking import Log

CURVE_POINTS = 50
VALIDATIONS = 4
# Of the whole gradient; what GPT-3, Llama and nanochat's early runs use.
CLIP_NORM = 1.0


@dataclass(slots=True)
class History:
    """What a run recorded; no clock's reading is in it but `seconds`, which is never published."""

    step: int = 0
    seconds: float = 0.0
    curve: list[dict[str, float]] = field(default_factory=list)
    """Mean losses in nats a token since the point before: `step`, `tokens`, then each loss by name."""
    validation: list[dict[str, float]] = field(default_factory=list)
    """Bits per byte by language: `step`, `tokens`, then each language."""
    sums: dict[str, float] = field(default_factory=dict)
    """Losses added up since the last point of the curve."""
    counts: dict[str, int] = field(default_factory=dict)
    """Steps that had them."""

    def add(self, losses: dict[str, float]) -> None:
        """Count one step."""
        self.step += 1
        for name, value in losses.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
            self.counts[name] = self.counts.get(name, 0) + 1

    def close_point(self, batch_tokens: int) -> None:
        """Turn the sums into a point of the curve."""
        means = {name: total / self.counts[name] for name, total in self.sums.items()}
        self.curve.append({"step": self.step, "tokens": self.step * batch_tokens} | means)
        self.sums, self.counts = {}, {}


def train_model(
    model: nn.Module,
    optimiser: Optimiser,
    rows: Rows,
    cfg: TrainConfig,
    team: Team,
    *,
    cold: bool,
    checkpoints: Checkpoints | None = None,
    validate: Callable[[], dict[str, float]] | None = None,
    bar: Bar | None = None,
    log: Log | None = None,
) -> History:
    """Train `model` in place until the budget is used, going on from the newest checkpoint.

    Args:
        model: Its weights are where the run starts, unless there is a checkpoint.
        optimiser: Belongs to `model`.
        rows: Where the batches come from.
        cfg: Budget, schedule, precision, seed.
        team: Threads that compute, how many changes no weight; the first process of its group saves and reports.
        cold: Whether the weights are fresh; only then the learning rate is warmed up.
        checkpoints: Where to save and resume; None for neither.
        validate: Returns bits per byte by language; must not change the model's state.
        bar: Progress in tokens.
        log: Told each point of the curve and each validation; must not change the model's state.

    Raises:
        ModelError: If a loss or gradient is not finite; step and rows are named, the last checkpoint stays good.
    """
    batch_tokens = rows.batch_rows * rows.row_tokens
    steps = math.ceil(cfg.tokens / batch_tokens)
    every, validate_every = math.ceil(steps / CURVE_POINTS), math.ceil(steps / VALIDATIONS)
    history = _resume(model, optimiser, rows, checkpoints) if checkpoints else History()
    forward = torch.compile(model) if cfg.compile else model
    if history.step != team.group.of_first(history.step):
        raise ModelError("processes found different checkpoints", where=checkpoints.folder if checkpoints else "")
    if team.group.rank:
        bar = log = None
    model.train()
    saved = history.seconds
    if bar:
        bar.resume(history.step * batch_tokens)
    while not (over := _is_over(history, steps, cfg)):
        began = time.perf_counter()
        share = progress_share(history.step, steps, history.seconds, cfg.max_seconds)
        scale = lr_scale(share, cfg.warmup_share if cold else 0.0, cfg.decay_share)
        losses = _losses(forward, optimiser, rows, cfg, history.step, team)
        optimiser.step(scale, team.map)
        history.add(losses)
        history.seconds = team.group.of_first(history.seconds + time.perf_counter() - began)
        over = _is_over(history, steps, cfg)
        if over or history.step % every == 0:
            history.close_point(batch_tokens)
            _tell(log, "loss", history.curve[-1])
        if validate and (over or history.step % validate_every == 0):
            model.eval()
            history.validation.append({"step": history.step, "tokens": history.step * batch_tokens} | validate())
            model.train()
            _tell(log, "bits_per_byte", history.validation[-1])
        if bar:
            # The time may be over before the tokens are.
            if cfg.max_seconds:
                bar.total = min(cfg.tokens, history.step * batch_tokens * cfg.max_seconds / history.seconds)
            bar.advance(batch_tokens, f"loss {losses.get('continue', losses['total']):.3f}")
        if checkpoints and (over or history.seconds - saved >= cfg.checkpoint_seconds):
            checkpoint = _checkpoint(model, optimiser, rows, history, team)
            if not team.group.rank:
                checkpoints.save(checkpoint)
            saved = history.seconds
    model.eval()
    return history


def _tell(log: Log | None, kind: str, point: dict[str, float]) -> None:
    if log:
        figures = {f"{kind}/{name}": value for name, value in point.items() if name not in ("step", "tokens")}
        log(int(point["step"]), figures)


def _is_over(history: History, steps: int, cfg: TrainConfig) -> bool:
    return history.step >= steps or 0 < cfg.max_seconds <= history.seconds


def _losses(
    forward: Callable[..., dict[str, Tensor]],
    optimiser: Optimiser,
    rows: Rows,
    cfg: TrainConfig,
    step: int,
    team: Team,
) -> dict[str, float]:
    """Compute one step's gradients and return its losses in nats a token."""
    parameters = list(optimiser.parameters.values())
    place = rows.describe()
    batch = tuple(torch.from_numpy(array).to(parameters[0].device) for array in rows.batch())
    weights = {"continue": 1.0, "restore": cfg.restore_weight, "denoise": cfg.denoise_weight}
    gradients = sharded_gradients if is_share(parameters[0]) else batch_gradients
    values = gradients(partial(forward, weights=weights), parameters, batch, cfg.precision, team)
    norm = whole(torch.nn.utils.clip_grad_norm_(parameters, CLIP_NORM))
    if not (math.isfinite(values["total"]) and math.isfinite(float(norm))):
        raise ModelError(
            f"training diverged at step {step}",
            where=f"rows from {place}",
            expected="a finite loss and gradient",
            found=f"loss {values['total']}, gradient norm {float(norm)}",
            hint='Lower train.lr, or train with train.precision = "fp32".',
        )
    return values


def _checkpoint(model: nn.Module, optimiser: Optimiser, rows: Rows, history: History, team: Team) -> Checkpoint:
    """Return a checkpoint, which does not depend on how the model is cut; without tensors where it is not to be saved.

    All processes have to take part, each tensor is gathered by itself.
    """
    weights = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    moments = {f"optimiser.{name}": tensor for name, tensor in optimiser.state_tensors().items()}
    tensors = {}
    for name, tensor in (weights | moments).items():
        full = whole(tensor)
        if not team.group.rank:
            tensors[name] = full.cpu()
    return Checkpoint(history.step, tensors, {"rows": rows.position(), "history": asdict(history)})


def _resume(model: nn.Module, optimiser: Optimiser, rows: Rows, checkpoints: Checkpoints) -> History:
    found = checkpoints.newest()
    if found is None:
        return History()

    def part(prefix: str) -> dict[str, Any]:
        return {name.removeprefix(prefix): t for name, t in found.tensors.items() if name.startswith(prefix)}

    own = model.state_dict()
    model.load_state_dict({name: share_of(tensor, own.get(name)) for name, tensor in part("model.").items()})
    optimiser.load_state_tensors(part("optimiser."))
    rows.seek(found.state["rows"])
    return History(**found.state["history"])
