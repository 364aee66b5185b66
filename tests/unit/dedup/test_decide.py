"""One decision over tonight and history: the same for any order, and never a removal without a partner."""

import time

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimpajama.config import DedupConfig
from slimpajama.dedup.decide import Documents, Earlier, decide
from slimpajama.dedup.jaccard import jaccard
from slimpajama.dedup.kernel import band_keys, sketch
from slimpajama.dedup.normalise import normalise

CFG = DedupConfig()


def variants(seed, families=6):
    """Return texts in families: each grows, changes and is copied, in Chinese and English."""
    rng = np.random.default_rng(seed)
    letters = {0: [chr(c) for c in range(0x4E00, 0x4F00)], 1: list("abcdefghijklmnop  ")}
    texts = []
    for family in range(families):
        text = "".join(rng.choice(letters[family % 2], 400))
        texts.append(text)
        for _ in range(int(rng.integers(0, 6))):
            place, cut = (int(x) for x in rng.integers(0, [len(text), 30]))
            text = text[:place] + "".join(rng.choice(letters[family % 2], 3)) + text[place + cut :]
            texts += [text] * int(rng.integers(1, 3))
    return [f" {text.upper()}\n" if i % 3 else text for i, text in enumerate(texts)]


class Batch:
    """Texts on a shelf, sketched."""

    def __init__(self, texts, ids, shelf=0, priority=None):
        self.texts, self.ids = pa.array(texts, pa.large_string()), pa.array(ids, pa.string())
        sketches = sketch(self.texts, CFG)
        keys = band_keys(sketches.signatures, CFG.bands, CFG.rows)
        places = np.column_stack([np.full(len(texts), shelf), np.arange(len(texts))])
        priorities = np.array(priority or [0] * len(texts), np.int64)
        self.documents = Documents(self.ids, priorities, sketches.n_chars, sketches.content, keys, places)

    def earlier(self, shelf, outcome):
        return Earlier(shelf, self.ids, self.documents.content, outcome.cluster, outcome.kept, self.documents.keys)


def run(tonight, history=(), shelves=(), workers=1):
    shelves = dict(enumerate(shelves)) or {0: tonight}
    return decide(
        tonight.documents, history, lambda shelf, rows: shelves[shelf].texts.take(pa.array(rows)), CFG, workers
    )


def by_id(batch, outcome):
    columns = [batch.ids, outcome.kept, outcome.exact, outcome.duplicate_of, outcome.jaccard, outcome.cluster]
    return {row[0]: repr(row[1:]) for row in zip(*(list(map(str, column)) for column in columns), strict=True)}


def name(i):
    return f"{i * 7919 % 100_003:032x}"


def check(batches, outcomes):
    """Every removal has a surviving partner within the threshold, and no two survivors that met are alike."""
    texts = {i: t for b in batches for i, t in zip(b.ids.to_pylist(), b.texts.to_pylist(), strict=True)}
    kept = [i for b, o in zip(batches, outcomes, strict=True) for i in b.ids.filter(pa.array(o.kept)).to_pylist()]
    for batch, outcome in zip(batches, outcomes, strict=True):
        rows = zip(batch.ids.to_pylist(), outcome.duplicate_of.to_pylist(), outcome.jaccard, outcome.exact, strict=True)
        for i, partner, similarity, same in rows:
            if partner is not None:
                pair = pa.array([texts[i], texts[partner]], pa.large_string())
                assert partner in kept
                assert similarity == jaccard(pair, np.array([[0, 1]]), CFG.ngram_chars)[0] >= CFG.threshold
                assert same == (normalise(texts[i]) == normalise(texts[partner]))
    survivors = pa.array([texts[i] for i in kept], pa.large_string())
    pairs = np.array([(a, b) for a in range(len(kept)) for b in range(a + 1, len(kept))]).reshape(-1, 2)
    assert (jaccard(survivors, pairs, CFG.ngram_chars) < 0.9).all()  # from 0.9 on the bands miss one pair in 10^7


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.randoms())
def test_the_answer_does_not_depend_on_order_or_workers(seed, random):
    texts = variants(seed)
    ids = [name(i) for i in range(len(texts))]
    first = Batch(texts, ids)
    outcome = run(first)
    check([first], [outcome])
    order = random.sample(range(len(texts)), len(texts))
    second = Batch([texts[i] for i in order], [ids[i] for i in order])
    assert by_id(second, run(second, workers=3)) == by_id(first, outcome)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.data())
