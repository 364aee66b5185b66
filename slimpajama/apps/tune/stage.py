"""Tuning as a step: a champion and the pairs in, `tuned/MODEL/` out.

    tuned/MODEL/checkpoints/    while it trains, removed afterwards
    tuned/MODEL/model.safetensors, config.json, tokenizer.json, dictionary.parquet, training.json
    tuned/MODEL/ways.json       by kind and language of the source or question
    tuned/MODEL/scores.json, outputs.parquet
    tuned/MODEL/manifest.json   written last
    tuned/current.json          task -> the model that serves it, replaced by compare-and-swap

MODEL is the champion's name and eight hex digits of everything else that the tuning depends on. Each task has a gate
of its own: a new model serves it if the measure that decides is better on the test pairs, by a paired bootstrap, or
if nobody served it before.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import polars as pl
import torch

from slimpajama.apps.tune.choose import choose_strategies, measure_outputs
from slimpajama.apps.tune.learn import learn, model_files
from slimpajama.apps.tune.loading import load_files, tuned_manifest
from slimpajama.apps.tune.metrics import MAIN, interval
from slimpajama.core.config import Config
from slimpajama.core.errors import InputError, ModelError
from slimpajama.core.result import Result
from slimpajama.corpus.pairs.stage import make_pairs, read_split
from slimpajama.model.architectures.chunk import ChunkModel
from slimpajama.model.device import with_precision
from slimpajama.model.loading import Loaded, load_model
from slimpajama.model.train.checkpoint import Checkpoints
from slimpajama.workspace import layout
from slimpajama.workspace.manifest import Manifest, json_bytes
from slimpajama.workspace.open import Workspace
from slimpajama.workspace.parquet import read_verified_table, verified_json
from slimpajama.workspace.step import Context, OnNight, Part, Run, Step, run_step

# Raise it when the same inputs give other weights or figures.
VERSION = 6


@dataclass(frozen=True, slots=True)
class TuneReport(Result):
    """What a tuning came to."""

    model: str
    base: str
    pairs: str
    """Name of the set of pairs."""
    skipped: bool
    scores: dict[str, Any]
    """`tasks`: measures by task and target language; `ways`: by kind and language; `samples`: some texts,
    each with `source`, `question`, `reference` and `output`."""
    decisions: dict[str, Any]
    """By task: `promote`, `reason`, and what was compared."""

    def text(self) -> str:
        """Return the summary for people."""
        lines = [f"{self.model}: {'done before' if self.skipped else 'tuned'} on pairs {self.pairs}"]
        for task, languages in self.scores["tasks"].items():
            for lang, found in languages.items():
                low, high = found["interval"]
                shown = f"{MAIN[task]} {found[MAIN[task]]:.1f} ({low:.1f} to {high:.1f}), n = {found['n']}"
                lines.append(
                    f"  {task:20} {lang:3} {shown}, copied {found['copied']:.0f} %, length {found['length']:.2f}"
                )
        lines += [f"  {task}: {decision['reason']}" for task, decision in self.decisions.items()]
        return "\n".join(lines)


def tune(workspace: Workspace, cfg: Config, champion: str) -> TuneReport:
    """Teach a champion the pairs, measure it on the test pairs, and let it serve the tasks that it is better at.

    Of `cfg`, `pairs` and what they depend on, `tune`, `apply` and `train` are used.

    Raises:
        InputError: There is no pair to learn or to measure by.
        ModelError: The champion is no chunk autoencoder, or the tuning diverged.
    """
    run = run_step(TUNE, Context(workspace, with_precision(cfg), night=""), champion=champion)
    name = _model_id(run)
    scores = verified_json(workspace.store, run.result.file("scores.json"))
    return TuneReport(name, champion, run.once(_pairs)[0], run.skipped, scores, decide(workspace, cfg, name))


def _pairs(run: Run) -> tuple[str, Manifest]:
    """Return the set of pairs; it has some to learn from and some to measure by."""
    name, pairs = make_pairs(run.workspace, run.cfg)
    if missing := {"train", "test"} - set(pairs.counts["pairs"]):
        raise InputError(
            "too few pairs",
            where="pairs.sources",
            found=f"none for {' and '.join(sorted(missing))}",
            hint="Bring more, or raise pairs.test_share.",
        )
    return name, pairs


def _base(run: Run) -> Loaded:
    """Return the champion, a chunk autoencoder."""
    champion: str = run.options["champion"]
    base = load_model(run.workspace, champion, memory=False)
    if not isinstance(base.model, ChunkModel):
        raise ModelError(
            "cannot be tuned", where=champion, expected="a chunk autoencoder", found=base.config["model"]["preset"]
        )
    return base


def _inputs(run: Run) -> dict[str, Any]:
    _, pairs = run.once(_pairs)
    return {
        "base": run.once(_base).id,
        "base_digest": run.workspace.models.manifest(run.options["champion"]).digest,
        "pairs": pairs.digest,
        "tune": replace(run.cfg.tune, nightly=False),
        "apply": run.cfg.apply,
        "precision": run.cfg.train.precision,
        "torch": torch.__version__,
    }


def _model_id(run: Run) -> str:
    return f"{run.options['champion']}-{run.fingerprint[:8]}"


def _folder(run: Run) -> layout.Model:
    return layout.tuned(_model_id(run))


def _place(run: Run) -> tuple[str, str]:
    return _folder(run).work(), _folder(run).manifest


def _checkpoints(run: Run) -> Checkpoints:
    return Checkpoints(run.store, _folder(run).checkpoints, run.cfg.train.keep_checkpoints)


def _tune(run: Run) -> None:
    set_name, pairs = run.once(_pairs)
    place, cfg = _folder(run), run.cfg

    def rows(split: str) -> pl.DataFrame:
        return read_split(run.store, pairs, set_name, split)

    if not run.has("model"):
        base = run.once(_base)
        tuned, training = learn(cfg, base, rows("train"), _checkpoints(run))
        counts = {"steps": training["steps"], "tokens": training["tokens"]}
        run.commit("model", Part(model_files(place, base, tuned, training), counts))
    if not run.has("ways"):
        strategies = choose_strategies(load_files(run.store, run.part_files("model")), rows("validation"), cfg)
        run.commit("ways", Part({place.file("ways.json"): json_bytes(strategies)}))
    tuned = load_files(run.store, [*run.part_files("model"), *run.part_files("ways")])
    outputs, tasks, samples = measure_outputs(tuned, rows("test"), cfg)
    scores = json_bytes({"tasks": tasks, "ways": tuned.strategies, "samples": samples})
    run.commit("scores", Part({place.file("scores.json"): scores, place.file("outputs.parquet"): outputs}))


def _is_wanted(cfg: Config, reports: Mapping[str, Any]) -> bool:
    # A first model may be too poor to become champion.
    return cfg.tune.nightly and bool(reports["evaluate"].promote or reports["evaluate"].champion)


def _on_night(context: Context, model: str) -> TuneReport:
    return tune(context.workspace, context.cfg, model)


TUNE = Step(
    "tune",
    VERSION,
    _inputs,
    _tune,
    place=_place,
    tidy=lambda run: _checkpoints(run).clear(),
    on_night=OnNight(_on_night, "tune-model", model="champion", wanted=_is_wanted),
)
"""Teach a champion the pairs and measure it on the test pairs. Option: `champion`, the model to start from."""


def decide(workspace: Workspace, cfg: Config, name: str) -> dict[str, Any]:
    """Let a model serve the tasks that it is better at; a model that was asked once is not asked again."""
    tasks, history, version = workspace.models.tuned_tasks()
    own = _outputs(workspace, name)
    decisions: dict[str, Any] = {}
    for task in sorted(own["task"].unique()):
        if any(entry["task"] == task and entry["model"] == name for entry in history):
            decisions[task] = {"promote": tasks.get(task) == name, "reason": "decided before"}
            continue
        decisions[task] = _compared(own.filter(pl.col("task") == task), tasks.get(task, ""), workspace, cfg, task)
        if decisions[task]["promote"]:
            tasks[task] = name
        history.append({"task": task, "model": name, "reason": decisions[task]["reason"]})
    if any(decision["reason"] != "decided before" for decision in decisions.values()):
        workspace.models.tuned_pointer.write({"tasks": tasks, "history": history}, version)
    return decisions


def _compared(own: pl.DataFrame, served_by: str, workspace: Workspace, cfg: Config, task: str) -> dict[str, Any]:
    """Compare on the pairs that both have written, by a bootstrap of the difference in the measure that decides."""
    if not served_by:
        return {"promote": True, "reason": "nobody served it before"}
    other = _outputs(workspace, served_by).rename({"score": "before"})
    both = own.join(other.select("id", "task", "reversed", "before"), on=["id", "task", "reversed"])
    if not len(both):
        return {"promote": True, "reason": f"{served_by} was measured on other pairs"}
    difference = (both["score"] - both["before"]).to_list()
    low, high = interval(difference, cfg.evaluate.seed)
    mean = sum(difference) / len(difference)
    figures = f"{MAIN[task]} {mean:+.2f} against {served_by} ({low:+.2f} to {high:+.2f}, {len(difference)} pairs)"
    return {"promote": low > 0, "reason": ("better: " if low > 0 else "not better: ") + figures}


def _outputs(workspace: Workspace, name: str) -> pl.DataFrame:
    """Return what a tuned model made of its test pairs, with scores."""
    outputs = read_verified_table(workspace.store, tuned_manifest(workspace, name).file("outputs.parquet"))
    return pl.DataFrame(outputs)
