"""Suffix arrays: every answer is that of a search through all positions, in both languages and with any vocabulary."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimpajama.text.suffixes import MOST_TOKENS, build, followers, is_whole, longest, maximal, suffixes_of, walk

DOCUMENT = 0
LONGEST = 6
ENGLISH = "The night is long, and the night before it was long. The next night is short.\n"
CHINESE = "今天的天气很好，昨天的天气也很好。明天的天气不知道好不好，后天的天气再说。\n"


def stream(documents):
    return [DOCUMENT, *(token for document in documents for token in [*document, DOCUMENT])]


def occurrences(ids, pattern):
    """Return where a pattern occurs; only its first token may be a document's."""
    if DOCUMENT in pattern[1:]:
        return []
    return [i for i in range(len(ids)) if ids[i : i + len(pattern)] == pattern]


def in_interval(suffixes, lo, hi):
    return sorted(suffixes.order[lo:hi].tolist())


documents = st.lists(st.lists(st.integers(1, 4), max_size=12), max_size=6)


@st.composite
def searches(draw):
    ids = stream(draw(documents))
    text = draw(st.lists(st.integers(0, 4), max_size=20))
    if draw(st.booleans()):
        begin = draw(st.integers(0, len(ids)))
        text = text + ids[begin : begin + 12] + draw(st.lists(st.integers(0, 4), max_size=3))
    # What an id is called must not matter, nor in how many bytes it is kept.
    by = draw(st.sampled_from([1, 77, 60_000]))
    vocab_size = 4 * by + 1
    return [by * i for i in ids], [by * i for i in text], vocab_size


@given(searches(), st.data())
@settings(max_examples=200, deadline=None)
def test_an_index_is_whole_and_is_not_after_any_change(search, data):
    ids, _, vocab_size = search
    made = suffixes_of(ids, vocab_size, DOCUMENT)
    assert is_whole(made, vocab_size)
    assert not is_whole(made, vocab_size + 1)
    assert not is_whole(made._replace(document_id=1), vocab_size)
    for name in ("ids", "order", "first"):
        array = getattr(made, name).copy()
        place = data.draw(st.integers(0, len(array) - 1))
        least, most = (int(n) for n in (np.iinfo(array.dtype).min, np.iinfo(array.dtype).max))
        # Near what stands there, or anything.
        near = st.integers(max(least, int(array[place]) - 3), min(most, int(array[place]) + 3))
        other = data.draw((near | st.integers(least, most)).filter(lambda n, old=int(array[place]): n != old))
        array[place] = other
        assert not is_whole(made._replace(**{name: array}), vocab_size)
        assert not is_whole(made._replace(**{name: getattr(made, name)[:-1]}), vocab_size)
        assert not is_whole(made._replace(**{name: getattr(made, name).astype("i2")}), vocab_size)
    some = data.draw(st.permutations(range(len(ids))))
    order = made.order[np.array(some)]
    assert is_whole(made._replace(order=order), vocab_size) == (some == sorted(some))


@given(searches())
@settings(max_examples=200, deadline=None)
def test_every_length_of_every_start_is_found_where_it_occurs_and_nowhere_else(search):
    ids, text, vocab_size = search
    suffixes = suffixes_of(ids, vocab_size, DOCUMENT)
    lo, hi = walk(suffixes, np.array(text, np.uint32), LONGEST)
    for i in range(len(text)):
        for k in range(1, LONGEST + 1):
            expected = occurrences(ids, text[i : i + k]) if i + k <= len(text) else []
            assert in_interval(suffixes, lo[i, k - 1], hi[i, k - 1]) == expected


@given(searches())
@settings(max_examples=200, deadline=None)
def test_the_longest_match_is_as_long_as_any_and_whole(search):
    ids, text, vocab_size = search
    suffixes = suffixes_of(ids, vocab_size, DOCUMENT)
    for start in range(len(text)):
        length, lo, hi = longest(suffixes, np.array(text, np.uint32), start, len(text))
        expected = max(
            (n for n in range(len(text) - start + 1) if n and occurrences(ids, text[start : start + n])), default=0
        )
        assert length == expected
        assert in_interval(suffixes, lo, hi) == (occurrences(ids, text[start : start + length]) if length else [])


