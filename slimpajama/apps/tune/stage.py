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

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

import polars as pl
import pyarrow as pa
import torch
from safetensors.torch import save

from slimpajama.apps.tune.examples import directions, encode_pairs, kind_of, rarity
from slimpajama.apps.tune.inference import Tuned, _manifest, entry_of, fresh_model, load_files, ways_of
from slimpajama.apps.tune.metrics import MAIN, interval, measure, score
from slimpajama.apps.tune.phrases import Dictionary, with_drafts_of_others
from slimpajama.apps.tune.rows import PairRows
from slimpajama.apps.tune.spans import sentence_ends
from slimpajama.core.config import Config
from slimpajama.core.errors import InputError, LockedError, ModelError
from slimpajama.core.progress import track
from slimpajama.core.split import unit_hashes
from slimpajama.corpus.pairs.rules import language
from slimpajama.corpus.pairs.stage import make_pairs, read_split
from slimpajama.model.architectures import make_optimiser
from slimpajama.model.architectures.chunk import ChunkModel
from slimpajama.model.device import device, with_precision
from slimpajama.model.loading import Loaded, load_model
from slimpajama.model.train.checkpoint import Checkpoints
from slimpajama.model.train.loop import train_model
from slimpajama.model.train.parallel import Team
from slimpajama.workspace import layout
from slimpajama.workspace.manifest import Manifest, json_bytes
from slimpajama.workspace.open import Workspace
from slimpajama.workspace.parquet import parquet_bytes, read_verified, read_verified_table
from slimpajama.workspace.step import Context, Part, Run, Step, run_step

# Raise it when the same inputs give other weights or figures.
VERSION = 5
# Texts of each task and language that the report shows.
SAMPLES = 2
OUTPUTS = pa.schema(
    [
        ("id", pa.string()),
        ("task", pa.string()),
        ("target_lang", pa.string()),
        ("reversed", pa.bool_()),  # from target to source
        ("output", pa.large_string()),
        ("score", pa.float64()),  # the measure that decides
    ]
)


@dataclass(frozen=True, slots=True)
class TuneReport:
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
    run = run_step(TUNE, Context(workspace, with_precision(cfg), night=""), champion=champion)
    name = _model_id(run)
    scores = json.loads(read_verified(workspace.store, run.result.file("scores.json")))
    return TuneReport(name, champion, run.once(_pairs)[0], run.skipped, scores, _decide(workspace, cfg, name))


def _pairs(run: Run) -> tuple[str, Manifest]:
    """Return the set of pairs.

    Raises:
        InputError: It has nothing to learn from, or nothing to measure by.
    """
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
    """Return the champion.

    Raises:
        ModelError: It is no chunk autoencoder.
    """
    champion: str = run.options["champion"]
    base = load_model(run.workspace, champion)
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


def _place(run: Run) -> tuple[str, str]:
    model = layout.tuned(_model_id(run))
    return model.work(), model.manifest


def _checkpoints(run: Run) -> Checkpoints:
    return Checkpoints(run.store, layout.tuned(_model_id(run)).checkpoints, run.cfg.train.keep_checkpoints)


def _tune(run: Run) -> None:
    set_name, pairs = run.once(_pairs)
    place, cfg = layout.tuned(_model_id(run)), run.cfg

    def rows(split: str) -> pl.DataFrame:
        return read_split(run.store, pairs, set_name, split)

    if not run.has("model"):
        base = run.once(_base)
        tuned, training = learn(cfg, base, rows("train"), _checkpoints(run))
        run.commit("model", _published(place, base, tuned, training))
    if not run.has("ways"):
        ways = choose_ways(load_files(run.store, run.part_files("model")), rows("validation"), cfg)
        run.commit("ways", Part({place.file("ways.json"): json_bytes(ways)}))
    tuned = load_files(run.store, [*run.part_files("model"), *run.part_files("ways")])
    outputs, tasks, samples = _measured(tuned, rows("test"), cfg)
    scores = {"tasks": tasks, "ways": tuned.ways, "samples": samples}
    files: dict[str, pa.Table | bytes] = {
        place.file("scores.json"): json_bytes(scores),
        place.file("outputs.parquet"): outputs,
    }
    run.commit("scores", Part(files))


def _tidy(run: Run) -> None:
    _checkpoints(run).clear()


