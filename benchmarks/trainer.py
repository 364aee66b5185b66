"""Hugging Face's Trainer on rows of token ids; run by the Python of its own environment, like `peers.py`.

    PEER/bin/python benchmarks/trainer.py gpt2 bf16-compile ROWS.npy VOCABULARY STEPS OUT

Prints one JSON line: the processor seconds of every step, and of all before the second one began. The models are of
the size of `small`, without dropout: one epoch needs none, and it costs time. Nothing of slimpajama is imported here.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    GPT2Config,
    GPT2LMHeadModel,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

WIDTH, HEADS, ROW_TOKENS = 192, 3, 256
# Twice Trainer's default: it adds up two batches of 8, so that a step is as many tokens as ours.
ROWS_A_STEP = 16
VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "bf16-compile": {"bf16": True, "torch_compile": True},
    "fp32-compile": {"torch_compile": True},
}


def gpt2(vocabulary: int) -> GPT2LMHeadModel:
    """Decoder only: a row is continued."""
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=vocabulary,
            n_positions=ROW_TOKENS,
            n_embd=WIDTH,
            n_layer=7,
            n_head=HEADS,
            bos_token_id=0,
            eos_token_id=0,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
        )
    )


def bart(vocabulary: int) -> BartForConditionalGeneration:
    """Encoder and decoder: a row is read, and written again."""
    return BartForConditionalGeneration(
        BartConfig(
            vocab_size=vocabulary,
            max_position_embeddings=ROW_TOKENS,
            d_model=WIDTH,
            encoder_layers=3,
            decoder_layers=3,
            encoder_attention_heads=HEADS,
            decoder_attention_heads=HEADS,
            encoder_ffn_dim=4 * WIDTH,
            decoder_ffn_dim=4 * WIDTH,
            dropout=0.0,
            bos_token_id=0,
            eos_token_id=0,
            pad_token_id=1,
            decoder_start_token_id=0,
            forced_eos_token_id=0,
        )
    )


class Rows(Dataset[dict[str, torch.Tensor]]):
    """Rows of ids that are their own labels."""

    def __init__(self, path: str) -> None:
        self.ids = torch.from_numpy(np.load(path).astype(np.int64))

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, number: int) -> dict[str, torch.Tensor]:
        return {"input_ids": self.ids[number], "labels": self.ids[number]}


class Clock(TrainerCallback):
    """Reads the processor's clock at the end of every step."""

    def __init__(self) -> None:
        self.read: list[float] = []

    def on_step_end(self, *args: Any, **named: Any) -> None:
        """Note the time."""
        self.read.append(time.process_time())


def main(kind: str, variant: str, rows: str, vocabulary: str, steps: str, out: str) -> None:
    """Train and print."""
    torch.set_num_threads(1)
    model = {"gpt2": gpt2, "bart": bart}[kind](int(vocabulary))
    given = TrainingArguments(
        output_dir=out,
        use_cpu=True,
        max_steps=int(steps),
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        gradient_accumulation_steps=2,
        **VARIANTS[variant],
    )
    if given.per_device_train_batch_size * given.gradient_accumulation_steps != ROWS_A_STEP:
        raise SystemExit(f"Trainer's default is another batch: {given.per_device_train_batch_size}")
    clock = Clock()
    trainer = Trainer(model=model, args=given, train_dataset=Rows(rows), callbacks=[clock])
    began = time.process_time()
    trainer.train()
    compilers = resource.getrusage(resource.RUSAGE_CHILDREN)
    taken = {
        "seconds": np.diff(clock.read).tolist(),
        "first_s": clock.read[0] - began + compilers.ru_utime + compilers.ru_stime,
        "parameters": model.num_parameters(),
    }
    print(json.dumps(taken))


if __name__ == "__main__":
    main(*sys.argv[1:])
