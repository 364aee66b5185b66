"""What summarises, translates and answers without a training of its own: what a model has to beat.

| task | baseline | is |
|---|---|---|
| summarization | `lead` | the first sentences of the source |
| | `textrank` | the sentences that share most words with the others, in their order |
| translation | `copy` | the source as it is |
| | `dictionary` | each word's likeliest translation, learnt from the training pairs |
| question answering | `bm25` | the sentence of the passage that the question's words fit best |

Lead and TextRank take one sentence, and as many of one to three as score best on validation pairs.
"""

# N = sentences, V = words, E = ways to translate a word of a pair, U = different ones

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cache, partial
from operator import itemgetter

import numpy as np
import polars as pl
from numpy.typing import NDArray

from slimpajama.apps.tune.examples import directions
from slimpajama.apps.tune.metrics import MAIN, score, units
from slimpajama.apps.tune.spans import sentences
from slimpajama.core.config import TextConfig
from slimpajama.text.segment import Segmenter

DESCRIPTIONS = {
    "lead-1": "the source's first sentence",
    "lead": "its first one to three, as many as score best on validation pairs",
    "textrank-1": "the sentence that TextRank puts first (networkx's PageRank; words by jieba)",
    "textrank": "the one to three that it puts first, in their order",
    "copy": "the source as it is",
    "dictionary": "each word's likeliest translation by IBM Model 1 over the training pairs; an unknown word as it is",
    "bm25": "the passage's sentence that BM25 (bm25s) puts first for the question",
}
MOST_SENTENCES = 3
# Of either side of a pair that the dictionary learns from: both sides' product is its memory.
MOST_WORDS = 60
# Of IBM Model 1, as its toolkits take by default.
ROUNDS = 5
VALIDATION = 200  # pairs a language
_END = re.compile(r"[。！？；.!?][”’」』）)\"'`*]*$")


def prose(text: str) -> list[str]:
    """Return the sentences of a text whose lines may be wrapped; headings and tables only where there is no other."""
    paragraphs = (" ".join(part.split()) for part in re.split(r"\n\s*\n", text))
    found = [one.strip() for part in paragraphs for one in sentences(part) if units(one)]
    return [one for one in found if _END.search(one)] or found


@cache
def _segmenter() -> Segmenter:
    return Segmenter(TextConfig())


def words(text: str) -> list[str]:
    """Return the words of a text, punctuation among them, without white space."""
    return [word for part in _segmenter().cut(text) if (word := part.strip())]


Extract = Callable[[str, Sequence[int]], list[str]]
"""Takes a text, and returns an extract of as many sentences as each of the numbers says."""


def lead(text: str, counts: Sequence[int]) -> list[str]:
    """Return the first sentences."""
    found = prose(text)
    return [" ".join(found[:most]) for most in counts]


def central(text: str, counts: Sequence[int]) -> list[str]:
    """Return TextRank's first sentences, in the order of the text."""
    found, order = prose(text), textrank(text)
    return [" ".join(found[place] for place in sorted(order[:most])) for most in counts]


def textrank(text: str) -> list[int]:
    """Return the places of `prose`'s sentences, the most central first.

    Source: Mihalcea & Tarau 2004, "TextRank: bringing order into texts"; sentences are alike by the words that they
    share, divided by the logarithms of their lengths.
    """
    import networkx as nx
    from scipy.sparse import csr_array

    cut = [[word for word in words(one.lower()) if units(word)] for one in prose(text)]
    if len(cut) < 2:
        return list(range(len(cut)))
    numbers = {word: number for number, word in enumerate(dict.fromkeys(word for one in cut for word in one))}
    rows = np.repeat(np.arange(len(cut)), [len(one) for one in cut])
    columns = [numbers[word] for one in cut for word in one]
    there_NV = csr_array((np.ones(len(columns)), (rows, columns)), (len(cut), max(1, len(numbers))))
    there_NV.data[:] = 1.0
    lengths_N = np.log([max(1, len(one)) for one in cut])
    common_NN = (there_NV @ there_NV.T).toarray()
    alike_NN = common_NN / np.maximum(lengths_N[:, None] + lengths_N[None], 1e-9)
    np.fill_diagonal(alike_NN, 0.0)
    # Two sentences of one word each.
    alike_NN[lengths_N[:, None] + lengths_N[None] == 0] = 0.0
    ranks = nx.pagerank(nx.from_numpy_array(alike_NN), weight="weight")
    return sorted(ranks, key=lambda place: (-ranks[place], place))


def best_sentence(passage: str, question: str) -> str:
    """Return the sentence that BM25 puts first, the earlier of equal ones."""
    import bm25s

    found = prose(passage)
    cut = [units(one) for one in found]
    asked = [word for word in units(question) if any(word in one for one in cut)]
    if not asked:
        return found[0] if found else ""
    index = bm25s.BM25()
    index.index(cut, show_progress=False)
    return found[int(np.argmax(index.get_scores(asked)))]


