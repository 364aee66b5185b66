"""Nothing that a reader cannot see stays hidden, and an excerpt is one line."""

from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from slimpajama.core.format import excerpt, visible

HIDDEN = ("Cc", "Cf", "Cn", "Co", "Zl", "Zp")


@given(st.text())
def test_visible_text_holds_no_control_format_or_unassigned_character(text: str) -> None:
    left = {char for char in visible(text) if unicodedata.category(char) in HIDDEN}
    assert left <= {"\n", "\t"}


@given(st.text(alphabet=st.characters(categories=["L", "N", "P", "S", "M"])))
def test_visible_leaves_letters_of_every_script_alone(text: str) -> None:
    assert visible(text) == text


def test_a_bidirectional_override_and_an_escape_are_spelled_out() -> None:
    assert visible("好\u202etxt\x1b[2J\u200b") == "好[U+202E]txt␛[2J[U+200B]"


@given(st.text(), st.integers(1, 50))
def test_an_excerpt_is_one_line_within_its_limit(text: str, limit: int) -> None:
    short = excerpt(text, limit)
    assert len(short) <= limit
    assert "\n" not in short
