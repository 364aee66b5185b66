from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slimpajama.corpus.clean.quality import measure_text
from slimpajama.corpus.clean.repetition import WORDS, ngram_repetition, repeats
from slimpajama.corpus.clean.signals import Parts, unit_hash

ADVERT = "全场五折优惠，正品保证，七天包退，加微信领红包！"
ENGLISH_ADVERT = "Buy two pairs of shoes today and get the third for free with this code! "
STORY = (
    "清晨的雾还没有散去，老人推开木门，看见院子里落满了昨夜的梧桐叶。他弯下腰，一片一片地捡起来，放进竹篮。"
    "隔壁的孩子背着书包跑过，喊了一声爷爷早，又消失在巷口。远处传来卖豆浆的吆喝，混着自行车铃声，慢慢地近了。"
)


def reference(units: list[tuple[int, int]], widths: list[int]) -> list[float]:
    """Every n-gram of every width, with its characters; the definition."""
    total, shares = sum(length for _, length in units), []
    for place, width in enumerate(widths):
        grams = [tuple(units[i : i + width]) for i in range(len(units) - width + 1)]
        chars = [sum(length for _, length in gram) for gram in grams]
        if place < 3:
            often = Counter(grams)
            best = max(
                ((n, size) for n, size in ((often[g], c) for g, c in zip(grams, chars, strict=True)) if n > 1),
                default=(0, 0),
            )
            shares.append(min(1.0, best[0] * best[1] / total) if total else 0.0)
            continue
        covered, behind, seen = 0, 0, set()
        for i, gram in enumerate(grams):
            if gram in seen and i >= behind:
                covered, behind = covered + chars[i], i + width
            seen.add(gram)
        shares.append(covered / total if total else 0.0)
    return shares


@given(
    st.lists(st.lists(st.integers(0, 3) | st.integers(0, 200), max_size=120), max_size=3),
    st.sampled_from([list(WORDS), [2 * n for n in WORDS]]),
)
def test_the_kernel_finds_every_repeated_ngram_that_the_definition_does(documents: list[list[int]], widths: list[int]):
    texts = [[(unit_hash(str(unit)), unit % 7 + 1) for unit in document] for document in documents]
    ends = np.cumsum([0, *map(len, texts)])
    flat = [unit for text in texts for unit in text]
    hashes = np.array([unit for unit, _ in flat], np.uint64)
    lengths = np.array([length for _, length in flat], np.int32)
    found = ngram_repetition(Parts(ends, hashes, lengths), np.tile(widths, (len(texts), 1)))
    np.testing.assert_allclose(found, np.array([reference(text, widths) for text in texts]).reshape(-1, len(widths)))


@given(st.lists(st.integers(1, 5), max_size=40))
def test_lines_seen_before_are_counted_by_number_and_characters(lines: list[int]):
    hashes, lengths = np.array([unit_hash(str(n)) for n in lines], np.uint64), np.array(lines, np.int32)
    again = [line for place, line in enumerate(lines) if line in lines[:place]]
    expected = [len(again) / len(lines), sum(again) / max(sum(lines), 1)] if lines else [0, 0]
    np.testing.assert_allclose(repeats(Parts(np.array([0, len(lines)]), hashes, lengths))[0], expected)


@pytest.mark.parametrize("advert", [ADVERT, ADVERT.replace("，", "").replace("！", ""), ENGLISH_ADVERT])
def test_an_advertisement_that_is_only_repeated_is_seen_as_such(advert: str):
    found = measure_text((advert * 40).strip())
    assert all(found[f"dup_{n}gram"] > 0.9 for n in range(5, 11))
    assert all(found[f"top_{n}gram"] > 0.1 for n in (2, 3, 4))


def test_a_story_that_tells_something_new_repeats_nothing():
    found = measure_text(STORY)
    assert max(found[f"dup_{n}gram"] for n in range(5, 11)) == 0
    assert found["top_2gram"] == 0


def test_an_advertisement_between_a_story_counts_by_its_share():
    found = measure_text(STORY + ADVERT * 5)
    assert 0.25 < found["dup_5gram"] < 0.6