class Dictionary:
    """Each word's likeliest translation.

    Args:
        sources, targets: Pairs that it learns from.

    Source: Brown et al. 1993, "The mathematics of statistical machine translation", Model 1, with a null word.
    """

    def __init__(self, sources: Sequence[str], targets: Sequence[str]) -> None:
        sides = pl.DataFrame(
            {
                "source": [["", *words(one.lower())] for one in sources],
                "target": [words(one.lower()) for one in targets],
            }
        )
        short = (pl.col(name).list.len() <= MOST_WORDS for name in sides.columns)
        sides = sides.filter(*short).with_row_index("pair")
        read, written = (sides.select("pair", name).explode(name).drop_nulls() for name in ("source", "target"))
        (read_words, read), (written_words, written) = _numbered(read), _numbered(written)
        written = written.with_row_index("place")
        ways = read.join(written, on="pair", maintain_order="left_right")
        source_E, target_E, place_E = (ways[name].to_numpy() for name in ("source", "target", "place"))
        key_U, first_E, way_E = np.unique(
            source_E.astype(np.int64) * len(written_words) + target_E, return_index=True, return_inverse=True
        )
        source_U = source_E[first_E]
        chance_U: NDArray[np.float64] = np.ones(len(first_E))
        for _ in range(ROUNDS):
            share_E = chance_U[way_E]
            share_E /= np.bincount(place_E, share_E)[place_E]
            chance_U = np.bincount(way_E, share_E)
            chance_U /= np.bincount(source_U, chance_U)[source_U]
        # Of equal chances the first word in the order of words.
        order = np.lexsort((key_U, -chance_U, source_U))
        best_V = order[np.unique(source_U[order], return_index=True)[1]]
        heads, likeliest = read_words.gather(source_U[best_V]), written_words.gather(target_E[first_E[best_V]])
        self.best = dict(zip(heads, likeliest, strict=True))

    def translate(self, text: str, to: str) -> str:
        """Return a text word by word."""
        return ("" if to == "zh" else " ").join(self.best.get(word.lower(), word) for word in words(text))


def _numbered(side: pl.DataFrame) -> tuple[pl.Series, pl.DataFrame]:
    """Return the words of a side in order, and their numbers in the places of the words."""
    (name,) = set(side.columns) - {"pair"}
    found = side[name].unique().sort()
    return found, side.with_columns(pl.col(name).rank("dense") - 1)


def write_baselines(
    train: pl.DataFrame, validation: pl.DataFrame, tests: pl.DataFrame
) -> tuple[dict[str, list[str | None]], dict[str, dict[str, int]]]:
    """Return what each baseline writes for test pairs, None where the task is another's; and how many sentences
    `lead` and `textrank` take by language.

    Args:
        train: Pairs, for the dictionary.
        validation: Pairs, for the number of sentences.
        tests: Both directions of pairs.
    """
    outputs: dict[str, list[str | None]] = {name: [None] * len(tests) for name in DESCRIPTIONS}
    taken: dict[str, dict[str, int]] = {"lead": {}, "textrank": {}}
    pairs = directions(train).filter(pl.col("task") == "translation")
    tests = tests.with_row_index("place")
    summaries = validation.filter(pl.col("task") == "summarization")
    for (task, lang), rows in tests.group_by("task", "target_lang", maintain_order=True):
        write: dict[str, Callable[[dict[str, str]], str]] = {}
        if task == "summarization":
            known = summaries.filter(pl.col("target_lang") == lang).head(VALIDATION)
            for name, extract in (("lead", lead), ("textrank", central)):
                taken[name][str(lang)] = _best_count(known, extract)
                write |= {f"{name}-1": partial(_extract, extract, 1)}
                write |= {name: partial(_extract, extract, taken[name][str(lang)])}
        elif task == "translation":
            learnt = pairs.filter(pl.col("target_lang") == lang)
            known_words = Dictionary(learnt["source"].to_list(), learnt["targets"].list.first().to_list())
            write = {"copy": itemgetter("source"), "dictionary": partial(_translate, known_words)}
        else:
            write = {"bm25": lambda row: best_sentence(row["source"], row["question"])}
        for row in rows.iter_rows(named=True):
            for name, one in write.items():
                outputs[name][row["place"]] = one(row)
    return outputs, taken


def _extract(extract: Extract, most: int, row: dict[str, str]) -> str:
    return extract(row["source"], [most])[0]


def _translate(known: Dictionary, row: dict[str, str]) -> str:
    return known.translate(row["source"], row["target_lang"])


def _best_count(known: pl.DataFrame, extract: Extract) -> int:
    """Return how many sentences score best; one where there is nothing to score."""
    sums = np.zeros(MOST_SENTENCES)
    for row in known.iter_rows(named=True):
        about = row["task"], row["target_lang"], row["source"]
        texts = extract(row["source"], range(1, MOST_SENTENCES + 1))
        sums += [score(*about, text, row["targets"])[MAIN[row["task"]]] for text in texts]
    return int(np.argmax(sums)) + 1