@given(searches(), st.integers(1, 4))
@settings(max_examples=200, deadline=None)
def test_maximal_matches_are_those_that_no_longer_one_holds(search, min_length):
    ids, text, vocab_size = search
    suffixes = suffixes_of(ids, vocab_size, DOCUMENT)
    pairs = [(i, j) for i in range(len(text)) for j in range(i + 1, len(text) + 1) if occurrences(ids, text[i:j])]
    expected = [
        (i, j)
        for i, j in pairs
        if j - i >= min_length and not any(a <= i and j <= b for a, b in pairs if (a, b) != (i, j))
    ]
    found = maximal(suffixes, np.array(text, np.uint32), min_length)
    assert [(i, j) for i, j, _, _ in found.tolist()] == expected
    for i, j, lo, hi in found.tolist():
        assert in_interval(suffixes, lo, hi) == occurrences(ids, text[i:j])


@given(searches())
@settings(max_examples=200, deadline=None)
def test_followers_are_counted_and_a_documents_end_is_one(search):
    ids, text, vocab_size = search
    suffixes = suffixes_of(ids, vocab_size, DOCUMENT)
    for start in range(len(text)):
        length, lo, hi = longest(suffixes, np.array(text, np.uint32), start, len(text))
        places = occurrences(ids, text[start : start + length]) if length else []
        following = [ids[p + length] for p in places if p + length < len(ids)]
        tokens, counts = followers(suffixes, lo, hi, length)
        assert dict(zip(tokens.tolist(), counts.tolist(), strict=True)) == {t: following.count(t) for t in following}
        assert tokens.tolist() == sorted(set(following))


@pytest.mark.parametrize(("text", "shared"), [(ENGLISH, "The night is long"), (CHINESE, "天的天气很好")])
def test_copied_text_is_found_in_both_languages_however_long_it_is(text, shared):
    written = [*map(ord, text)]
    ids = stream([written, [*map(ord, 30 * text[::-1])]])
    suffixes = suffixes_of(ids, 1 << 16, DOCUMENT)
    quoted = np.array([*map(ord, f"@{text}@{shared}@{30 * text[::-1]}@")], np.uint16)
    found = maximal(suffixes, quoted, len(shared))
    assert ["".join(map(chr, quoted[i:j])) for i, j, _, _ in found] == [text, shared, 30 * text[::-1]]
    assert [int(hi - lo) for _, _, lo, hi in found] == [1, text.count(shared), 1]


@pytest.mark.parametrize("vocab_size", [1 << 16, 1 << 18])
def test_many_starts_are_visited_sorted_and_come_out_as_one_by_one(vocab_size):
    rng = np.random.default_rng(5)
    ids = np.minimum(rng.geometric(0.05, 30_000), vocab_size - 1)
    ids[::97] = DOCUMENT
    suffixes = suffixes_of(ids, vocab_size, DOCUMENT)
    text = np.concatenate([ids[500:3000], np.minimum(rng.geometric(0.05, 3_000), vocab_size - 1)])
    lo, hi = walk(suffixes, text, LONGEST)
    for begin in range(0, len(text), 1000):
        # Fewer starts are not sorted.
        some = walk(suffixes, text[begin : begin + 1000 + LONGEST], LONGEST)
        assert (lo[begin : begin + 1000] == some[0][:1000]).all()
        assert (hi[begin : begin + 1000] == some[1][:1000]).all()


def test_an_empty_stream_and_an_empty_text_have_no_match():
    suffixes = suffixes_of([], 5, DOCUMENT)
    assert walk(suffixes, np.array([1, 2], np.uint16), 2)[1].sum() == 0
    assert len(maximal(suffixes_of(stream([[1, 2]]), 5, DOCUMENT), np.zeros(0, np.uint16), 1)) == 0


def test_ids_beyond_the_vocabulary_and_streams_too_long_are_refused():
    with pytest.raises(ValueError, match="below 5, found 5"):
        suffixes_of([0, 5], 5, DOCUMENT)
    with pytest.raises(ValueError, match=f"at most {MOST_TOKENS}"):
        build(np.broadcast_to(np.uint16(1), MOST_TOKENS + 1), 5)