def test_removals_against_earlier_nights_have_a_partner_too(seed, data):
    texts = variants(seed)
    order = data.draw(st.permutations(range(len(texts))))
    cut = data.draw(st.integers(0, len(texts)))
    a = Batch([texts[i] for i in order[:cut]], [name(i) for i in order[:cut]], 0)
    b = Batch([texts[i] for i in order[cut:]], [name(i) for i in order[cut:]], 1)
    first = run(a)
    second = run(b, [a.earlier(0, first)], [a, b])
    check([a, b], [first, second])
    whole = run(Batch(texts, [name(i) for i in range(len(texts))]))
    assert first.kept.sum() + second.kept.sum() >= len(set(whole.cluster.to_pylist()))


def test_the_survivor_is_by_priority_then_length_then_id():
    text = "这是一段用来测试去重的中文文本，它足够长，可以有许多字符片段。" * 3
    texts = [text, text + "一", text + "一二", text + "三四"]
    assert run(Batch(texts, "dcba")).duplicate_of.to_pylist() == ["a", "a", "a", None]
    assert run(Batch(texts, "abcd")).duplicate_of.to_pylist() == ["c", "c", None, "c"]
    assert run(Batch(texts, "abcd", priority=[0, 1, 0, 0])).duplicate_of.to_pylist() == ["b", None, "b", "b"]


def test_an_earlier_document_survives_whatever_its_length():
    text = "Earlier nights come first, whatever the length or the priority of what comes later. " * 3
    a, b = Batch([text], ["z"], 0), Batch([text + " more", text, text.upper()], ["a", "b", "c"], 1, [9, 9, 9])
    outcome = run(b, [a.earlier(0, run(a))], [a, b])
    assert outcome.duplicate_of.to_pylist() == ["z", "z", "z"]
    assert outcome.exact.tolist() == [False, True, True]
    assert outcome.cluster.to_pylist() == ["z", "z", "z"]


def chain():
    rng = np.random.default_rng(5)
    text = "".join(rng.choice([chr(c) for c in range(0x4E00, 0x5E00)], 600))
    return [text, text[60:] + text[:1] * 2, text[120:] + text[1:2] * 3]  # each 0.87 like the next, 0.76 like the last


def test_a_removed_document_of_an_earlier_night_lends_its_cluster_but_is_no_partner():
    first, second, third = chain()
    a = Batch([first, second], ["b", "c"], 0)
    outcome = run(a)
    assert outcome.duplicate_of.to_pylist() == [None, "b"]
    b = Batch([third], ["a"], 1)
    later = run(b, [a.earlier(0, outcome)], [a, b])
    assert later.kept.tolist() == [True]
    assert later.cluster.to_pylist() == ["b"]  # not its own smaller id: the first night's documents are split already


def test_a_text_that_was_forgotten_is_nobodys_partner():
    first, second, _ = chain()
    a, b = Batch([first], ["a"], 0), Batch([second], ["b"], 1)
    forgotten = pa.nulls(1, pa.large_string())
    outcome = decide(
        b.documents,
        [a.earlier(0, run(a))],
        lambda shelf, rows: b.texts.take(pa.array(rows)) if shelf else forgotten,
        CFG,
    )
    assert outcome.kept.tolist() == [True]


def test_nothing_at_all():
    outcome = run(Batch([], []))
    assert (len(outcome.kept), len(outcome.cluster), outcome.compared) == (0, 0, 0)


@pytest.mark.parametrize("n", [200_000])
def test_copies_cost_no_comparisons(n):
    one = Batch(["一模一样的文本，" * 10], ["x"])
    tiled = Documents(
        pa.array([name(i) for i in range(n)]),
        np.zeros(n, np.int64),
        *(np.repeat(column, n, axis=0) for column in one.documents[2:]),
    )
    start = time.process_time()
    outcome = decide(tiled, [], lambda shelf, rows: one.texts, CFG)
    assert outcome.compared == 0
    assert outcome.kept.sum() == 1
    assert set(outcome.duplicate_of.drop_null().to_pylist()) == {min(tiled.ids.to_pylist())}
    assert time.process_time() - start < 10  # a quarter of a second; quadratic would be hours