TUNE = Step("tune", VERSION, _inputs, _tune, place=_place, tidy=_tidy)
"""Teach a champion the pairs and measure it on the test pairs. Option: `champion`, the model to start from."""


def learn(
    cfg: Config, base: Loaded, pairs: pl.DataFrame, checkpoints: Checkpoints | None = None
) -> tuple[Tuned, dict[str, Any]]:
    """Return what a champion has learnt of pairs and a record of it; `base` itself stays as it was."""
    assert isinstance(base.model, ChunkModel)
    row_tokens, tokenizer = base.model.row_tokens, base.tokenizer
    sizes = cfg.tune.source_tokens, min(cfg.tune.target_tokens, row_tokens)
    both = directions(pairs)
    with track("draft", total=len(both), unit="pairs") as bar:
        dictionary = Dictionary.learn(both, tokenizer.segmenter)
        examples = encode_pairs(with_drafts_of_others(both, tokenizer.segmenter), tokenizer, row_tokens, *sizes)
        bar.advance(len(both))
    model = fresh_model(base.config, tokenizer, tuple(sorted(set(examples.kinds))), cfg.tune.seed)
    model.adopt(base.model)
    model.rarity_V[:-1] = torch.from_numpy(rarity(examples.sources, tokenizer.vocab_size))
    model.ends_V[:-1] = torch.from_numpy(sentence_ends(tokenizer))
    model.to(device())
    settings = replace(
        cfg.train,
        tokens=cfg.tune.tokens,
        max_seconds=cfg.tune.max_seconds,
        batch_tokens=cfg.tune.batch_tokens,
        lr=cfg.tune.lr,
        seed=cfg.tune.seed,
        tensorboard="",
        mlflow="",
    )
    rows = PairRows(
        examples,
        model.kinds,
        row_tokens=row_tokens,
        batch_tokens=cfg.tune.batch_tokens,
        vocab_size=model.vocab_size,
        chunk_tokens=model.chunk_tokens,
        seed=cfg.tune.seed,
    )
    optimiser = make_optimiser(model, settings.lr, settings.precision)
    with Team(cfg.run.threads()) as team, track("tune", total=settings.tokens, unit="tokens") as bar:
        history = train_model(model, optimiser, rows, settings, team, cold=True, checkpoints=checkpoints, bar=bar)
    tokens = history.step * rows.batch_rows * rows.row_tokens
    record = {"steps": history.step, "tokens": tokens, "curve": history.curve, "pairs": len(examples)}
    return Tuned(model.eval(), tokenizer, dictionary, {}, *sizes), record


