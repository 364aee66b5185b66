"""Hugging Face's BART, trained on pairs of token ids and asked to write; run by the Python of its own environment.

    PEER/bin/python benchmarks/bart.py FOLDER

FOLDER holds `settings.json` and `ids.npz`; prints one JSON line: tokens written for each test, what was trained, and
the loss on validation pairs. The first token of a source says the kind of task. Nothing of slimpajama is imported here.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import BartConfig, BartForConditionalGeneration
from transformers.models.bart.modeling_bart import BartLearnedPositionalEmbedding

WIDTH, HEADS, LAYERS = 192, 3, 3
WARM_UP, CLIP_NORM = 0.05, 1.0


def bart(said: dict[str, Any], hidden: int) -> BartForConditionalGeneration:
    """Return a new model: the ids of slimpajama's tokenizer, one that fills, and one a kind of task."""
    filler = said["vocabulary"]
    model = BartForConditionalGeneration(
        BartConfig(
            vocab_size=filler + 1 + said["kinds"],
            max_position_embeddings=said["source_tokens"] + 1,
            d_model=WIDTH,
            encoder_layers=LAYERS,
            decoder_layers=LAYERS,
            encoder_attention_heads=HEADS,
            decoder_attention_heads=HEADS,
            encoder_ffn_dim=hidden,
            decoder_ffn_dim=hidden,
            dropout=0.0,
            bos_token_id=said["end"],
            eos_token_id=said["end"],
            pad_token_id=filler,
            decoder_start_token_id=said["end"],
            forced_eos_token_id=None,
        )
    )
    # one setting sizes both tables of positions; what the decoder never reaches would count as parameters
    model.model.decoder.embed_positions = BartLearnedPositionalEmbedding(said["target_tokens"] + 1, WIDTH)
    torch.nn.init.normal_(model.model.decoder.embed_positions.weight, std=model.config.init_std)
    return model


def fitted(said: dict[str, Any]) -> tuple[BartForConditionalGeneration, int]:
    """Return a model of as many parameters as ours, and the width of its feed-forward layers that makes it so."""
    with torch.device("meta"):
        few, more = (bart(said, hidden).num_parameters() for hidden in (WIDTH, 2 * WIDTH))
    hidden = WIDTH + round((said["parameters"] - few) * WIDTH / (more - few) / 8) * 8
    torch.manual_seed(said["seed"])
    return bart(said, hidden), hidden


class Ids:
    """The arrays of `ids.npz`, as the model reads them."""

    def __init__(self, path: Path, said: dict[str, Any]) -> None:
        self.arrays, self.filler = dict(np.load(path)), said["vocabulary"]

    def source(self, name: str) -> dict[str, Tensor]:
        """Return sources, each behind the token of its kind, without columns that nobody fills."""
        rows, kinds = self.arrays[f"{name}-source"].astype(np.int64), self.arrays[f"{name}-kind"].astype(np.int64)
        rows = np.concatenate((self.filler + 1 + kinds[:, None], rows), axis=1)
        rows = rows[:, (rows != self.filler).any(axis=0)]
        ids = torch.from_numpy(rows)
        return {"input_ids": ids, "attention_mask": (ids != self.filler).long()}

    def labels(self, name: str) -> Tensor:
        """Return targets, -100 behind their ends."""
        rows = torch.from_numpy(self.arrays[f"{name}-target"].astype(np.int64))
        return rows.masked_fill(rows == self.filler, -100)

    def names(self, split: str) -> Iterator[str]:
        """Yield the names of a split's batches, in order."""
        for number in itertools.count():
            if f"{split}{number}-source" not in self.arrays:
                return
            yield f"{split}{number}"


def train(model: BartForConditionalGeneration, ids: Ids, said: dict[str, Any]) -> dict[str, int]:
    """Train for as many processor seconds as are given: AdamW, linear rise, linear fall to zero."""
    optimiser = torch.optim.AdamW(model.parameters(), said["lr"], betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    steps = tokens = 0
    model.train()
    began = time.process_time()
    for name in itertools.cycle(ids.names("train")):
        share = (time.process_time() - began) / said["seconds"]
        if share >= 1:
            break
        for group in optimiser.param_groups:
            group["lr"] = said["lr"] * min(max(share, 1e-3) / WARM_UP, (1 - share) / (1 - WARM_UP))
        source, labels = ids.source(name), ids.labels(name)
        with torch.autocast("cpu", torch.bfloat16, enabled=said["bf16"]):
            loss = model(**source, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
        optimiser.step()
        optimiser.zero_grad()
        steps, tokens = steps + 1, tokens + source["input_ids"].numel() + labels.numel()
    return {"steps": steps, "tokens": tokens}


@torch.inference_mode()
def validation(model: BartForConditionalGeneration, ids: Ids) -> dict[str, float]:
    """Return the loss on validation pairs in nats a token, and that of the training targets' frequencies alone."""
    counts = np.ones(model.config.vocab_size)
    for name in ids.names("train"):
        targets = ids.arrays[f"{name}-target"]
        counts += np.bincount(targets[targets != ids.filler], minlength=len(counts))
    surprise = torch.from_numpy(-np.log(counts / counts.sum()))
    own = frequencies = n = 0.0
    for name in ids.names("validation"):
        labels = ids.labels(name)
        there = labels[labels >= 0]
        own += float(model(**ids.source(name), labels=labels).loss) * len(there)
        frequencies += float(surprise[there].sum())
        n += len(there)
    return {"validation": own / n, "frequencies": frequencies / n}


@torch.inference_mode()
def write(model: BartForConditionalGeneration, ids: Ids, said: dict[str, Any]) -> list[list[int]]:
    """Return the tokens written for each test, by its own beam search."""
    written: list[list[int]] = []
    never = [said["vocabulary"] + number for number in range(said["kinds"] + 1)]
    for name in ids.names("test"):
        found = model.generate(
            **ids.source(name),
            num_beams=4,
            no_repeat_ngram_size=3,
            min_new_tokens=1,
            max_new_tokens=said["target_tokens"],
            suppress_tokens=never,
        )
        written += [[token for token in row if token != said["end"] and token not in never] for row in found.tolist()]
    return written


def main(folder: str) -> None:
    """Train, write and print."""
    torch.set_num_threads(1)
    said = json.loads(Path(folder, "settings.json").read_text(encoding="utf-8"))
    ids = Ids(Path(folder, "ids.npz"), said)
    model, hidden = fitted(said)
    found: dict[str, Any] = train(model, ids, said)
    model.eval()
    found |= validation(model, ids)
    began = time.process_time()
    found["outputs"] = write(model, ids, said)
    shape = {"width": WIDTH, "layers": LAYERS, "heads": HEADS, "hidden": hidden}
    print(json.dumps(found | {"parameters": model.num_parameters(), "write_s": time.process_time() - began} | shape))


if __name__ == "__main__":
    main(*sys.argv[1:])
