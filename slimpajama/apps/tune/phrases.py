"""Drafts: a translation phrase by phrase, which a small model only has to put in order.

What words become is counted over the training pairs. IBM Model 1 in both directions says which words of a pair belong
together; phrases of up to four words that belong to one stretch of the other side are counted as pairs, and each takes
the translation it had most often. A model that has seen a phrase three times has not learnt it; the count has.

The table is part of the tuned model, and the draft stands behind the source that the model reads. Pairs that it learns
from are drafted by what the other half of the pairs says: a pair's own words would make its draft better than any in
use.

Sources: Brown et al. 1993, "The mathematics of statistical machine translation"; Liang et al. 2006, "Alignment by
agreement"; Koehn et al. 2003, "Statistical phrase-based translation". Candidates of a word are those with the highest
Dice coefficient, which bounds the work.
"""

# P = pairs, V = words of the source side, U = words of the target side, E = entries

import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy import sparse

from slimpajama.core.split import unit_hashes
from slimpajama.corpus.shards.columns import words_of
from slimpajama.text.kernels import compiled
from slimpajama.text.segment import Segmenter

# Translations of a word that are weighed.
CANDIDATES = 24
ROUNDS = 5
# Pairs in which both words must stand, and times that a phrase must have had a translation.
LEAST_TOGETHER = 2
# Pairs at once: bounds what their products take.
BLOCK = 20_000
# Words of a phrase, and of its translation.
MOST_WORDS, MOST_BECOME = 4, 6
# Between the words of a phrase.
JOINER = "\x1f"

Array = NDArray[Any]


@dataclass(frozen=True)
class Dictionary:
    """What phrases of other languages become in a language."""

    tables: Mapping[str, Mapping[str, str]]
    """By target language, translations by the words of a phrase in lower case, joined by JOINER."""

    @classmethod
    def learn(cls, rows: pl.DataFrame, segmenter: Segmenter) -> "Dictionary":
        """Return the dictionary of those of the pairs (columns of PAIRS) that are translations."""
        translations = rows.filter(pl.col("task") == "translation").with_columns(target=pl.col("targets").list.first())
        tables = {}
        for lang in translations["target_lang"].unique().sort():
            some = translations.filter(pl.col("target_lang") == lang)
            source, target = (some[name].to_arrow().cast(pa.large_string()) for name in ("source", "target"))
            tables[lang] = _table(_Side.of(source, segmenter), _Side.of(target, segmenter), lang)
        return cls(tables)

    @classmethod
    def load(cls, data: bytes) -> "Dictionary":
        """Return the dictionary of a file that holds its `table`."""
        tables: dict[str, dict[str, str]] = {}
        for lang, phrase, becomes in pl.read_parquet(io.BytesIO(data)).iter_rows():
            tables.setdefault(lang, {})[phrase] = becomes
        return cls(tables)

    def table(self) -> pa.Table:
        """Return its entries: `target_lang`, `phrase`, `becomes`."""
        rows = [(lang, *entry) for lang, table in self.tables.items() for entry in table.items()]
        columns = zip(*rows, strict=True) if rows else ((), (), ())
        names = "target_lang", "phrase", "becomes"
        return pa.table({name: pa.array(column, pa.string()) for name, column in zip(names, columns, strict=True)})

    @cached_property
    def _phrases(self) -> dict[str, "_Phrases"]:
        return {lang: _Phrases.of(table, lang) for lang, table in self.tables.items()}

    def drafts(self, texts: pa.LargeStringArray, lang: str, segmenter: Segmenter) -> pa.LargeStringArray:
        """Return texts phrase by phrase in a language, the longest phrases first; unknown words stay as they are."""
        words = words_of(pa.table({"text": texts, "lengths": segmenter.lengths(texts)}))
        different = words.values.dictionary.to_pylist()
        phrases = self._phrases.get(lang) or _Phrases.of({}, lang)
        ids = np.array([phrases.words.get(word.strip().lower(), -1) for word in different], np.int64)
        blank = np.array([not word.strip() for word in different], np.bool_)
        place = words.values.indices.to_numpy()
        units, offsets = _cover(ids[place], blank[place], words.offsets.to_numpy(), phrases.hashes)
        asis = [_spaced(word.strip(), lang) if word.strip() else "\n" * ("\n" in word) for word in different]
        known = units >= 0
        units[known] = phrases.entries[units[known]]
        units[~known] = len(phrases.becomes) + place[-1 - units[~known]]
        lists = pa.ListArray.from_arrays(
            pa.array(offsets, pa.int32()), pa.concat_arrays([phrases.becomes, pa.array(asis, pa.string())]).take(units)
        )
        drafts = pl.Series(pc.utf8_trim_whitespace(pc.binary_join(lists, "")).cast(pa.large_string()))
        return (drafts.str.slice(0, 1).str.to_uppercase() + drafts.str.slice(1)).to_arrow().cast(pa.large_string())


