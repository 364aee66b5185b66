"""Text from a prompt: whole characters only, at once or as it is made."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch

from slimpajama.config import GenerateConfig
from slimpajama.generate.sampling import generate_tokens
from slimpajama.model import LanguageModel
from slimpajama.tokenizer import Tokenizer

__all__ = ["generate_texts", "stream_text"]


def stream_text(
    model: LanguageModel[Any], tokenizer: Tokenizer, prompt: str, cfg: GenerateConfig
) -> Iterator[str]:  # fmt: skip
    """Yield the continuation of `prompt` in pieces of whole characters; ends with the document.

    A token may end inside a character: its bytes wait for the next one. Bytes that can be part of no character, and
    an unfinished one at the end, are left out.

    In text, a space belongs to the token of the word behind it. A space that ends the prompt would stand alone, as it
    seldom did in training; so it is taken off, and the first token must be one that begins with it.
    """
    decoder = codecs.getincrementaldecoder("utf-8")(errors="ignore")
    stem = prompt.removesuffix(" ") or prompt
    owed = prompt[len(stem) :].encode()
    first_V = torch.tensor([piece.startswith(owed) for piece in tokenizer.pieces]) if owed else None
    ids = [tokenizer.document_id, *tokenizer.encode(stem)]
    for token in generate_tokens(model, ids, cfg, tokenizer.document_id, first_V):
        data = tokenizer.decode_bytes([token]).removeprefix(owed)
        owed = b""
        if piece := decoder.decode(data):
            yield piece


def generate_texts(
    model: LanguageModel[Any], tokenizer: Tokenizer, prompt: str, cfg: GenerateConfig, n: int = 1
) -> list[str]:
    """Return `n` continuations of `prompt`, without the prompt; number i is drawn with the seed `cfg.seed + i`."""
    return ["".join(stream_text(model, tokenizer, prompt, replace(cfg, seed=cfg.seed + i))) for i in range(n)]
