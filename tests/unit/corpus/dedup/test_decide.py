"""One decision over tonight and history: the same for any order, and never a removal without a partner."""

import time
import tracemalloc
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimpajama.core.config import DedupConfig
from slimpajama.corpus.dedup import decide as decide_module
from slimpajama.corpus.dedup import similarity as verify_module
from slimpajama.corpus.dedup.columns import content_column, key_columns
from slimpajama.corpus.dedup.decide import decide
from slimpajama.corpus.dedup.documents import DocumentFile, Documents, EarlierFile, HistoryBatch
from slimpajama.corpus.dedup.jaccard import jaccard
from slimpajama.corpus.dedup.kernel import sketch
from slimpajama.corpus.dedup.normalise import normalise

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
    """Texts in files of seven, sketched."""

    def __init__(self, texts, ids, priority=None, file_rows=7):
        self.texts, self.ids = pa.array(texts, pa.large_string()), pa.array(ids, pa.string())
        self.sketches, self.file_rows = sketch(self.texts, CFG), file_rows
        self.keys = key_columns(self.sketches.content, self.sketches.keys)
        self.priority = np.array(priority or [0] * len(texts), np.int32)

    def documents(self):
        return Documents.of(map(self.file, range(0, len(self.ids), self.file_rows)), pa.string())

    def file(self, start):
        part = slice(start, start + self.file_rows)
        return DocumentFile(
            self.ids[part],
            self.sketches.n_chars[part],
            self.sketches.content[part],
            lambda groups: self.keys[list(groups), part],
            lambda rows: self.texts.take(pa.array(rows + start)),
            self.priority[part],
        )

    def earlier(self, outcome):
        documents = pa.table({"id": self.ids, "cluster": outcome.cluster(), "kept": outcome.kept})
        batch = HistoryBatch(documents, self.sketches.content, self.keys)
        return EarlierFile(lambda: batch, lambda rows: self.texts.take(pa.array(rows)))


def run(tonight, history=(), workers=1, cfg=CFG):
    return decide(tonight.documents(), history, cfg, workers)


def by_id(batch, outcome):
    columns = [batch.ids, outcome.kept, outcome.exact, outcome.duplicate_of(), outcome.jaccard, outcome.cluster()]
    return {row[0]: repr(row[1:]) for row in zip(*(list(map(str, column)) for column in columns), strict=True)}


def name(i):
    return f"{i * 7919 % 100_003:032x}"


def check(batches, outcomes):
    """Every removal has a surviving partner within the threshold, and no two survivors that met are alike."""
    texts = {i: t for b in batches for i, t in zip(b.ids.to_pylist(), b.texts.to_pylist(), strict=True)}
    kept = [i for b, o in zip(batches, outcomes, strict=True) for i in b.ids.filter(pa.array(o.kept)).to_pylist()]
    for batch, outcome in zip(batches, outcomes, strict=True):
        rows = zip(
            batch.ids.to_pylist(), outcome.duplicate_of().to_pylist(), outcome.jaccard, outcome.exact, strict=True
        )
        for i, partner, similarity, same in rows:
            if partner is not None:
                pair = pa.array([texts[i], texts[partner]], pa.large_string())
                assert partner in kept
                assert similarity == jaccard(pair, np.array([[0, 1]]), CFG.ngram_chars)[0] >= CFG.threshold
                assert same == (normalise(texts[i]) == normalise(texts[partner]))
    survivors = pa.array([texts[i] for i in kept], pa.large_string())
    pairs = np.array([(a, b) for a in range(len(kept)) for b in range(a + 1, len(kept))]).reshape(-1, 2)
    # From 0.9 on the bands miss one pair in 10^7.
    assert (jaccard(survivors, pairs, CFG.ngram_chars) < 0.9).all()


@settings(max_examples=15)
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


@settings(max_examples=15)
@given(st.integers(0, 10_000), st.data())
def test_removals_against_earlier_nights_have_a_partner_too(seed, data):
    texts = variants(seed)
    order = data.draw(st.permutations(range(len(texts))))
    cut = data.draw(st.integers(0, len(texts)))
    a = Batch([texts[i] for i in order[:cut]], [name(i) for i in order[:cut]])
    b = Batch([texts[i] for i in order[cut:]], [name(i) for i in order[cut:]])
    first = run(a)
    second = run(b, [a.earlier(first)])
    check([a, b], [first, second])
    whole = run(Batch(texts, [name(i) for i in range(len(texts))]))
    assert first.kept.sum() + second.kept.sum() >= len(set(whole.cluster().to_pylist()))


