"""Tuning as a stage: a champion and the pairs in, `tuned/MODEL/` out.

    tuned/MODEL/checkpoints/    while it trains, removed afterwards
    tuned/MODEL/model.safetensors, config.json, tokenizer.json, training.json, scores.json, outputs.parquet
    tuned/MODEL/manifest.json   written last
    tuned/current.json          task -> the model that serves it, replaced by compare-and-swap

MODEL is the champion's name and eight hex digits of everything else that the tuning depends on. Each task has a gate
of its own: a new model serves it if the measure that decides is better on the test pairs, by a paired bootstrap, or
if nobody served it before.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

import polars as pl
import pyarrow as pa
import torch
from pydantic import TypeAdapter
from safetensors.torch import load, save

from slimpajama.config import Config, ModelConfig, TextConfig, fingerprint
from slimpajama.device import device, with_precision
from slimpajama.errors import InputError, LockedError, ModelError
from slimpajama.evaluate.documents import held_out_documents
from slimpajama.evaluate.score import bits_per_byte, score_ids
from slimpajama.manifest import FileEntry, Part, Stage, json_bytes, read_verified
from slimpajama.model import build, make_optimiser
from slimpajama.model.chunk import ChunkModel
from slimpajama.model.pair import PairModel
from slimpajama.night import load_night
from slimpajama.pairs.stage import make_pairs, read_split
from slimpajama.progress import track
from slimpajama.registry import TUNED, Loaded, load_model, model_manifest, tuned_manifest, tuned_tasks
from slimpajama.shards.split import unit_hashes
from slimpajama.storage import Store, read_table
from slimpajama.tokenizer import SEPARATOR, Tokenizer
from slimpajama.train.checkpoint import Checkpoints
from slimpajama.train.data import TrainingData, gather
from slimpajama.train.loop import train_model
from slimpajama.train.parallel import Team
from slimpajama.tune.apply import Tuned
from slimpajama.tune.examples import Examples, directions, encode_pairs
from slimpajama.tune.metrics import MAIN, interval, measure, score
from slimpajama.tune.rows import PairRows

__all__ = ["TuneReport", "load_tuned", "tune"]

VERSION = 2  # raise it when the same inputs give other weights or figures
SAMPLES = 2  # texts of each task and language that the report shows
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
    """`tasks`: measures by task and target language; `bits_per_byte`: by language, `before` and `after`; `samples`:
    some texts, each with `source`, `question`, `reference` and `output`."""
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
        for lang, bits in self.scores["bits_per_byte"].items():
            change = bits["after"] / bits["before"] - 1
            lines.append(f"  {'bits per byte':20} {lang:3} {bits['before']:.3f} -> {bits['after']:.3f} ({change:+.1%})")
        lines += [f"  {task}: {decision['reason']}" for task, decision in self.decisions.items()]
        return "\n".join(lines)


def tune(store: Store, cfg: Config, nights: Sequence[str], champion: str) -> TuneReport:
    """Teach a champion the pairs, measure it on the test pairs, and let it serve the tasks that it is better at.

    Args:
        store: The workspace.
        cfg: `pairs` and what they depend on, `tune`, `apply`, `evaluate` and `train` are used.
        nights: Published nights, oldest first: their text goes on being learnt.
        champion: Model to start from.

    Raises:
        InputError: There is no pair to learn or to measure by, or no published night.
        ModelError: The champion is no chunk autoencoder, or the tuning diverged.
    """
    cfg = with_precision(cfg)
    set_name, pairs = make_pairs(store, cfg)
    if missing := {"train", "test"} - set(pairs.counts["pairs"]):
        raise InputError(
            "too few pairs", where="pairs.sources", found=f"none for {' and '.join(sorted(missing))}",
            hint="Bring more, or raise pairs.test_share.",
        )  # fmt: skip
    base = load_model(store, champion)
    if not isinstance(base.model, ChunkModel):
        raise ModelError(
            "cannot be tuned", where=champion, expected="a chunk autoencoder", found=base.config["model"]["preset"]
        )
    data = gather(store, nights, nights[-1])
    about = {
        "version": VERSION,
        "base": champion,
        "base_digest": model_manifest(store, champion).digest,
        "pairs": pairs.digest,
        "tune": replace(cfg.tune, nightly=False),
        "apply": cfg.apply,
        "evaluate": cfg.evaluate,
        "nights": {night: manifest.digest for night, manifest in data.nights.items()},
        "precision": cfg.train.precision,
        "torch": torch.__version__,
    }
    name = f"{champion}-{fingerprint('tune', about)[:8]}"
    folder = f"tuned/{name}"
    stage = Stage(store, "tune", work=f"{folder}/work", about=about, manifest=f"{folder}/manifest.json")
    skipped = stage.finished
    checkpoints = Checkpoints(store, f"{folder}/checkpoints", cfg.train.keep_checkpoints)
    if not skipped:
        if not stage.has("model"):
            rows = read_split(store, pairs, set_name, "train")
            sizes = base.model.row_tokens, cfg.tune.source_tokens, min(cfg.tune.target_tokens, base.model.row_tokens)
            model, training = _train(cfg, base, encode_pairs(rows, base.tokenizer, *sizes), data, checkpoints)
            stage.commit("model", _published(folder, base, model, training, cfg))
        tuned = _loaded(store, stage.part_files("model"))
        before, after = _bits(store, cfg, (base.model, tuned.model.base), base.tokenizer, nights)
        tests = read_split(store, pairs, set_name, "test")
        outputs, tasks, samples = _measured(tuned, tests, cfg)
        bits = {lang: {"before": before[lang], "after": after[lang]} for lang in before}
        scores = {"tasks": tasks, "bits_per_byte": bits, "samples": samples}
        stage.commit(
            "scores", Part({f"{folder}/scores.json": json_bytes(scores), f"{folder}/outputs.parquet": outputs})
        )
        stage.finish()
    checkpoints.clear()
    scores = json.loads(store.read(f"{folder}/scores.json"))
    decisions = _decide(store, cfg, name)
    return TuneReport(name, champion, set_name, skipped, scores, decisions)


def _train(
    cfg: Config, base: Loaded, examples: Examples, data: TrainingData, checkpoints: Checkpoints
) -> tuple[PairModel, dict[str, Any]]:  # fmt: skip
    """Return the tuned model and what is recorded of the tuning; `base` itself stays as it was."""
    model = _fresh(base.config, base.tokenizer, tuple(sorted(set(examples.kinds))), cfg.tune.seed)
    model.base.load_state_dict(base.model.state_dict())
    model.to(device())
    settings = replace(
        cfg.train, tokens=cfg.tune.tokens, max_seconds=cfg.tune.max_seconds, batch_tokens=cfg.tune.batch_tokens,
        lr=cfg.tune.lr, seed=cfg.tune.seed, tensorboard="", mlflow="",
    )  # fmt: skip
    rows = PairRows(
        examples, model.kinds, data.rows(settings, model.row_tokens, base.tokenizer.document_id),
        text_share=cfg.tune.text_share, batch_tokens=cfg.tune.batch_tokens, vocab_size=model.vocab_size,
        chunk_tokens=model.chunk_tokens, seed=cfg.tune.seed,
    )  # fmt: skip
    with Team(cfg.run.threads()) as team, track("tune", total=settings.tokens, unit="tokens") as bar:
        history = train_model(
            model, make_optimiser(model, settings.lr, settings.precision), rows, settings, team, cold=True,
            checkpoints=checkpoints, bar=bar,
        )  # fmt: skip
    tokens = history.step * rows.batch_rows * rows.row_tokens
    return model, {"steps": history.step, "tokens": tokens, "curve": history.curve, "pairs": len(examples)}


def _fresh(config: dict[str, Any], tokenizer: Tokenizer, kinds: tuple[str, ...], seed: int) -> PairModel:
    base = build(TypeAdapter(ModelConfig).validate_python(config["model"]), tokenizer.vocab_size, seed)
    assert isinstance(base, ChunkModel)
    return PairModel(base, kinds, torch.Generator().manual_seed(seed))


def _published(folder: str, base: Loaded, model: PairModel, training: dict[str, Any], cfg: Config) -> Part:
    """Return the tuned model's files."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    sizes = {"source_tokens": cfg.tune.source_tokens, "target_tokens": cfg.tune.target_tokens}
    config = base.config | {"base": base.id, "kinds": list(model.kinds)} | sizes
    return Part(
        {
            f"{folder}/model.safetensors": save(weights, metadata={"format": "pt"}),
            f"{folder}/config.json": json_bytes(config),
            f"{folder}/tokenizer.json": base.tokenizer.json,
            f"{folder}/training.json": json_bytes(training),
        },
        {"steps": training["steps"], "tokens": training["tokens"]},
    )


