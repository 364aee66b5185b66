"""Byte-level BPE inside jieba's words: standard `tokenizer.json`, exact for every byte of any text.

Words are joined by U+001F, the unit separator, at which the pre-tokenizer cuts and which it removes; so no
piece ever crosses a word. Cleaning takes U+001F out of documents; in other text it is encoded as its byte.
"""

import itertools
import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from slimpajama.core.config import TextConfig, TokenizerConfig
from slimpajama.core.errors import ModelError
from slimpajama.text.kernels import compiled, find_slot
from slimpajama.text.lattice import WORD_BYTES
from slimpajama.text.segment import Segmenter

SEPARATOR = "\x1f"
MAX_PIECE_BYTES = 32
MOST_PIECES = 1 << 16  # ids are uint16
_NO_MERGE = 1 << 60
# How Python writes a byte that is not UTF-8.
_NO_TEXT = re.compile(f"([{SEPARATOR}\udc80-\udcff]+)")
# Stands before every document: what a text that has no past is conditioned on.
DOCUMENT = "<|document|>"


def _byte_of_char() -> dict[str, int]:
    """Return the byte that each character of the byte-level alphabet stands for (GPT-2's table)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table = {chr(byte): byte for byte in printable}
    others = (byte for byte in range(256) if byte not in printable)
    return table | {chr(256 + offset): byte for offset, byte in enumerate(others)}


def _check(vocabulary: dict[str, int], merges: list[list[str]]) -> None:
    """Raise a ValueError or LookupError where the kernels' tables could not be made of a vocabulary."""
    if len(vocabulary) > MOST_PIECES or {*map(type, vocabulary.values())} != {int}:
        raise ValueError(f"{len(vocabulary)} pieces; at most {MOST_PIECES}, by integers")
    if sorted(vocabulary.values()) != [*range(len(vocabulary))]:
        raise ValueError("ids are not 0, 1, 2 and so on")
    alphabet = _byte_of_char().keys()
    if missing := alphabet - vocabulary.keys() or set().union(*vocabulary.keys() - {DOCUMENT}) - alphabet:
        raise ValueError(f"not by bytes, as {min(missing)!r} shows")
    for left, right in merges:
        _ = vocabulary[left], vocabulary[right], vocabulary[left + right]
    if len({(left, right) for left, right in merges}) < len(merges) or any(a + b == DOCUMENT for a, b in merges):
        raise ValueError("a merge stands twice, or makes text a document's token")


def _pre_tokenizer() -> pre_tokenizers.PreTokenizer:
    """Return what cuts texts at `SEPARATOR`, and words into pieces in the alphabet of bytes."""
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return pre_tokenizers.Sequence([pre_tokenizers.Split(SEPARATOR, "removed"), byte_level])


def train_tokenizer(joined: Iterable[str], cfg: TokenizerConfig) -> bytes:
    """Learn the vocabulary from texts whose words are joined by `SEPARATOR`, and return `tokenizer.json`.

    Source: Sennrich et al. 2016, "Neural machine translation of rare words with subword units"; on bytes as
    in Radford et al. 2019.
    """
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=cfg.vocab_size,
        min_frequency=2,
        show_progress=False,
        special_tokens=[DOCUMENT],
        # A set: sorted, or ids differ from run to run.
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        # A rule of dashes is not worth a piece.
        max_token_length=MAX_PIECE_BYTES,
    )
    # Cutting a word and writing it in the alphabet of bytes costs more than learning: once each, not at every place.
    counts = Counter(word for text in joined for word in text.split(SEPARATOR))
    pieces = ((" ".join(piece for piece, _ in byte_level.pre_tokenize_str(word)), n) for word, n in counts.items())
    # The alphabet has no white space.
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.train_from_iterator((" ".join([piece] * n) for piece, n in pieces), trainer)
    tokenizer.pre_tokenizer = _pre_tokenizer()
    return (tokenizer.to_str(pretty=False) + "\n").encode()