@pytest.mark.parametrize(
    ("clusters", "verify"), [("nearest_keeper", True), ("components", True), ("components", False)]
)
def test_the_answer_does_not_depend_on_memory(clusters, verify, monkeypatch):
    """A megabyte holds a twentieth of these texts and one band's keys: buckets, runs and portions are many."""
    monkeypatch.setattr(verify_module, "SHARE", 100)
    texts = variants(3, families=70) + [f"{variants(1)[0]} {i} {i * i}" for i in range(60)]
    order = np.random.default_rng(0).permutation(len(texts)).tolist()
    a = Batch([texts[i] for i in order[:200]], [name(i) for i in order[:200]])
    b = Batch([texts[i] for i in order[200:]], [name(i) for i in order[200:]])
    found = []
    for memory_mb in (1000, 1):
        cfg = replace(CFG, clusters=clusters, verify=verify, memory_mb=memory_mb)
        monkeypatch.setattr(decide_module, "PAIR_BYTES", 64 if memory_mb > 1 else 50_000)
        first = run(a, cfg=cfg)
        second = run(b, [a.earlier(first)], cfg=cfg)
        found.append((by_id(a, first), by_id(b, second), first.compared, second.compared))
    assert found[0] == found[1]


def test_components_keep_one_of_a_chain_and_say_how_like_it_is():
    outcome = run(Batch(chain(), ["b", "c", "a"]), cfg=replace(CFG, clusters="components"))
    assert outcome.duplicate_of().to_pylist() == [None, "b", "b"]  # the longest survives
    for d in (1, 2):
        pair = pa.array([chain()[0], chain()[d]], pa.large_string())
        assert outcome.jaccard[d] == jaccard(pair, np.array([[0, 1]]), CFG.ngram_chars)[0]
    assert outcome.jaccard[2] < CFG.threshold < outcome.jaccard[1]


@pytest.mark.parametrize("seed", range(3))
def test_a_crowded_family_is_one_cluster_also_where_only_removed_documents_link_it(seed):
    rng = np.random.default_rng(seed)
    frame, a, b = ("".join(rng.choice([chr(c) for c in range(0x4E00, 0x9000)], n)) for n in (1000, 130, 130))
    # Unlike each other: the two that survive.
    texts = [frame + a + a[::-1], frame + b + b[::-1]]
    texts += [frame + side[: 100 - k] + str(k) for side in (a, b) for k in range(15)]
    batch = Batch(texts, [name(i) for i in range(len(texts))])
    batch.keys = rng.integers(0, 2**64, batch.keys.shape, np.uint64)
    # All meet in this band, and in no other.
    batch.keys[1] = 7
    outcome = run(batch)
    assert outcome.kept.sum() == 2
    assert len(set(outcome.cluster().to_pylist())) == 1


def test_components_that_reach_an_earlier_night_keep_its_document_only():
    first, second, third = chain()
    a, b = Batch([first], ["z"]), Batch([second, third], ["a", "b"])
    cfg = replace(CFG, clusters="components")
    assert run(b, [a.earlier(run(a, cfg=cfg))], cfg=cfg).duplicate_of().to_pylist() == ["z", "z"]


def test_without_verification_a_shared_key_is_enough_and_no_similarity_is_claimed():
    texts = [*chain(), chain()[0].upper()]
    outcome = run(Batch(texts, ["b", "c", "a", "d"]), cfg=replace(CFG, clusters="components", verify=False))
    assert outcome.compared == 0
    assert outcome.duplicate_of().to_pylist() == [None, "b", "b", "b"]
    assert np.isnan(outcome.jaccard).tolist() == [True, True, True, False]
    assert outcome.exact.tolist() == [False, False, False, True]