def load_tuned(store: Store, model_id: str) -> Tuned:
    """Return a published tuned model.

    Raises:
        ModelError: If there is none of this name, or its weights do not fit.
        StorageError: If a file is not what the manifest says.
    """
    manifest = tuned_manifest(store, model_id)
    if manifest is None:
        raise ModelError(
            "no such tuned model", where=f"{store.uri}/tuned", found=model_id, hint="`slimpajama tune` makes one."
        )
    return _loaded(store, manifest.files)


def _loaded(store: Store, files: Iterable[FileEntry]) -> Tuned:
    entries = {entry.path.rsplit("/", 1)[1]: entry for entry in files}
    config = json.loads(read_verified(store, entries["config.json"]))
    text = TypeAdapter(TextConfig).validate_python(config["text"])
    tokenizer = Tokenizer.load(read_verified(store, entries["tokenizer.json"]), text)
    model = _fresh(config, tokenizer, tuple(config["kinds"]), 0)
    try:
        model.load_state_dict(load(read_verified(store, entries["model.safetensors"])))
    except RuntimeError as error:
        raise ModelError(
            "the weights do not fit the architecture", where=entries["model.safetensors"].path,
            found=str(error).splitlines()[-1].strip(), hint="Another version of slimpajama made it: tune again.",
        ) from error  # fmt: skip
    return Tuned(model.to(device()).eval(), tokenizer, config["source_tokens"], config["target_tokens"])


