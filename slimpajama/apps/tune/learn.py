"""What a champion learns of pairs, and the files of the tuned model."""

from dataclasses import replace
from typing import Any

import polars as pl
import pyarrow as pa
import torch

from slimpajama.apps.tune.examples import directions, encode_pairs, rarity
from slimpajama.apps.tune.inference import Tuned
from slimpajama.apps.tune.loading import fresh_model
from slimpajama.apps.tune.phrases import Dictionary, with_drafts_of_others
from slimpajama.apps.tune.rows import PairRows
from slimpajama.apps.tune.spans import sentence_ends
from slimpajama.core.config import Config
from slimpajama.core.progress import track
from slimpajama.model.architectures import Optimiser
from slimpajama.model.architectures.chunk import ChunkModel
from slimpajama.model.device import device
from slimpajama.model.loading import Loaded, weights_bytes
from slimpajama.model.train.checkpoint import Checkpoints
from slimpajama.model.train.loop import Training
from slimpajama.model.train.parallel import ThreadPool
from slimpajama.workspace import layout
from slimpajama.workspace.manifest import json_bytes
from slimpajama.workspace.parquet import parquet_bytes


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
    own = {name: getattr(cfg.tune, name) for name in ("tokens", "max_seconds", "batch_tokens", "lr", "seed")}
    settings = replace(cfg.train, tensorboard="", mlflow="", **own)
    rows = PairRows(
        examples,
        model.kinds,
        row_tokens=row_tokens,
        batch_tokens=cfg.tune.batch_tokens,
        vocab_size=model.vocab_size,
        chunk_tokens=model.chunk_tokens,
        seed=cfg.tune.seed,
    )
    optimiser = Optimiser(model, settings.lr, settings.precision)
    with ThreadPool(cfg.run.threads()) as pool, track("tune", total=settings.tokens, unit="tokens") as bar:
        training = Training(model, optimiser, rows, settings, pool, warmup=True, checkpoints=checkpoints, bar=bar)
        history = training.run()
    tokens = history.step * rows.batch_rows * rows.row_tokens
    record = {"steps": history.step, "tokens": tokens, "curve": history.curve, "pairs": len(examples)}
    return Tuned(model.eval(), tokenizer, dictionary, {}, *sizes), record


def model_files(
    place: layout.Model, base: Loaded, tuned: Tuned, training: dict[str, Any]
) -> dict[str, pa.Table | bytes]:
    """Return the files of what `learn` returned by their paths in the workspace."""
    sizes = {"source_tokens": tuned.source_tokens, "target_tokens": tuned.target_tokens}
    config = base.config | {"base": base.id, "kinds": list(tuned.model.kinds)} | sizes
    return {
        place.file("model.safetensors"): weights_bytes(tuned.model.state_dict()),
        place.file("config.json"): json_bytes(config),
        place.file("tokenizer.json"): base.tokenizer.json,
        place.file("dictionary.parquet"): parquet_bytes(tuned.dictionary.table()),
        place.file("training.json"): json_bytes(training),
    }
