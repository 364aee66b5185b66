"""Text from a prompt: whole characters only, at once or as it is made, up to a stop string."""

import codecs
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from slimpajama.core.config import GenerateConfig
from slimpajama.core.errors import InputError
from slimpajama.model.architectures import LanguageModel
from slimpajama.model.generate.sampling import Spend, generate_tokens, without_bound
from slimpajama.model.memory.copies import CopyGuard
from slimpajama.model.memory.model import RememberingModel
from slimpajama.text.tokenizer import MAX_PIECE_BYTES, Tokenizer


@dataclass(slots=True)
class Tally:
    """What a text took, and why it ended; complete when the text is."""

    prompt_tokens: int = 0
    """Of the prompt's end that was read, and one that stands before every document."""
    tokens: int = 0
    """New ones, those of a stop string included."""
    finish_reason: Literal["length", "stop"] = "length"
    """`stop` at a stop string or the end of the document, `length` at `max_tokens`."""


def stop_place(text: str, stop: Sequence[str]) -> int | None:
    """Return where the stop string begins that is the first to be complete in `text`, the longest of several.

    So the answer does not depend on the pieces in which the text arrived.
    """
    found = [(text.index(word) + len(word), text.index(word)) for word in stop if word in text]
    return min(found)[1] if found else None


def held_back(text: str, stop: Sequence[str]) -> int:
    """Return how many characters at the end of `text` may be the beginning of a stop string."""
    sizes = (
        size for word in stop for size in range(1, min(len(word) - 1, len(text)) + 1) if text.endswith(word[:size])
    )
    return max(sizes, default=0)


def stream_text(
    model: LanguageModel,
    tokenizer: Tokenizer,
    prompt: str,
    cfg: GenerateConfig,
    tally: Tally | None = None,
    spend: Spend = without_bound,
) -> Iterator[str]:
    """Return the continuation of `prompt` in pieces of whole characters, up to its end or a stop string.

    A token may end inside a character: its bytes wait for the next one. Bytes that can be part of no character, and
    an unfinished one at the end, are left out. What may become a stop string waits until it is decided.

    In text, a space belongs to the token of the word behind it. A space that ends the prompt would stand alone, as it
    seldom did in training; so it is taken off, and the first token must be one that begins with it.

    Args:
        model: Reads the end of the prompt, as much as its row holds.
        prompt: Any text; an empty one is the beginning of a document.
        tally: Filled in on the way.

    Raises:
        InputError: If the prompt holds half of a surrogate pair, as Python makes of invalid UTF-8.
    """
    tally = tally or Tally()
    stem = prompt.removesuffix(" ") or prompt
    owed = prompt[len(stem) :].encode()
    # Of a megabyte, cutting the rest into words would be for nothing.
    end = stem[-model.row_tokens * MAX_PIECE_BYTES :]
    try:
        end.encode()
    except UnicodeEncodeError as error:
        raise InputError("the prompt is not valid Unicode", found=repr(end[error.start])) from None
    ids = [tokenizer.document_id, *tokenizer.encode(end)]
    tally.prompt_tokens = len(ids)
    first_V = torch.tensor([piece.startswith(owed) for piece in tokenizer.pieces]) if owed else None
    allows = None
    if cfg.max_copied_words and isinstance(model, RememberingModel):
        allows = CopyGuard(model.memory.corpus, tokenizer, cfg.max_copied_words).allows
    tokens = generate_tokens(model, ids, cfg, tokenizer.document_id, first_V, spend, allows)
    return _pieces((tokenizer.decode_bytes([token]) for token in tokens), owed, cfg, tally)


def _pieces(tokens: Iterator[bytes], owed: bytes, cfg: GenerateConfig, tally: Tally) -> Iterator[str]:
    """Yield the text of tokens, without the bytes that the prompt has already; see `stream_text`."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="ignore")
    waiting = ""
    for data in tokens:
        tally.tokens += 1
        waiting += decoder.decode(data.removeprefix(owed))
        owed = b""
        place = stop_place(waiting, cfg.stop)
        ready = len(waiting) - held_back(waiting, cfg.stop) if place is None else place
        if ready:
            yield waiting[:ready]
        if place is not None:
            tally.finish_reason = "stop"
            return
        waiting = waiting[ready:]
    if tally.tokens < cfg.max_tokens:
        tally.finish_reason = "stop"
    if waiting:
        yield waiting


def generate_texts(
    model: LanguageModel, tokenizer: Tokenizer, prompt: str, cfg: GenerateConfig, n: int = 1
) -> list[str]:
    """Return `n` continuations of `prompt`, without the prompt; number i is drawn with the seed `cfg.seed + i`."""
    return ["".join(stream_text(model, tokenizer, prompt, cfg.nth(i))) for i in range(n)]
