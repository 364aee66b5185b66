"""The training loop: steps until the budget is used, resumable at any moment.

What a step computes depends on the weights, the rows' position, the seed and the step's number alone. Checkpoints and
validation consume no randomness and change no state, so a run that was killed and resumed ends with the same bits as
an undisturbed one (CPU, any number of threads). With `max_seconds` the number of steps depends on the machine.

The learning rate is constant, with a short rise on a first night and a fall to zero at the end: that can go on every
night without knowing how many will follow; a cosine has to be warmed up again each time, which forgets (Hägele et al.
2024, arXiv:2405.18392).
"""

# B = rows a batch, T = tokens a row

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
from slimpajama.model.train.parallel import ThreadPool, batch_gradients, sharded_gradients
from slimpajama.model.train.rows import Rows
from slimpajama.model.train.tracking import Log

CURVE_POINTS = 50
VALIDATIONS = 4
# Of the whole gradient; what GPT-3, Llama and nanochat's early runs use.
CLIP_NORM = 1.0


def progress_share(step: int, steps: int, seconds: float = 0.0, max_seconds: float = 0.0) -> float:
    """Return how much of the night is over in the middle of step number `step` (from 0), in [0, 1].

    Of the budgets in steps and in seconds that one counts which is used up further; a `max_seconds` of 0 is none.
    """
    share = (step + 0.5) / steps
    if max_seconds > 0:
        share = max(share, seconds / max_seconds)
    return min(1.0, share)


def lr_scale(progress: float, warmup_share: float, decay_share: float) -> float:
    """Return the factor on the learning rate: linear rise, 1, linear fall to zero; the smaller where both overlap.

    `progress` is the share of the night that is over; the others are the shares in which the rate rises and falls.
    """
    rise = progress / warmup_share if warmup_share > 0 else 1.0
    fall = (1.0 - progress) / decay_share if decay_share > 0 else 1.0
    return max(0.0, min(1.0, rise, fall))


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