class Tokenizer:
    """Text to ids and back, by the vocabulary and the merges of a `tokenizer.json`.

    Example:
        >>> tokenizer = Tokenizer.load(Path("tokenizer.json").read_bytes())
        >>> tokenizer.decode(tokenizer.encode("今天 the weather 很好。"))
        '今天 the weather 很好。'
    """

    def __init__(self, data: bytes, segmenter: Segmenter) -> None:
        self.json, self.segmenter = data, segmenter
        try:
            model = json.loads(data)["model"]
            self._vocabulary: dict[str, int] = model["vocab"]
            self._merges: list[list[str]] = model["merges"]
            _check(self._vocabulary, self._merges)
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
            raise ModelError(
                f"not a tokenizer.json of slimpajama's kind: {error!r}", hint="Take the one that the model came with."
            ) from error

    @classmethod
    def load(cls, data: bytes, text: TextConfig | None = None) -> "Tokenizer":
        """Return the tokenizer of a `tokenizer.json`; `text` says how words are cut before it."""
        return cls(data, Segmenter(text or TextConfig()))

    @cached_property
    def _inner(self) -> tokenizers.Tokenizer:
        """The library's tokenizer; shards do without it, and a small night notices the time it takes to make.

        Of vocabulary and merges alone: what else a file could ask for (to lower, to cut off, to fill up, to leave
        merges to chance) would lose bytes. Without special tokens, so text that spells one stays text. Without the
        cache of words, which outlives it (tokenizers 0.23: 11 MB a tokenizer) and saves a small part of the time.
        """
        merges = [(left, right) for left, right in self._merges]
        inner = tokenizers.Tokenizer(models.BPE(self._vocabulary, merges, cache_capacity=0))
        inner.pre_tokenizer = _pre_tokenizer()
        return inner

    @property
    def vocab_size(self) -> int:
        """Pieces, bytes and special tokens included."""
        return len(self._vocabulary)

    @cached_property
    def document_id(self) -> int:
        """Id of the token that stands before every document."""
        found = self._vocabulary.get(DOCUMENT)
        if found is None:
            raise ModelError("the tokenizer lacks its document token", expected=DOCUMENT)
        return found

    @cached_property
    def pieces(self) -> tuple[bytes, ...]:
        """Bytes that each id stands for; none for special tokens."""
        table = _byte_of_char()
        pieces = [b""] * self.vocab_size
        for piece, index in self._vocabulary.items():
            if piece != DOCUMENT:
                pieces[index] = bytes(table[char] for char in piece)
        return tuple(pieces)

    @cached_property
    def token_bytes(self) -> np.ndarray:
        """int64 array of shape (vocab_size,): bytes that each id stands for."""
        return np.array([len(piece) for piece in self.pieces], dtype=np.int64)

    @cached_property
    def begins_character(self) -> np.ndarray:
        """bool array of shape (vocab_size,): whether an id's bytes begin a character, and do not go on in one."""
        return np.array([piece[:1] < b"\x80" or piece[:1] >= b"\xc0" for piece in self.pieces], dtype=np.bool_)

    @cached_property
    def _kernel_tables(self) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
        """Return each byte's id, and the merges as a hash table: of each slot the pair of ids, its rank and product."""
        vocabulary, merges = self._vocabulary, self._merges
        bytes_ = np.zeros(256, np.uint16)
        for char, byte in _byte_of_char().items():
            bytes_[byte] = vocabulary[char]
        pairs = [((vocabulary[left] << 16) | vocabulary[right]) + 1 for left, right in merges]
        products = [vocabulary[left + right] for left, right in merges]
        slots = 1 << (2 * len(merges)).bit_length()
        keys, values = np.zeros(slots, np.uint64), np.zeros(slots, np.int64)
        _fill(np.array(pairs, np.uint64), np.array(products, np.int64), keys, values)
        return bytes_, keys, values

    def encode(self, text: str) -> list[int]:
        """Return the ids of any text; every byte of it is in them."""
        return self.encode_bytes(text.encode("utf-8", "surrogatepass"))

    def encode_bytes(self, data: bytes) -> list[int]:
        """Return the ids of any bytes; what is not UTF-8, and U+001F, is encoded byte by byte."""
        # Text, other bytes, text, ..., text.
        parts = _NO_TEXT.split(data.decode("utf-8", "surrogateescape"))
        ids = self.encode_joined([SEPARATOR.join(self.segmenter.cut(part)) for part in parts[::2]])
        for i, part in enumerate(parts[1::2]):
            ids[i] += self._kernel_tables[0][np.frombuffer(part.encode("utf-8", "surrogateescape"), np.uint8)].tolist()
        return list(itertools.chain.from_iterable(ids))

    def encode_each(self, words: pa.StringArray) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.int64]]:
        """Return the ids of words, each encoded by itself; about thirty times as fast as the library.

        Args:
            words: As a `Segmenter` cuts them: none longer than WORD_BYTES.

        Returns:
            uint16 [tokens], the ids of all words end to end; int64 [words + 1], where each word's begin.

        Raises:
            ValueError: A word is longer.
        """
        longest = pc.max(pc.binary_length(words)).as_py() or 0
        # The kernel's time grows with the square of the length.
        if longest > WORD_BYTES:
            raise ValueError(f"words must have at most {WORD_BYTES} bytes, found {longest}")
        begins = np.zeros(len(words) + 1, np.int64)
        if not len(words):
            return np.zeros(0, np.uint16), begins
        _, offsets, data = words.buffers()
        slots = np.frombuffer(offsets, np.int32, count=len(words) + 1, offset=4 * words.offset)
        ids = np.empty(int(slots[-1] - slots[0]), np.uint16)
        used = _encode_words(slots, np.frombuffer(data or b"", np.uint8), *self._kernel_tables, ids, begins)
        return ids[:used], begins

    def encode_joined(self, joined: Sequence[str]) -> list[list[int]]:
        """Return the ids of texts whose words are already joined by `SEPARATOR`; releases the GIL."""
        return [e.ids for e in self._inner.encode_batch_fast(list(joined), add_special_tokens=False)]

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """Return the exact bytes of `ids`; they may begin or end inside a character."""
        return b"".join(self.pieces[index] for index in ids)

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of `ids`, with U+FFFD where they cut a character."""
        return self.decode_bytes(ids).decode("utf-8", errors="replace")


@compiled
def _fill(pairs: Any, products: Any, keys: Any, merges: Any) -> None:
    for rank in range(len(pairs)):
        slot = find_slot(keys, pairs[rank])
        keys[slot] = pairs[rank]
        merges[slot] = (rank << 16) | products[rank]


@compiled(inline=True)
def _merge_of(left: Any, right: Any, keys: Any, merges: Any) -> Any:
    """Return rank and product of a pair of ids; more than any where they do not merge."""
    slot = find_slot(keys, np.uint64((left << 16) | right) + np.uint64(1))
    return merges[slot] if keys[slot] else _NO_MERGE


@compiled(allocates=True)
def _encode_words(offsets: Any, data: Any, bytes_: Any, keys: Any, merges: Any, ids: Any, begins: Any) -> int:
    """Merge, in each word, the pair of the lowest rank, the leftmost first, until none is left."""
    symbols, ranks = np.empty(WORD_BYTES + 1, np.int64), np.empty(WORD_BYTES + 1, np.int64)
    used = 0
    for w in range(len(begins) - 1):
        n = offsets[w + 1] - offsets[w]
        for i in range(n):
            symbols[i] = bytes_[data[offsets[w] + i]]
        for i in range(n - 1):
            ranks[i] = _merge_of(symbols[i], symbols[i + 1], keys, merges)
        while n > 1:
            best = 0
            for i in range(1, n - 1):
                if ranks[i] < ranks[best]:
                    best = i
            if ranks[best] == _NO_MERGE:
                break
            symbols[best] = ranks[best] & 0xFFFF
            n -= 1
            for i in range(best + 1, n):
                symbols[i] = symbols[i + 1]
                ranks[i - 1] = ranks[i]
            for i in range(max(best - 1, 0), min(best + 1, n - 1)):
                ranks[i] = _merge_of(symbols[i], symbols[i + 1], keys, merges)
        for i in range(n):
            ids[used + i] = symbols[i]
        used += n
        begins[w + 1] = used
    return used
