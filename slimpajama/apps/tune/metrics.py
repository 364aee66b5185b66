"""How good a summary, a translation or an answer is: the field's measures, and what they do not see.

| task | measures |
|---|---|
| summarization | ROUGE-1, -2 and -L (F, `rouge-score`), Chinese cut into words by jieba |
| translation | chrF and BLEU (`sacrebleu`; BLEU with its `zh` tokenizer for Chinese) |
| question answering | exact match and F1, the better of several right answers |
| all | `copied`: share of the output's 4-grams that stand in the source; `length`: of the output by the reference's |

Answers are normalised as SQuAD's script does (case, punctuation, articles); Chinese is compared by characters, and its
F1 rests on the longest run in common, as CMRC 2018's script has it.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from difflib import SequenceMatcher
from functools import cache
from typing import Any

import numpy as np

from slimpajama.core.config import TextConfig
from slimpajama.text.segment import Segmenter

MAIN = {"summarization": "rougeL", "translation": "chrf", "question-answering": "f1"}
"""What decides about a task."""
RESAMPLES, CONFIDENCE = 1000, 0.95
_ARTICLES = re.compile(r"\b(a|an|the)\b")
HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")


@cache
def _segmenter() -> Segmenter:
    return Segmenter(TextConfig())


class _Words:
    """What `rouge-score` asks for its words: in lower case, without punctuation and white space."""

    @staticmethod
    def tokenize(text: str) -> list[str]:
        """Return the words of a text."""
        words = (word.strip().lower() for word in _segmenter().cut(text))
        return [word for word in words if any(unicodedata.category(char)[0] in "LN" for char in word)]


def units(text: str) -> list[str]:
    """Return what answers and copies are compared by: words, and each ideograph by itself; no punctuation."""
    folded = "".join(
        f" {char} " if HAN.match(char) else char if unicodedata.category(char)[0] in "LNM" else " "
        for char in unicodedata.normalize("NFKC", text).lower()
    )
    return _ARTICLES.sub(" ", folded).split()


def answer_scores(output: str, references: Sequence[str]) -> dict[str, float]:
    """Return exact match and F1 against the reference that gives the best.

    Source: Rajpurkar et al. 2016, "SQuAD"; for Chinese Cui et al. 2019, "A span-extraction dataset for Chinese machine
    reading comprehension".
    """
    found = [_answer(units(output), units(reference)) for reference in references]
    return {"exact": max(exact for exact, _ in found), "f1": max(f1 for _, f1 in found)}


def _answer(output: list[str], reference: list[str]) -> tuple[float, float]:
    exact = float(output == reference)
    if not output or not reference:
        return exact, exact
    if any(HAN.match(unit) for unit in reference):
        common = SequenceMatcher(None, output, reference, autojunk=False).find_longest_match().size
    else:
        common = (Counter(output) & Counter(reference)).total()
    return exact, 2 * common / (len(output) + len(reference))


def score(task: str, lang: str, source: str, output: str, references: Sequence[str]) -> dict[str, float]:
    """Return every measure of one output, in percent but for `length`."""
    if task == "summarization":
        from rouge_score.rouge_scorer import RougeScorer

        rouge = RougeScorer(["rouge1", "rouge2", "rougeL"], tokenizer=_Words())
        found = {name: value.fmeasure for name, value in rouge.score(references[0], output).items()}
    elif task == "translation":
        from sacrebleu.metrics.bleu import BLEU
        from sacrebleu.metrics.chrf import CHRF

        scorers = {"chrf": CHRF(), "bleu": BLEU(tokenize="zh" if lang == "zh" else "13a", effective_order=True)}
        found = {name: one.sentence_score(output, [*references]).score / 100 for name, one in scorers.items()}
    else:
        found = answer_scores(output, references)
    written, read = units(output), units(source)
    grams = [tuple(written[i : i + 4]) for i in range(len(written) - 3)]
    there = {tuple(read[i : i + 4]) for i in range(len(read) - 3)}
    copied = sum(gram in there for gram in grams) / len(grams) if grams else 0.0
    percent = {name: 100 * value for name, value in (found | {"copied": copied}).items()}
    return percent | {"length": len(written) / max(1, len(units(references[0])))}


def interval(values: Sequence[float], seed: int = 0) -> tuple[float, float]:
    """Return the bootstrap interval of the mean: 95 %, 1,000 resamples."""
    data = np.asarray(values, np.float64)
    drawn = np.random.default_rng(seed).integers(0, len(data), (RESAMPLES, len(data)))
    low, high = np.quantile(data[drawn].mean(axis=1), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def measure(scores: Sequence[dict[str, float]], task: str) -> dict[str, Any]:
    """Return the means over outputs, how many they are, and the interval of the measure that decides."""
    means: dict[str, Any] = {name: float(np.mean([one[name] for one in scores])) for name in scores[0]}
    return means | {"n": len(scores), "interval": interval([one[MAIN[task]] for one in scores])}