@dataclass(slots=True)
class Training:
    """One training of a model: `run` changes it in place."""

    model: nn.Module
    """Its weights are where the run starts, unless there is a checkpoint."""
    optimiser: Optimiser
    rows: Rows
    cfg: TrainConfig
    pool: ThreadPool
    """Computes; how many threads it has changes no weight. The first process of its group saves and reports."""
    warmup: bool = field(kw_only=True)
    """Whether the learning rate rises at first: where the weights are fresh."""
    checkpoints: Checkpoints | None = field(default=None, kw_only=True)
    """Where to save and resume; None for neither."""
    validate: Callable[[], dict[str, float]] | None = field(default=None, kw_only=True)
    """Returns bits per byte by language; must not change the model's state."""
    bar: Bar | None = field(default=None, kw_only=True)
    """Progress in tokens."""
    log: Log | None = field(default=None, kw_only=True)
    """Receives each point of the curve and each validation; must not change the model's state."""
    history: History = field(default_factory=History, init=False)

    def run(self) -> History:
        """Train until the budget is used, going on from the newest checkpoint; return what was recorded.

        Raises:
            ModelError: If a loss or gradient is not finite; step and rows are named, the last checkpoint stays good.
        """
        self._resume()
        history, group = self.history, self.pool.group
        if history.step != group.of_first(history.step):
            folder = self.checkpoints.folder if self.checkpoints else ""
            raise ModelError("processes found different checkpoints", where=folder)
        if group.rank:
            self.bar = self.log = None
        if self.bar:
            self.bar.resume(history.step * self._batch_tokens)
        forward = torch.compile(self.model) if self.cfg.compile else self.model
        self.model.train()
        saved = history.seconds
        while not self._is_over():
            began = time.perf_counter()
            losses = self._step(forward)
            history.add(losses)
            history.seconds = group.of_first(history.seconds + time.perf_counter() - began)
            self._record()
            self._show(losses)
            if self.checkpoints and (self._is_over() or history.seconds - saved >= self.cfg.checkpoint_seconds):
                self._save(self.checkpoints)
                saved = history.seconds
        self.model.eval()
        return history

    @property
    def _batch_tokens(self) -> int:
        return self.rows.batch_rows * self.rows.row_tokens

    @property
    def _steps(self) -> int:
        """Steps that the budget in tokens allows."""
        return math.ceil(self.cfg.tokens / self._batch_tokens)

    def _is_over(self) -> bool:
        return self.history.step >= self._steps or 0 < self.cfg.max_seconds <= self.history.seconds

    def _step(self, forward: Callable[..., dict[str, Tensor]]) -> dict[str, float]:
        """Change the weights once and return the losses in nats a token."""
        cfg, history = self.cfg, self.history
        share = progress_share(history.step, self._steps, history.seconds, cfg.max_seconds)
        scale = lr_scale(share, cfg.warmup_share if self.warmup else 0.0, cfg.decay_share)
        parameters = list(self.optimiser.parameters.values())
        place = self.rows.describe()
        batch = tuple(torch.from_numpy(array).to(parameters[0].device) for array in self.rows.batch())
        weights = {"continue": 1.0, "restore": cfg.restore_weight, "denoise": cfg.denoise_weight}
        gradients = sharded_gradients if is_share(parameters[0]) else batch_gradients
        losses = gradients(partial(forward, weights=weights), parameters, batch, cfg.precision, self.pool)
        norm = whole(torch.nn.utils.clip_grad_norm_(parameters, CLIP_NORM))
        if not (math.isfinite(losses["total"]) and math.isfinite(float(norm))):
            raise ModelError(
                f"training diverged at step {history.step}",
                where=f"rows from {place}",
                expected="a finite loss and gradient",
                found=f"loss {losses['total']}, gradient norm {float(norm)}",
                hint='Lower train.lr, or train with train.precision = "fp32".',
            )
        self.optimiser.step(scale, self.pool.map)
        return losses

    def _record(self) -> None:
        """Close a point of the curve and validate, where it is time for it."""
        history, over = self.history, self._is_over()
        if over or history.step % math.ceil(self._steps / CURVE_POINTS) == 0:
            history.close_point(self._batch_tokens)
            self._report("loss", history.curve[-1])
        if self.validate and (over or history.step % math.ceil(self._steps / VALIDATIONS) == 0):
            self.model.eval()
            place = {"step": history.step, "tokens": history.step * self._batch_tokens}
            history.validation.append(place | self.validate())
            self.model.train()
            self._report("bits_per_byte", history.validation[-1])

    def _report(self, kind: str, point: dict[str, float]) -> None:
        if self.log:
            figures = {f"{kind}/{name}": value for name, value in point.items() if name not in ("step", "tokens")}
            self.log(int(point["step"]), figures)

    def _show(self, losses: dict[str, float]) -> None:
        if self.bar:
            # The time may be over before the tokens are.
            if self.cfg.max_seconds:
                tokens = self.history.step * self._batch_tokens
                self.bar.total = min(self.cfg.tokens, tokens * self.cfg.max_seconds / self.history.seconds)
            self.bar.advance(self._batch_tokens, f"loss {losses.get('continue', losses['total']):.3f}")

    def _save(self, checkpoints: Checkpoints) -> None:
        """Save a checkpoint, which does not depend on how the model is cut; all processes have to take part.

        Each tensor is gathered by itself, and kept where it is saved.
        """
        weights = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        moments = {f"optimiser.{name}": tensor for name, tensor in self.optimiser.state_tensors().items()}
        tensors = {}
        for name, tensor in (weights | moments).items():
            full = whole(tensor)
            if not self.pool.group.rank:
                tensors[name] = full.cpu()
        if not self.pool.group.rank:
            state = {"rows": self.rows.position(), "history": asdict(self.history)}
            checkpoints.save(Checkpoint(self.history.step, tensors, state))

    def _resume(self) -> None:
        """Go on from the newest checkpoint, where there is one."""
        found = self.checkpoints.newest() if self.checkpoints else None
        if found is None:
            return

        def part(prefix: str) -> dict[str, Any]:
            return {name.removeprefix(prefix): t for name, t in found.tensors.items() if name.startswith(prefix)}

        own = self.model.state_dict()
        self.model.load_state_dict({name: share_of(tensor, own.get(name)) for name, tensor in part("model.").items()})
        self.optimiser.load_state_tensors(part("optimiser."))
        self.rows.seek(found.state["rows"])
        self.history = History(**found.state["history"])