def _published(place: layout.Model, base: Loaded, tuned: Tuned, training: dict[str, Any]) -> Part:
    """Return the tuned model's files."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in tuned.model.state_dict().items()}
    sizes = {"source_tokens": tuned.source_tokens, "target_tokens": tuned.target_tokens}
    config = base.config | {"base": base.id, "kinds": list(tuned.model.kinds)} | sizes
    return Part(
        {
            place.file("model.safetensors"): save(weights, metadata={"format": "pt"}),
            place.file("config.json"): json_bytes(config),
            place.file("tokenizer.json"): base.tokenizer.json,
            place.file("dictionary.parquet"): parquet_bytes(tuned.dictionary.table()),
            place.file("training.json"): json_bytes(training),
        },
        {"steps": training["steps"], "tokens": training["tokens"]},
    )


def choose_tests(tests: pl.DataFrame, most: int) -> pl.DataFrame:
    """Return at most so many test pairs of each task and target language, both directions of them, by a hash."""
    rows = directions(tests)
    rows = rows.with_columns(order=pl.Series(unit_hashes(rows["id"].to_list(), "test-pairs", 0)))
    kinds = rows.sort("task", "target_lang", "order").group_by("task", "target_lang", maintain_order=True)
    return kinds.head(most)


def choose_ways(tuned: Tuned, validation: pl.DataFrame, cfg: Config) -> dict[str, str]:
    """Return the way that does best on validation pairs, by kind and language of the source or question."""
    chosen = choose_tests(validation, cfg.tune.max_test_pairs)
    asked = pl.col("question") != ""
    chosen = chosen.with_columns(lang=pl.when(asked).then(language("question")).otherwise(language("source")))
    tried, found = dict[str, dict[str, list[float]]](), dict[str, str]()
    with track("choose", total=len(chosen), unit="pairs") as bar:
        for row in chosen.iter_rows(named=True):
            key = f"{kind_of(row['task'], row['target_lang'])}/{row['lang']}"
            for way in ways_of(key.partition("/")[0]):
                tuned.ways = {key: way}
                output = tuned.apply(row["task"], row["source"], row["question"], row["target_lang"], cfg.apply)
                scores = score(row["task"], row["target_lang"], row["source"], output, row["targets"])
                tried.setdefault(key, {}).setdefault(way, []).append(scores[MAIN[row["task"]]])
            bar.advance()
    for key, ways in tried.items():
        # The first of equal ones.
        found[key] = max(ways, key=lambda way: sum(ways[way]))
    return found


def _measured(tuned: Tuned, tests: pl.DataFrame, cfg: Config) -> tuple[pa.Table, dict[str, Any], list[dict[str, str]]]:
    """Return what the model makes of test pairs, with scores; the measures by task and target language; samples."""
    chosen = choose_tests(tests, cfg.tune.max_test_pairs)
    outputs, samples, found = [], list[dict[str, str]](), dict[str, dict[str, list[dict[str, float]]]]()
    with track("measure", total=len(chosen), unit="pairs") as bar:
        for row in chosen.iter_rows(named=True):
            output = tuned.apply(row["task"], row["source"], row["question"], row["target_lang"], cfg.apply)
            scores = score(row["task"], row["target_lang"], row["source"], output, row["targets"])
            those = found.setdefault(row["task"], {}).setdefault(row["target_lang"], [])
            those.append(scores)
            if len(those) <= SAMPLES:
                kept = {name: row[name] for name in ("task", "target_lang", "source", "question")}
                samples.append(kept | {"reference": row["targets"][0], "output": output})
            columns = {name: row[name] for name in ("id", "task", "target_lang", "reversed")}
            outputs.append(columns | {"output": output, "score": scores[MAIN[row["task"]]]})
            bar.advance()
    measures = {
        task: {lang: measure(some, task) for lang, some in languages.items()} for task, languages in found.items()
    }
    return pa.Table.from_pylist(outputs, schema=OUTPUTS), measures, samples


def _decide(workspace: Workspace, cfg: Config, name: str) -> dict[str, Any]:
    """Let a model serve the tasks that it is better at; a model that was asked once is not asked again."""
    tasks, history, version = workspace.models.tuned_tasks()
    own = _outputs(workspace, name)
    decisions: dict[str, Any] = {}
    for task in sorted(own["task"].unique()):
        if any(entry["task"] == task and entry["model"] == name for entry in history):
            decisions[task] = {"promote": tasks.get(task) == name, "reason": "decided before"}
            continue
        decisions[task] = _gate(own.filter(pl.col("task") == task), tasks.get(task, ""), workspace, cfg, task)
        if decisions[task]["promote"]:
            tasks[task] = name
        history.append({"task": task, "model": name, "reason": decisions[task]["reason"]})
    pointer = json_bytes({"tasks": tasks, "history": history})
    is_new = any(decision["reason"] != "decided before" for decision in decisions.values())
    if is_new and not workspace.store.swap(layout.TUNED, pointer, version):
        raise LockedError("another run replaced it first", where=f"{workspace.uri}/{layout.TUNED}", hint="Run again.")
    return decisions


def _outputs(workspace: Workspace, name: str) -> pl.DataFrame:
    outputs = read_verified_table(workspace.store, entry_of(_manifest(workspace, name), "outputs.parquet"))
    return cast(pl.DataFrame, pl.from_arrow(outputs))


def _gate(own: pl.DataFrame, served_by: str, workspace: Workspace, cfg: Config, task: str) -> dict[str, Any]:
    """Compare on the pairs that both have written, by a bootstrap of the difference."""
    if not served_by:
        return {"promote": True, "reason": "nobody served it before"}
    other = _outputs(workspace, served_by).rename({"score": "before"})
    both = own.join(other.select("id", "task", "reversed", "before"), on=["id", "task", "reversed"])
    if not len(both):
        return {"promote": True, "reason": f"{served_by} was measured on other pairs"}
    difference = (both["score"] - both["before"]).to_list()
    low, high = interval(difference, cfg.evaluate.seed)
    mean = sum(difference) / len(difference)
    said = f"{MAIN[task]} {mean:+.2f} against {served_by} ({low:+.2f} to {high:+.2f}, {len(difference)} pairs)"
    return {"promote": low > 0, "reason": ("better: " if low > 0 else "not better: ") + said}
