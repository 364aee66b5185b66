"""The page is one file that a hostile corpus cannot make do anything."""

from __future__ import annotations

import re
from typing import Any

import pytest
from selectolax.lexbor import LexborHTMLParser

from slimpajama.core.page import html
from slimpajama.ops.report.page import night_page


def render_html(report: dict[str, Any]) -> str:
    return html(night_page(report))


@pytest.fixture(scope="session")
def pages(reports: dict[str, dict[str, Any]]) -> dict[str, str]:
    return {night: render_html(report) for night, report in reports.items()}


def test_no_corpus_text_becomes_an_element_or_a_handler(pages: dict[str, str]) -> None:
    for page in pages.values():
        tree = LexborHTMLParser(page)
        tags = {node.tag for node in tree.css("*")}
        names = {name for node in tree.css("*") for name in node.attributes}
        assert not tags & {
            "script",
            "img",
            "iframe",
            "object",
            "embed",
            "form",
            "input",
            "link",
            "base",
            "audio",
            "video",
        }
        assert not {name for name in names if name.startswith("on")}
        assert not names & {"src", "srcset", "formaction", "action", "ping"}


def test_hostile_texts_are_shown_as_they_are(pages: dict[str, str]) -> None:
    text = LexborHTMLParser(pages["2026-01-02"]).body.text()  # type: ignore[union-attr]
    assert "<script>alert(1)</script>" in text
    assert '"><img src=x onerror=alert(2)>' in text
    assert "{{ 7 * 7 }}" in text
    assert "[U+202E]abc␛" in text


def test_every_link_stays_on_the_page_and_finds_its_target(pages: dict[str, str]) -> None:
    for page in pages.values():
        tree = LexborHTMLParser(page)
        links = [node.attributes["href"] or "" for node in tree.css("nav a")]
        ids = {node.attributes["id"] for node in tree.css("[id]")}
        assert links
        assert all(link.startswith("#") and link[1:] in ids for link in links)
        assert all((node.attributes.get("href") or "").startswith("#") for node in tree.css("a"))


def test_the_page_loads_nothing_and_says_so_in_its_policy(pages: dict[str, str]) -> None:
    for page in pages.values():
        policy = LexborHTMLParser(page).css_first('meta[http-equiv="Content-Security-Policy"]')
        assert policy is not None
        content = policy.attributes["content"] or ""
        assert content.startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:;")
        style = "".join(node.text() for node in LexborHTMLParser(page).css("style"))
        assert "@import" not in style
        assert "url(" not in style


def test_invisible_characters_are_spelled_out(pages: dict[str, str]) -> None:
    for page in pages.values():
        assert not re.search("[\u202a-\u202e\u2066-\u2069\u200b\x1b\x00]", page)


def test_a_night_without_training_has_no_section_about_it(pages: dict[str, str]) -> None:
    tree = LexborHTMLParser(pages["2026-01-03"])
    assert tree.css_first("#training") is None
    assert tree.css_first("#samples") is None
    assert "nothing trained" in pages["2026-01-03"]


def test_a_first_night_shows_its_own_figures_and_no_champion(pages: dict[str, str]) -> None:
    rows = [node.text(strip=True) for node in LexborHTMLParser(pages["2026-01-01"]).css("#comparison tr")]
    assert any(row.startswith("zh") and "3.000" in row for row in rows)
    assert LexborHTMLParser(pages["2026-01-01"]).css_first(".forest") is None


def test_what_was_restored_and_how_much_natural_text_repeats_is_said(pages: dict[str, str]) -> None:
    page = LexborHTMLParser(pages["2026-01-02"])
    rows = [node.text(strip=True, separator=" ") for node in page.css("tr")]
    assert "zh, tokens 99.70 % 99.70 %" in rows
    assert "zh, whole documents 25.00 % 25.00 %" in rows
    samples = page.css_first("#samples p")
    assert samples is not None
    assert "Held-out text of the same length repeats itself by en 3.1 %, zh 1.2 %." in samples.text()


def test_better_and_worse_languages_are_told_apart(pages: dict[str, str]) -> None:
    cells = {
        node.text(): node.attributes["class"]
        for node in LexborHTMLParser(pages["2026-01-02"]).css("#comparison td.good, #comparison td.bad")
    }
    assert cells == {"−0.2000": "n good", "+0.1000": "n bad"}


def test_unusual_measures_are_marked_and_counted(reports: dict[str, dict[str, Any]]) -> None:
    usual = {"measure": "bytes a token", "tonight": 3.0, "median": 3.0, "low": 2.9, "high": 3.1, "unusual": False}
    page = render_html(reports["2026-01-02"] | {"drift": [usual | {"measure": "<b>", "unusual": True}, usual]})
    assert "1 of 2 measures" in page
    assert '<tr class="now"><td>⚠ &lt;b&gt;</td>' in page


def test_chinese_text_is_marked_as_such_for_the_fonts(pages: dict[str, str]) -> None:
    marked = LexborHTMLParser(pages["2026-01-02"]).css('#duplicates p[lang="zh-Hans"]')
    assert any("明月" in node.text() for node in marked)


def test_the_same_night_gives_the_same_page(reports: dict[str, dict[str, Any]], pages: dict[str, str]) -> None:
    assert render_html(reports["2026-01-02"]) == pages["2026-01-02"]


def test_a_tuning_is_shown_with_scores_reasons_ways_and_samples(pages: dict[str, str]) -> None:
    section = LexborHTMLParser(pages["2026-01-02"]).css_first("#applications")
    assert section is not None
    rows = [node.text(strip=True, separator=" ") for node in section.css("tr")]
    assert "translation zh 20 21.2 chrF 20.0 to 22.5 BLEU 3.0 3 % 1.10" in rows
    assert "translation better: <script>alert(1)</script>" in rows
    assert "summarize zh quoted" in rows
    tags = [node.text() for node in section.css(".tag, .title")]
    assert tags == ["translation to zh", "given", "written", "reference", "answer", "given", "written", "reference"]
    texts = [node.text() for node in section.css("p.text")]
    assert texts[:3] == ["<script>alert(1)</script>", "[U+202E]abc␛", '"><img src=x onerror=alert(2)>']


def test_a_night_without_tuning_has_no_section_about_it(pages: dict[str, str]) -> None:
    for night in ("2026-01-01", "2026-01-03"):
        assert LexborHTMLParser(pages[night]).css_first("#applications") is None