def with_drafts(rows: pl.DataFrame, dictionary: Dictionary, segmenter: Segmenter) -> pl.DataFrame:
    """Return pairs with a column `draft`, empty where nothing is translated."""
    drafts = pl.Series("draft", [""] * len(rows), pl.String)
    for lang in dictionary.tables:
        those = ((rows["task"] == "translation") & (rows["target_lang"] == lang)).arg_true()
        texts = rows["source"].gather(those).to_arrow().cast(pa.large_string())
        drafts = drafts.scatter(those, pl.Series(dictionary.drafts(texts, lang, segmenter)).cast(pl.String))
    return rows.with_columns(drafts)


def with_drafts_of_others(rows: pl.DataFrame, segmenter: Segmenter) -> pl.DataFrame:
    """Return pairs with a column `draft` that the other half of them says; a group is in one half."""
    half = pl.Series("half", unit_hashes(rows["group"].to_list(), "draft", 0)) < 0.5
    rows = rows.with_row_index("place").with_columns(half)
    halves = [
        with_drafts(own, Dictionary.learn(others, segmenter), segmenter)
        for own, others in ((rows.filter(half == one), rows.filter(half != one)) for one in (False, True))
    ]
    return pl.concat(halves).sort("place").drop("place", "half")


@dataclass(frozen=True)
class _Phrases:
    """A table ready for `_cover`."""

    words: Mapping[str, int]
    hashes: Array
    """Of the phrases' words, ascending (E,)."""
    entries: Array
    """Which entry each of them is (E,)."""
    becomes: pa.StringArray
    """With the spaces before them."""

    @classmethod
    def of(cls, table: Mapping[str, str], lang: str) -> "_Phrases":
        cut = [phrase.split(JOINER) for phrase in table]
        words = {word: n for n, word in enumerate(dict.fromkeys(word for phrase in cut for word in phrase))}
        hashes = np.array([_hash(np.array([words[word] for word in phrase], np.int64)) for phrase in cut], np.uint64)
        order = np.argsort(hashes, kind="stable")
        becomes = pa.array([_spaced(found, lang) for found in table.values()], pa.string())
        return cls(words, hashes[order], order, becomes)


@dataclass(frozen=True)
class _Side:
    """One side of pairs: the words of its texts as numbers, without white space."""

    ids: Array
    offsets: Array
    """Where each text's begin (P + 1,)."""
    written: list[str]
    """How each word is mostly written."""

    @classmethod
    def of(cls, texts: pa.LargeStringArray, segmenter: Segmenter) -> "_Side":
        words = words_of(pa.table({"text": texts, "lengths": segmenter.lengths(texts)}))
        different = [word.strip() for word in words.values.dictionary.to_pylist()]
        place = words.values.indices.to_numpy()
        forms = pl.DataFrame({"written": different, "n": np.bincount(place, minlength=len(different))})
        forms = forms.with_columns(folded=pl.col("written").str.to_lowercase()).filter(pl.col("folded") != "")
        forms = forms.group_by("folded", "written").agg(pl.col("n").sum())
        forms = forms.sort("folded", "n", "written", descending=[False, True, False])
        forms = forms.unique("folded", keep="first", maintain_order=True)
        number = dict(zip(forms["folded"], range(len(forms)), strict=True))
        ids = np.array([number.get(word.lower(), -1) for word in different], np.int64)[place]
        kept = np.concatenate([[0], np.cumsum(ids >= 0)])
        return cls(ids[ids >= 0], kept[words.offsets.to_numpy()], forms["written"].to_list())

    def incidence(self) -> sparse.csr_matrix:
        """Return which words each text has (P, V), as float32 ones."""
        shape = len(self.offsets) - 1, len(self.written)
        found = sparse.csr_matrix((np.ones(len(self.ids), np.float32), self.ids, self.offsets), shape)
        found.sum_duplicates()
        found.data[:] = 1
        return found


def _table(source: _Side, target: _Side, lang: str) -> dict[str, str]:
    """Return the translations of words, and of phrases that occurred more than once."""
    s_PV, t_PU = source.incidence(), target.incidence()
    both = sparse.csr_matrix(_model_1(s_PV, t_PU).multiply(_model_1(t_PU, s_PV).T))
    both.sort_indices()
    entries = both.tocoo()
    best = _best(entries.row, entries.col, entries.data, 1)
    table = {
        source.written[row].lower(): target.written[column]
        for row, column in zip(entries.row[best], entries.col[best], strict=True)
    }
    links = _align(
        source.ids, source.offsets, target.ids, target.offsets, both.indptr.astype(np.int64), both.indices, both.data
    )
    columns = _extract(source.ids, source.offsets, target.ids, target.offsets, links)
    found = pl.DataFrame(dict(zip(("phrase", "becomes", "s", "n_s", "t", "n_t"), columns, strict=True)))
    found = found.group_by("phrase", "becomes").agg(pl.len().alias("n"), pl.all().exclude("phrase", "becomes").first())
    found = found.filter(pl.col("n") >= LEAST_TOGETHER).sort("phrase", "n", "s", descending=[False, True, False])
    found = found.unique("phrase", keep="first", maintain_order=True).sort("s", "n_s")
    for s, n_s, t, n_t in found.select("s", "n_s", "t", "n_t").iter_rows():
        phrase = JOINER.join(source.written[word].lower() for word in source.ids[s : s + n_s])
        words = [_spaced(target.written[word], lang) for word in target.ids[t : t + n_t]]
        table[phrase] = "".join(words).strip()
    return table


