"""What a model is computed on, and in which precision."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import replace

import torch

from slimpajama.core.config import Config

# oneDNN keeps the kernels that it has compiled for shapes, 1,024 of them. With 64 a tuning takes a fifth less memory
# (2.0 GB where it took 2.5) and is no slower, and a process of many nights grows less. Read at the first product.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")

# x86 and ARM: instructions that multiply bfloat16.
FAST_BF16 = ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16")


def device() -> torch.device:
    """Return the GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def device_of(model: torch.nn.Module) -> torch.device:
    """Return what a model's weights lie on."""
    return next(model.parameters()).device


def autocast(on: torch.device, precision: str) -> torch.autocast:
    """Return a context in which a model computes in a precision: `bf16` by autocast, or `fp32`."""
    return torch.autocast(on.type, dtype=torch.bfloat16, enabled=precision == "bf16")


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Let torch add in one order; and small steps, which several threads would mostly spend waiting, be fast."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def has_fast_bf16() -> bool:
    """Say whether the device multiplies bfloat16 by instructions of its own.

    Where it does not, torch converts number by number: on a Zen 3 core a product ran at 1.2 GFLOP/s, and at 61 in
    float32.
    """
    if device().type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in FAST_BF16)


def with_precision(cfg: Config) -> Config:
    """Return `cfg` with `train.precision` as this device shall compute: weights and figures depend on it."""
    if cfg.train.precision != "auto":
        return cfg
    return replace(cfg, train=replace(cfg.train, precision="bf16" if has_fast_bf16() else "fp32"))
