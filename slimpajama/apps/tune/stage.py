"""Tuning as a stage: a champion and the pairs in, `tuned/MODEL/` out.

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

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from slimpajama.apps.tune.choose import choose_strategies, measure_outputs
from slimpajama.apps.tune.gate import decide
from slimpajama.apps.tune.learn import learn, model_files
from slimpajama.apps.tune.loading import load_files
from slimpajama.apps.tune.metrics import MAIN
from slimpajama.core.config import Config, fingerprint
from slimpajama.core.errors import InputError, ModelError
from slimpajama.corpus.pairs.stage import make_pairs, read_split
from slimpajama.model.architectures.chunk import ChunkModel
from slimpajama.model.device import with_precision
from slimpajama.model.loading import load_model
from slimpajama.model.train.checkpoint import Checkpoints
from slimpajama.workspace import layout
from slimpajama.workspace.manifest import json_bytes, read_verified
from slimpajama.workspace.open import Workspace
from slimpajama.workspace.stage import Part, Stage

# Raise it when the same inputs give other weights or figures.
VERSION = 5


@dataclass(frozen=True, slots=True)
class TuneReport:
    """What a tuning came to."""

    model: str
    base: str
    pairs: str
    """Name of the set of pairs."""
    skipped: bool
    scores: dict[str, Any]
    """`tasks`: measures by task and target language; `ways`: strategies by kind and language; `samples`: some texts,
    each with `source`, `question`, `reference` and `output`."""
    decisions: dict[str, Any]
    """By task: `promote`, `reason`, and what was compared."""

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return asdict(self)

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

    Args:
        workspace: The workspace.
        cfg: `pairs` and what they depend on, `tune`, `apply` and `train` are used.
        champion: Model to start from.

    Raises:
        InputError: There is no pair to learn or to measure by.
        ModelError: The champion is no chunk autoencoder, or the tuning diverged.
    """
    cfg = with_precision(cfg)
    set_name, pairs = make_pairs(workspace.store, cfg)
    if missing := {"train", "test"} - set(pairs.counts["pairs"]):
        raise InputError(
            "too few pairs",
            where="pairs.sources",
            found=f"none for {' and '.join(sorted(missing))}",
            hint="Bring more, or raise pairs.test_share.",
        )
    base = load_model(workspace, champion)
    if not isinstance(base.model, ChunkModel):
        raise ModelError(
            "cannot be tuned", where=champion, expected="a chunk autoencoder", found=base.config["model"]["preset"]
        )
    about = {
        "version": VERSION,
        "base": champion,
        "base_digest": workspace.models.manifest(champion).digest,
        "pairs": pairs.digest,
        "tune": replace(cfg.tune, nightly=False),
        "apply": cfg.apply,
        "precision": cfg.train.precision,
        "torch": torch.__version__,
    }
    name = f"{champion}-{fingerprint('tune', about)[:8]}"
    folder = f"tuned/{name}"
    stage = Stage(workspace.store, "tune", work=f"{folder}/work", about=about, manifest=f"{folder}/manifest.json")
    skipped = stage.finished
    checkpoints = Checkpoints(workspace.store, f"{folder}/checkpoints", cfg.train.keep_checkpoints)
    if not skipped:
        if not stage.has("model"):
            rows = read_split(workspace.store, pairs, set_name, "train")
            tuned, training = learn(cfg, base, rows, checkpoints)
            counts = {"steps": training["steps"], "tokens": training["tokens"]}
            stage.commit("model", Part(model_files(layout.tuned(name), base, tuned, training), counts))
        if not stage.has("ways"):
            tuned = load_files(workspace.store, stage.part_files("model"))
            strategies = choose_strategies(tuned, read_split(workspace.store, pairs, set_name, "validation"), cfg)
            stage.commit("ways", Part({f"{folder}/ways.json": json_bytes(strategies)}))
        tuned = load_files(workspace.store, [*stage.part_files("model"), *stage.part_files("ways")])
        tests = read_split(workspace.store, pairs, set_name, "test")
        outputs, tasks, samples = measure_outputs(tuned, tests, cfg)
        scores = {"tasks": tasks, "ways": tuned.strategies, "samples": samples}
        stage.commit(
            "scores", Part({f"{folder}/scores.json": json_bytes(scores), f"{folder}/outputs.parquet": outputs})
        )
        stage.finish()
    checkpoints.clear()
    scores = json.loads(read_verified(workspace.store, stage.result.file("scores.json")))
    decisions = decide(workspace, cfg, name)
    return TuneReport(name, champion, set_name, skipped, scores, decisions)
