"""Excerpts show where two texts part."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from slimpajama.ops.report.removed import around_first_difference


@given(st.text(alphabet="甲乙ab ,", max_size=300), st.text(alphabet="甲乙ab ,", max_size=300))
def test_segments_that_do_not_differ_are_the_same_on_both_sides(left: str, right: str) -> None:
    sides = around_first_difference(left, right)
    same = ["".join(s["text"] for s in side if not s["differs"]).replace("…", "") for side in sides]
    assert same[0] == same[1]


def test_the_first_difference_is_marked_in_its_context() -> None:
    head = "同样的开头。" * 40
    left, right = around_first_difference(head + "今天下雨。" + head, head + "今天天晴。" + head)
    assert next(s["text"] for s in left if s["differs"]).startswith("下雨")
    assert left[0]["text"] == "…"
    assert left[-1]["text"] == "…"
    assert right[1]["text"].endswith("。今天")


def test_equal_texts_are_shown_from_the_start_without_a_mark() -> None:
    left, right = around_first_difference("明月 光 " * 100, "明月\n光 " * 100)
    assert left == right
    assert not any(segment["differs"] for segment in left)
    assert left[0]["text"].startswith("明月 光")


def test_where_only_the_excerpt_ends_nothing_is_marked() -> None:
    left, right = around_first_difference("a" * 400, "xxxx" + "a" * 400)
    assert [s["text"] for s in right if s["differs"]] == ["xxxx"]
    assert not any(segment["differs"] for segment in left)


def test_a_text_that_stops_early_shows_what_the_other_adds() -> None:
    left, right = around_first_difference("一二三", "一二三四五")
    assert not any(segment["differs"] for segment in left)
    assert [s["text"] for s in right if s["differs"]] == ["四五"]