def _bits(
    store: Store, cfg: Config, models: Sequence[ChunkModel], tokenizer: Tokenizer, nights: Sequence[str]
) -> list[dict[str, float]]:
    """Return each model's bits per byte of the held-out documents by language."""
    documents = held_out_documents(store, {night: load_night(store, night) for night in nights}, cfg.evaluate)
    ids = tokenizer.encode_joined([SEPARATOR.join(document.words) for document in documents])
    found = []
    for model in models:
        nats: dict[str, list[tuple[float, int]]] = {}
        nll = score_ids(model, ids, tokenizer.document_id, cfg.train.precision)
        for document, value in zip(documents, nll.tolist(), strict=True):
            nats.setdefault(document.lang, []).append((value, document.n_bytes))
        sums = {lang: [sum(column) for column in zip(*some, strict=True)] for lang, some in nats.items()}
        found.append({lang: bits_per_byte(*both) for lang, both in sums.items()})
    return found


def _measured(
    tuned: Tuned, tests: pl.DataFrame, cfg: Config
) -> tuple[pa.Table, dict[str, Any], list[dict[str, str]]]:  # fmt: skip
    """Return what the model makes of test pairs, with scores; the measures by task and target language; samples."""
    rows = directions(tests)
    rows = rows.with_columns(order=pl.Series(unit_hashes(rows["id"].to_list(), "test-pairs", 0)))
    kinds = rows.sort("task", "target_lang", "order").group_by("task", "target_lang", maintain_order=True)
    chosen = kinds.head(cfg.tune.max_test_pairs)
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


def _decide(store: Store, cfg: Config, name: str) -> dict[str, Any]:
    """Let a model serve the tasks that it is better at; a model that was asked once is not asked again."""
    tasks, history, version = tuned_tasks(store)
    own = _outputs(store, name)
    decisions: dict[str, Any] = {}
    for task in sorted(own["task"].unique()):
        if any(entry["task"] == task and entry["model"] == name for entry in history):
            decisions[task] = {"promote": tasks.get(task) == name, "reason": "decided before"}
            continue
        decisions[task] = _gate(own.filter(pl.col("task") == task), tasks.get(task, ""), store, cfg, task)
        if decisions[task]["promote"]:
            tasks[task] = name
        history.append({"task": task, "model": name, "reason": decisions[task]["reason"]})
    pointer = json_bytes({"tasks": tasks, "history": history})
    is_new = any(decision["reason"] != "decided before" for decision in decisions.values())
    if is_new and not store.swap(TUNED, pointer, version):
        raise LockedError("another run replaced it first", where=f"{store.uri}/{TUNED}", hint="Run again.")
    return decisions


def _outputs(store: Store, name: str) -> pl.DataFrame:
    return cast(pl.DataFrame, pl.from_arrow(read_table(store, f"tuned/{name}/outputs.parquet")))


def _gate(own: pl.DataFrame, served_by: str, store: Store, cfg: Config, task: str) -> dict[str, Any]:
    """Compare on the pairs that both have written, by a bootstrap of the difference."""
    if not served_by:
        return {"promote": True, "reason": "nobody served it before"}
    other = _outputs(store, served_by).rename({"score": "before"})
    both = own.join(other.select("id", "task", "reversed", "before"), on=["id", "task", "reversed"])
    if not len(both):
        return {"promote": True, "reason": f"{served_by} was measured on other pairs"}
    difference = (both["score"] - both["before"]).to_list()
    low, high = interval(difference, cfg.evaluate.seed)
    mean = sum(difference) / len(difference)
    said = f"{MAIN[task]} {mean:+.2f} against {served_by} ({low:+.2f} to {high:+.2f}, {len(difference)} pairs)"
    return {"promote": low > 0, "reason": ("better: " if low > 0 else "not better: ") + said}