def _spaced(text: str, lang: str) -> str:
    """Return a word or phrase with the space that its language puts before it."""
    spaced = lang != "zh" or text[0].isascii()
    return " " + text if spaced and text[0].isalnum() else text


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


def _best(row: Array, column: Array, value: Array, n: int) -> NDArray[np.int64]:
    """Return the indices of the n entries of each row with the highest values, row by row, best first."""
    order = np.lexsort((column, -value, row))
    place = np.arange(len(order)) - np.searchsorted(row[order], row[order])
    return order[place < n]


@compiled(allocates=True)
def _hash(ids: Any) -> Any:
    """Return a hash of words in a row."""
    found = np.uint64(len(ids))
    for word in ids:
        found = (found ^ np.uint64(word + 1)) * np.uint64(0x9E3779B97F4A7C15)
        found ^= found >> np.uint64(29)
    return found


@compiled(allocates=True)
def _align(s: Any, s_offsets: Any, t: Any, t_offsets: Any, row: Any, column: Any, value: Any) -> Any:
    """Return the place of the target word that each source word belongs to, or -1: each is the other's likeliest.

    Of equally likely ones the nearest by its share of the text is taken: a word may stand there twice.
    """
    links = np.full(len(s), -1, np.int64)
    for p in range(len(s_offsets) - 1):
        s0, n, t0, m = s_offsets[p], s_offsets[p + 1] - s_offsets[p], t_offsets[p], t_offsets[p + 1] - t_offsets[p]
        back, best_back = np.full(m, -1, np.int64), np.zeros(m)
        there = np.full(n, -1, np.int64)
        for i in range(n):
            word, best = s[s0 + i], 0.0
            low, high = row[word], row[word + 1]
            for j in range(m):
                k = low + np.searchsorted(column[low:high], t[t0 + j])
                if k < high and column[k] == t[t0 + j]:
                    score = value[k] * (1.0 - 0.1 * abs(i / n - j / m))
                    if score > best:
                        best, there[i] = score, j
                    if score > best_back[j]:
                        best_back[j], back[j] = score, i
        for i in range(n):
            if there[i] >= 0 and back[there[i]] == i:
                links[s0 + i] = t0 + there[i]
    return links


@compiled(allocates=True)
def _extract(s: Any, s_offsets: Any, t: Any, t_offsets: Any, links: Any) -> Any:
    """Return phrases and their translations: both hashes, and where each begins and how many words it has.

    A phrase begins and ends with words that belong to something, and nothing of its translation belongs elsewhere.
    """
    room = 0
    for p in range(len(s_offsets) - 1):
        room += (s_offsets[p + 1] - s_offsets[p]) * MOST_WORDS
    phrase, becomes = np.empty(room, np.uint64), np.empty(room, np.uint64)
    places, used = np.empty((4, room), np.int32), 0
    owner = np.full(len(t), -1, np.int64)
    for i in range(len(s)):
        if links[i] >= 0:
            owner[links[i]] = i
    for p in range(len(s_offsets) - 1):
        for first in range(s_offsets[p], s_offsets[p + 1]):
            if links[first] < 0:
                continue
            low, high = links[first], links[first]
            for last in range(first, min(first + MOST_WORDS, s_offsets[p + 1])):
                if links[last] < 0:
                    continue
                low, high = min(low, links[last]), max(high, links[last])
                if high - low >= MOST_BECOME:
                    break
                whole = True
                for j in range(low, high + 1):
                    if owner[j] >= 0 and not first <= owner[j] <= last:
                        whole = False
                if whole:
                    phrase[used], becomes[used] = _hash(s[first : last + 1]), _hash(t[low : high + 1])
                    places[0, used], places[1, used] = first, last + 1 - first
                    places[2, used], places[3, used] = low, high + 1 - low
                    used += 1
    return phrase[:used], becomes[:used], places[0, :used], places[1, :used], places[2, :used], places[3, :used]


@compiled(allocates=True)
def _cover(ids: Any, blank: Any, offsets: Any, hashes: Any) -> Any:
    """Return the places in `hashes` of the phrases that texts consist of, -1 - place for words in none; and offsets."""
    units, ends = np.empty(len(ids), np.int64), np.zeros(len(offsets), np.int32)
    window, used = np.empty(MOST_WORDS, np.int64), 0
    for p in range(len(offsets) - 1):
        at = offsets[p]
        while at < offsets[p + 1]:
            unit, after, words, to = -1 - at, at + 1, 0, at
            while not blank[at] and words < MOST_WORDS and to < offsets[p + 1]:
                if not blank[to]:
                    if ids[to] < 0:
                        break
                    window[words] = ids[to]
                    words += 1
                    key = _hash(window[:words])
                    k = np.searchsorted(hashes, key)
                    if k < len(hashes) and hashes[k] == key:
                        unit, after = k, to + 1
                to += 1
            units[used] = unit
            used += 1
            at = after
        ends[p + 1] = used
    return units[:used], ends
