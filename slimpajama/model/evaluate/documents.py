"""Which held-out documents a model is measured on: the same ones for champion and challenger.

Every published night's `test` split takes part. Per language the documents are taken in the order of a hash of their
id until the budget in MB is used, and of a long one only its beginning counts, up to a twentieth of the budget: the
gate compares document by document, so many of them say more than a long one. What is cut is cut between words, not
tokens, so models with different tokenizers are given the same text.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slimpajama.core.config import EvaluateConfig
from slimpajama.workspace import layout
from slimpajama.workspace.manifest import Manifest
from slimpajama.workspace.parquet import read_table
from slimpajama.workspace.store import Store

DOCUMENT_SHARE = 20


@dataclass(frozen=True, slots=True)
class Document:
    """A held-out document, or the beginning of one."""

    id: str
    lang: str
    source: str
    night: str
    words: list[str]
    """Joined they are the text."""

    @property
    def n_bytes(self) -> int:
        """UTF-8 bytes of the text."""
        return sum(len(word.encode()) for word in self.words)


def held_out_documents(store: Store, nights: dict[str, Manifest], cfg: EvaluateConfig) -> list[Document]:
    """Return the documents to score, in order of language and hash."""
    budget = int(cfg.max_mb_per_language * 1e6)
    files = [
        (night, entry, read_table(store, entry, ["lang", "id", "n_bytes", "source"]))
        for night, manifest in nights.items()
        for entry in manifest.entries(layout.night(night).split("test"))
    ]
    index: list[tuple[str, str, int]] = []
    for _, _, table in files:
        index += zip(*(table[name].to_pylist() for name in ("lang", "id", "n_bytes")), strict=True)
    rank = {chosen: number for number, chosen in enumerate(choose(index, budget))}
    found: list[tuple[int, Document]] = []
    for night, entry, table in files:
        keys = zip(table["lang"].to_pylist(), table["id"].to_pylist(), strict=True)
        wanted = [number for number, key in enumerate(keys) if key in rank]
        if wanted:
            texts = read_table(store, entry, ["words"])["words"].take(wanted).to_pylist()
            for row, text in zip(table.take(wanted).to_pylist(), texts, strict=True):
                words = cut_words(text, budget // DOCUMENT_SHARE)
                document = Document(row["id"], row["lang"], row["source"], night, words)
                found.append((rank[row["lang"], row["id"]], document))
    return [document for _, document in sorted(found, key=lambda item: item[0])]


def byte_floor(store: Store, nights: dict[str, Manifest], documents: Sequence[Document]) -> NDArray[np.float64]:
    """Return the nats of documents by how often each byte is in the nights' training text and once more; shape (D,)."""
    counts = np.ones(256, np.int64)
    for night, manifest in nights.items():
        for entry in manifest.entries(layout.night(night).split("train")):
            for words in read_table(store, entry, ["words"])["words"].chunks:
                counts += _byte_counts("".join(words.flatten().to_pylist()))
    nats = np.log(counts.sum()) - np.log(counts)
    return np.array([_byte_counts("".join(document.words)) @ nats for document in documents], np.float64)


def _byte_counts(text: str) -> NDArray[np.int64]:
    return np.bincount(np.frombuffer(text.encode(), np.uint8), minlength=256)


def choose(index: Sequence[tuple[str, str, int]], budget: int) -> list[tuple[str, str]]:
    """Return (language, id) of the documents to score, by language and hash of the id.

    Args:
        index: Language, id and UTF-8 bytes of every held-out document, in any order.
        budget: Bytes a language; the last document taken may exceed it.
    """
    used: dict[str, int] = {}
    chosen = []
    for lang, id_, n_bytes in sorted(index, key=lambda row: (row[0], _hash(row[1]), row[1])):
        if used.get(lang, 0) < budget:
            used[lang] = used.get(lang, 0) + min(n_bytes, budget // DOCUMENT_SHARE)
            chosen.append((lang, id_))
    return chosen


def cut_words(words: list[str], max_bytes: int) -> list[str]:
    """Return the first words of at most `max_bytes` together, and at least one."""
    used = 0
    for number, word in enumerate(words):
        used += len(word.encode())
        if used > max_bytes:
            return words[: max(1, number)]
    return words


def _hash(id_: str) -> bytes:
    return hashlib.blake2b(id_.encode(), digest_size=16, person=b"evaluate").digest()