def test_the_survivor_is_by_priority_then_length_then_id():
    text = "这是一段用来测试去重的中文文本，它足够长，可以有许多字符片段。" * 3
    texts = [text, text + "一", text + "一二", text + "三四"]
    assert run(Batch(texts, "dcba")).duplicate_of().to_pylist() == ["a", "a", "a", None]
    assert run(Batch(texts, "abcd")).duplicate_of().to_pylist() == ["c", "c", None, "c"]
    assert run(Batch(texts, "abcd", priority=[0, 1, 0, 0])).duplicate_of().to_pylist() == ["b", None, "b", "b"]


def test_an_earlier_document_survives_whatever_its_length():
    text = "Earlier nights come first, whatever the length or the priority of what comes later. " * 3
    a, b = Batch([text], ["z"]), Batch([text + " more", text, text.upper()], ["a", "b", "c"], [9, 9, 9])
    outcome = run(b, [a.earlier(run(a))])
    assert outcome.duplicate_of().to_pylist() == ["z", "z", "z"]
    assert outcome.exact.tolist() == [False, True, True]
    assert outcome.cluster().to_pylist() == ["z", "z", "z"]


def chain():
    rng = np.random.default_rng(5)
    text = "".join(rng.choice([chr(c) for c in range(0x4E00, 0x5E00)], 600))
    # Each 0.87 like the next, 0.76 like the last.
    return [text, text[60:] + text[:1] * 2, text[120:] + text[1:2] * 3]


def test_a_removed_document_of_an_earlier_night_lends_its_cluster_but_is_no_partner():
    first, second, third = chain()
    a = Batch([first, second], ["b", "c"])
    outcome = run(a)
    assert outcome.duplicate_of().to_pylist() == [None, "b"]
    b = Batch([third], ["a"])
    later = run(b, [a.earlier(outcome)])
    assert later.kept.tolist() == [True]
    # Not its own smaller id: the first night's documents are split already.
    assert later.cluster().to_pylist() == ["b"]


def test_a_text_that_was_forgotten_is_nobodys_partner():
    first, second, _ = chain()
    a, b = Batch([first], ["a"]), Batch([second], ["b"])
    history = [a.earlier(run(a))]
    a.texts = pa.nulls(1, pa.large_string())
    assert run(b, history).kept.tolist() == [True]


def test_nothing_at_all():
    outcome = run(Batch([], []))
    assert (len(outcome.kept), len(outcome.cluster()), outcome.compared) == (0, 0, 0)


@pytest.mark.parametrize("n", [200_000])
def test_copies_cost_no_comparisons(n):
    one = Batch(["一模一样的文本，" * 10], ["x"])
    ids = pa.array([name(i) for i in range(n)])
    n_chars, content = (np.repeat(column, n, axis=0) for column in (one.sketches.n_chars, one.sketches.content))
    file = DocumentFile(
        ids, n_chars, content, lambda groups: np.repeat(one.keys[list(groups)], n, 1), lambda _: one.texts
    )
    start = time.process_time()
    outcome = decide(Documents.of([file], pa.string()), (), CFG)
    assert outcome.compared == 0
    assert outcome.kept.sum() == 1
    assert set(outcome.duplicate_of().drop_null().to_pylist()) == {min(ids.to_pylist())}
    # A quarter of a second; quadratic would be hours.
    assert time.process_time() - start < 10


def test_memory_grows_by_what_stands_for_a_document_and_no_more():
    """The keys of a document alone are 296 bytes; numpy's allocations are traced, Arrow's are counted besides."""

    def peak(n, memory_mb):
        def keys(groups):
            return np.random.default_rng(list(groups)).integers(0, 2**64, (len(groups), n), np.uint64)

        content = np.random.default_rng(0).integers(0, 256, (n, 16), np.uint8)
        ids = content_column(content)
        file = DocumentFile(ids, np.full(n, 3000, np.uint32), content, keys, lambda _: pa.nulls(0))
        documents = Documents.of([file], ids.type)
        tracemalloc.start()
        before = pa.total_allocated_bytes()
        outcome = decide(documents, (), replace(CFG, memory_mb=memory_mb))
        traced = tracemalloc.get_traced_memory()[1] + pa.total_allocated_bytes() - before
        tracemalloc.stop()
        assert outcome.kept.all()
        return traced

    peak(1000, 1)  # compiles
    assert (peak(300_000, 1) - peak(100_000, 1)) / 200_000 < 100
    # What may be used, is.
    assert peak(300_000, 1) < peak(300_000, 1000)
