"""What a training takes at least, so that one which cannot fit is refused before it takes anything."""

import os

import torch

from slimpajama.core.config import Config
from slimpajama.core.errors import ConfigError
from slimpajama.core.memory import usable_memory
from slimpajama.model.architectures import build
from slimpajama.model.device import device
from slimpajama.model.train.parallel import PART_TOKENS

# Weights, momentum and a step's new weights, beside a gradient for each thread.
COPIES = 3
# Numbers that a block keeps of each token and channel for its gradient: norms, queries, keys, values, the MLP's.
KEPT = 20
# For each core or GPU: more would only wait for each other.
PROCESSES = 4
# Of a process that has loaded torch.
PROCESS_BYTES = 300_000_000


def require_memory(cfg: Config, vocab_size: int) -> None:
    """Refuse a training that memory cannot hold, or for whose processes there are far too few cores and GPUs.

    On a GPU only what the processor's memory holds first is counted: its own memory has an error of its own.

    Raises:
        ConfigError: The model's sizes do not fit one another, or take more memory than there is.
    """
    with torch.device("meta"):
        model = build(cfg.model, vocab_size, 0)
    weights, sizes = sum(p.numel() for p in model.parameters()), model.sizes
    parts = max(1, cfg.train.batch_tokens // max(PART_TOKENS, sizes.row_tokens))
    threads = min(parts, max(1, cfg.run.threads() // cfg.train.processes))
    blocks = sizes.token_blocks + sizes.backbone_blocks / sizes.chunk_tokens
    numbers = weights * (COPIES + threads) + threads * KEPT * blocks * sizes.row_tokens * sizes.width
    most = PROCESSES * max(os.cpu_count() or 1, torch.cuda.device_count())
    if cfg.train.processes > most:
        raise ConfigError(
            "more processes than this machine has use for",
            where="train.processes",
            expected=f"at most {most}, {PROCESSES} for a core or GPU",
            found=str(cfg.train.processes),
        )
    least = cfg.train.processes * (4 * (numbers if device().type == "cpu" else weights) + PROCESS_BYTES)
    if least > (usable := usable_memory()):
        raise ConfigError(
            "a training takes more memory than there is",
            where="model, train.processes",
            expected=f"at most {usable / 1e9:.1f} GB",
            found=f"{least / 1e9:,.1f} GB or more",
            hint="Lower model.width, model.latent_width, model.row_tokens, train.processes or run.workers.",
        )
