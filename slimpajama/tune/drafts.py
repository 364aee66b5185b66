"""Drafts: a translation word by word, which a small model only has to put in order.

What a word becomes is counted over the training pairs: IBM Model 1 in both directions, whose product keeps frequent
words from standing for everything. A model that has seen a word three times has not learnt it; the count has. The
table is part of the tuned model, and the draft stands behind the source that the model reads.

Source: Brown et al. 1993, "The mathematics of statistical machine translation"; the product of both directions is that
of Liang et al. 2006, "Alignment by agreement". Candidates are those with the highest Dice coefficient, which bounds the
work.
"""

# P = pairs, V = words of the source side, U = words of the target side

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy import sparse

from slimpajama.shards.columns import words_of
from slimpajama.text.segment import Segmenter

__all__ = ["Dictionary"]

CANDIDATES = 24  # translations of a word that are weighed
ROUNDS = 5
LEAST_TOGETHER = 2  # pairs in which both words must stand
BLOCK = 20_000  # pairs at once: bounds what their products take


@dataclass(frozen=True)
class Dictionary:
    """What words of other languages become in a language.

    Args:
        tables: By target language, its translations of words in lower case.
    """

    tables: Mapping[str, Mapping[str, str]]

    @classmethod
    def learn(cls, pairs: pl.DataFrame, segmenter: Segmenter) -> Dictionary:
        """Return the dictionary of pairs: columns `source`, `target`, `target_lang`."""
        tables = {}
        for (lang,), some in pairs.sort("target_lang").group_by("target_lang", maintain_order=True):
            sides = (_words(some[name].to_arrow().cast(pa.large_string()), segmenter) for name in ("source", "target"))
            tables[str(lang)] = _table(*sides)
        return cls(tables)

    @classmethod
    def load(cls, data: bytes) -> Dictionary:
        """Return the dictionary of a file that holds its `table`."""
        tables: dict[str, dict[str, str]] = {}
        for lang, word, becomes in pl.read_parquet(io.BytesIO(data)).iter_rows():
            tables.setdefault(lang, {})[word] = becomes
        return cls(tables)

    def table(self) -> pa.Table:
        """Return its entries: `target_lang`, `word`, `becomes`."""
        rows = [(lang, *entry) for lang, table in self.tables.items() for entry in table.items()]
        columns = zip(*rows, strict=True) if rows else ((), (), ())
        names = "target_lang", "word", "becomes"
        return pa.table({name: pa.array(column, pa.string()) for name, column in zip(names, columns, strict=True)})

    def drafts(self, texts: pa.LargeStringArray, lang: str, segmenter: Segmenter) -> pa.LargeStringArray:
        """Return texts word by word in a language; words that are not known stay as they are."""
        words = words_of(pa.table({"text": texts, "lengths": segmenter.lengths(texts)}))
        table = self.tables.get(lang, {})
        becomes = pa.array([_spaced(table, word, lang) for word in words.values.dictionary.to_pylist()], pa.string())
        lists = pa.ListArray.from_arrays(words.offsets, becomes.take(words.values.indices))
        return pc.utf8_trim_whitespace(pc.binary_join(lists, "")).cast(pa.large_string())


def _spaced(table: Mapping[str, str], word: str, lang: str) -> str:
    """Return what a word becomes, with the space that its language puts before it."""
    key = word.strip().lower()
    if not key:
        return "\n" if "\n" in word else ""
    found = table.get(key, key)
    found = word.strip() if found.lower() == key else found
    spaced = lang != "zh" or found[0].isascii()
    return " " + found if spaced and found[0].isalnum() else found


def _words(texts: pa.LargeStringArray, segmenter: Segmenter) -> tuple[pa.ListArray, list[str]]:
    words = words_of(pa.table({"text": texts, "lengths": segmenter.lengths(texts)}))
    return words, words.values.dictionary.to_pylist()


def _table(source: tuple[pa.ListArray, list[str]], target: tuple[pa.ListArray, list[str]]) -> dict[str, str]:
    """Return the likeliest translation of each word of the source side in lower case."""
    (s_PV, keys), (t_PU, names) = (_incidence(*side) for side in (source, target))
    there, back = _model_1(s_PV, t_PU), _model_1(t_PU, s_PV)
    both = sparse.csr_matrix(there.multiply(back.T)).tocoo()
    best = _best(both.row, both.col, both.data, 1)
    return {keys[row].lower(): names[column] for row, column in zip(both.row[best], both.col[best], strict=True)}


def _incidence(words: pa.ListArray, different: list[str]) -> tuple[sparse.csr_matrix, list[str]]:
    """Return which words in lower case each text has (P, V), as float32 ones, and how each is mostly written."""
    written = [word.strip() for word in different]
    folded = pl.Series(written).str.to_lowercase()
    counts = np.bincount(words.values.indices.to_numpy(), minlength=len(different))
    forms = pl.DataFrame({"folded": folded, "written": written, "count": counts}).filter(pl.col("folded") != "")
    forms = forms.group_by("folded", "written").agg(pl.col("count").sum())
    forms = forms.sort("folded", -pl.col("count"), "written").unique("folded", keep="first", maintain_order=True)
    number = dict(zip(forms["folded"], range(len(forms)), strict=True))
    column = np.array([number.get(word, -1) for word in folded], np.int64)[words.values.indices.to_numpy()]
    row = np.repeat(np.arange(len(words)), np.diff(words.offsets.to_numpy()))
    kept = column >= 0
    found = sparse.csr_matrix(
        (np.ones(int(kept.sum()), np.float32), (row[kept], column[kept])), (len(words), len(forms))
    )
    found.data[:] = 1
    return found, forms["written"].to_list()


def _model_1(s_PV: sparse.csr_matrix, t_PU: sparse.csr_matrix) -> sparse.csr_matrix:
    """Return p(target word | source word) (V, U)."""
    blocks = [slice(at, at + BLOCK) for at in range(0, s_PV.shape[0], BLOCK)]
    together = sparse.csr_matrix((s_PV.shape[1], t_PU.shape[1]), dtype=np.float32)
    for block in blocks:
        together = together + s_PV[block].T @ t_PU[block]
    counts = together.tocoo()
    seen = counts.data >= LEAST_TOGETHER
    row, column, both = counts.row[seen], counts.col[seen], counts.data[seen]
    n_s, n_t = (np.asarray(side.sum(axis=0)).ravel() for side in (s_PV, t_PU))
    best = _best(row, column, 2 * both / (n_s[row] + n_t[column]), CANDIDATES)
    chance = sparse.csr_matrix((np.ones(len(best), np.float32), (row[best], column[best])), together.shape)
    for _ in range(ROUNDS):
        expected = sparse.csr_matrix(chance.shape, dtype=np.float32)
        for block in blocks:
            explained = sparse.csr_matrix((s_PV[block] @ chance).multiply(t_PU[block]))
            explained.data = 1 / explained.data
            expected = expected + (s_PV[block].T @ explained).multiply(chance)
        total = np.asarray(expected.sum(axis=1)).ravel()
        chance = sparse.csr_matrix(sparse.diags(1 / np.where(total > 0, total, 1)) @ expected)
    return chance


def _best(row: NDArray[Any], column: NDArray[Any], value: NDArray[Any], n: int) -> NDArray[np.int64]:
    """Return the indices of the n entries of each row with the highest values, row by row, best first."""
    order = np.lexsort((column, -value, row))
    place = np.arange(len(order)) - np.searchsorted(row[order], row[order])
    return order[place < n]
