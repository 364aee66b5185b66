import bz2

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slimpajama.corpus.demo.wikipedia import articles, plain_text


@pytest.mark.parametrize(
    ("wikitext", "expected"),
    [
        ("'''Alabama''' is a [[U.S. state|state]] in the [[South]].", "Alabama is a state in the South."),
        ("A<ref name=x>{{cite|a=b}}</ref> and B<ref name=x/>.", "A and B."),
        ("{{Infobox|a={{b|c}}\n|d=e}}Text", "Text"),
        ("It is {{convert|35|km|mi|abbr=on}} away.", "It is 35 km away."),
        ("The {{lang|fr|roi}} of France", "The roi of France"),
        ("[[File:A.jpg|thumb|A [[cat]] on a [[mat|rug]]]]Text", "Text"),
        ("[[Category:Cats]]Text[[fr:Chat]]", "Text"),
        ("See [http://example.org the page] here.", "See the page here."),
        ("{| class=x\n|-\n| cell\n{| inner |}\n|}\nText", "Text"),
        ("A&nbsp;B &mdash; C", "A B — C"),
        ("Name ({{IPA|x}}; born 1950) and ({{IPA|y}}) more", "Name (born 1950) and more"),
        ("* one\n* two", "one\n\ntwo"),
    ],
)
def test_markup_becomes_prose(wikitext: str, expected: str):
    assert plain_text(wikitext) == expected


def test_the_appendix_goes_with_its_sections_and_text_after_it_stays():
    wikitext = "Intro\n==History==\nOld\n==See also==\n* X\n===More===\n* Y\n==Culture==\nArt\n==References==\nZ"
    assert plain_text(wikitext).split("\n\n") == ["Intro", "History", "Old", "Culture", "Art"]


@given(st.text(st.sampled_from("[]{}|='<>ref/ab\n*#&;:! "), max_size=80))
def test_no_wikitext_breaks_the_stripper(wikitext: str):
    assert isinstance(plain_text(wikitext), str)


def test_redirects_are_no_articles():
    page = "<page><title>{}</title><revision><text>{}</text></revision></page>"
    dump = f"<mediawiki xmlns='x'>{page.format('A', '#REDIRECT [[B]]')}{page.format('B', 'Text of B')}</mediawiki>"
    assert list(articles(bz2.compress(dump.encode()))) == [("B", "B\n\nText of B")]
