"""Pages show texts of a corpus as they are: no structure, no HTML, nothing hidden."""

import re
import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from slimpajama.core.format import visible
from slimpajama.core.page import (
    Column,
    Figure,
    Folded,
    Quote,
    Quotes,
    Section,
    Span,
    Table,
    card_head,
    columns,
    entities,
    full_width,
    markdown,
    plain_facts,
    plain_table,
)


@given(st.text())
def test_escaped_text_holds_nothing_that_means_something_in_markdown_or_html(text: str) -> None:
    shown = full_width(text)
    assert not re.search(r"[\n\r|`<>*_\[\]\\&~#!@]|://|^[-+=](?!\d)", shown)


@given(st.text())
def test_escaping_only_widens_punctuation(text: str) -> None:
    plain = visible(text)
    assert unicodedata.normalize("NFKC", full_width(text)).split() == unicodedata.normalize("NFKC", plain).split()


def test_numbers_dates_and_chinese_stay_as_they_are() -> None:
    for text in ("0.973", "2026-11-23", "1,024 kB", "今天，天气很好。", "raw/zh-a.jsonl.gz"):
        assert full_width(text) == text


@given(st.text())
def test_escaped_text_is_one_line_without_anything_that_markdown_or_html_reads(text: str):
    assert not set(entities(text)) & set("<>|`*_[]()!\\\n\r\"'~$@:/{}+=")


def test_a_table_lines_its_columns_up_and_shows_no_control_characters():
    text = plain_table([{"a": "x", "b": 1}, {"a": "long\x1b[31m", "c": "中"}])
    head, first, second = text.splitlines()
    assert head.split() == ["a", "b", "c"]
    assert first.index("1") == head.index("b")
    assert "\x1b" not in second
    assert plain_table([]) == ""


def test_columns_in_which_nothing_is_written_are_left_out_of_markdown():
    shown = [Column("name", "name"), Column("", bar=lambda row: 0.5), Column("n", "n", "{:,}".format)]
    text = markdown(Section("T|", [Table([{"name": "a|b", "n": 1234}], shown)]))
    assert text == "## T｜\n\n| name | n |\n| --- | ---: |\n| a｜b | 1,234 |\n"


def test_a_table_of_long_texts_is_one_whose_lines_a_browser_breaks():
    text = markdown(Section("T", [Table([{"task": "a", "reason": "<b> " * 40}], columns("task", "reason"))]))
    assert "|" not in text
    assert '<td align="left" valign="top" colspan="1">＜b＞ ＜b＞' in text


def test_what_is_folded_for_the_page_alone_is_not_in_markdown():
    table = Table([{"name": "a"}], [Column("name", "name")])
    section = Section("T", [Folded("Seen", [table]), Folded("Unseen", [table], html_only=True), Figure("<svg/>", "x")])
    text = markdown(section)
    assert "### Seen" in text
    assert "Unseen" not in text
    assert text.endswith('<img alt="x" src="data:image/svg+xml;base64,PHN2Zy8+">\n')


def test_quotes_of_one_section_share_a_table_as_wide_as_the_widest():
    one, two = Quotes([Quote([Span("a")])], "<t>"), Quotes([Quote([Span("b")]), Quote([Span("c", "mark")], "kept")])
    text = markdown(Section("T", [one, two]))
    assert text.count("<table>") == 1
    assert '<td align="left" valign="top" colspan="2"><b>＜t＞</b></td>' in text
    assert "kept<br><b>c</b></td>" in text


def test_the_head_of_a_card_ends_where_it_ends():
    head = card_head({"licences": ["CC\n---\n# evil: yes"]})
    assert head.endswith("\n---\n\n")
    assert len(re.findall(r"^---$", head, re.MULTILINE)) == 2


def test_facts_without_a_text_are_left_out():
    assert plain_facts({"night": "n", "model": "", "text": "a\x1b"}) == "night      n\ntext       a\\x1b"
