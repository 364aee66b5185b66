"""PDF, docx and epub, made here out of known text."""

import io
import re
import zipfile
from functools import partial

import pytest
from office import W, docx, epub, packed
from printed import known_text, pdf, same_share
from reportlab.pdfgen.canvas import Canvas

from slimpajama.corpus.sources.files import read
from slimpajama.corpus.sources.paragraphs import Line, paragraphs
from slimpajama.corpus.sources.records import ReadOptions


def taken(name: str, data: bytes, max_bytes: int = 1_000_000) -> tuple[str, list[str]]:
    """Return the text of a file, and the rules by which it is refused."""
    options = ReadOptions(max_document_bytes=max_bytes)
    batches = list(read(partial(io.BytesIO, data), name, options))
    texts = [text for batch in batches for text in batch.table["text"].to_pylist()]
    return "".join(texts), [bad.rule for batch in batches for bad in batch.rejected]


def drawn(*lines: str, encrypt: str | None = None) -> bytes:
    out = io.BytesIO()
    canvas = Canvas(out, encrypt=encrypt)
    for number, line in enumerate(lines):
        canvas.drawString(72, 700 - 16 * number, line)
    canvas.save()
    return out.getvalue()


@pytest.mark.parametrize(("indent", "gap"), [(22, 0), (0, 8)])
@pytest.mark.parametrize("language", ["zh", "en"])
def test_a_pdf_gives_back_the_text_that_it_was_made_of(language: str, indent: int, gap: int):
    lines = known_text(language)
    text, bad = taken("a.pdf", pdf(lines, language, indent=indent, gap=gap))
    assert bad == []
    assert same_share("\n".join(lines), text) >= 0.99
    # A paragraph whose sentence ends a page may be two. No space stands where a line of Chinese ended.
    assert len(set(lines) - set(text.split("\n"))) <= 0.1 * len(set(lines))
    assert not re.search("街谈巷议|第 . 页|Sundry|Page .* of", text)


def test_hyphens_at_line_ends_are_undone_and_others_stay():
    text, _ = taken(
        "a.pdf", drawn("The long and winding hyphen-", "ated word is one again, of 1990-", "1995 and so on for now")
    )
    assert text == "The long and winding hyphenated word is one again, of 1990-1995 and so on for now"


def test_a_header_repeats_at_its_place_and_a_sentence_of_the_text_does_not():
    pages = [
        [
            Line("年报 Report", 72, 140, 800, 800),
            Line(f"正文第{n}句。", 72, 500, 700, 700),
            Line(f"- {n} -", 290, 300, 30, 30),
        ]
        for n in range(1, 5)
    ]
    assert paragraphs(pages) == [f"正文第{n}句。" for n in range(1, 5)]


def test_a_paragraph_goes_on_across_pages_in_both_languages():
    pages = [
        [Line("他走了很远的路，才看见", 72, 500, 700, 700)],
        [Line("河边的灯。", 72, 160, 701, 701), Line("Then the river", 94, 500, 680, 680)],
        [Line("began to rise.", 72, 140, 702, 702)],
    ]
    assert paragraphs(pages) == ["他走了很远的路，才看见河边的灯。", "Then the river began to rise."]


def test_a_scan_without_text_is_refused_by_name():
    out = io.BytesIO()
    canvas = Canvas(out)
    for number in (1, 2):
        canvas.rect(72, 72, 400, 600, fill=1)
        canvas.drawString(300, 30, str(number))
        canvas.showPage()
    canvas.save()
    assert taken("scan.pdf", out.getvalue()) == ("", ["no-text-layer"])


def test_what_cannot_be_read_is_refused_by_its_rule():
    whole = pdf(known_text("en"), "en")
    assert taken("a.pdf", drawn("locked", encrypt="secret")) == ("", ["encrypted"])
    assert taken("a.pdf", b"no PDF at all") == ("", ["damaged"])
    assert taken("a.pdf", b"") == ("", ["empty-file"])
    assert taken("a.pdf", whole, max_bytes=1000) == ("", ["too-large"])
    assert taken("a.docx", b"PK\x03\x04 cut") == ("", ["damaged"])
    assert taken("a.docx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600)) == ("", ["encrypted"])
    assert taken("a.docx", packed(other="x")) == ("", ["damaged"])
    assert taken("a.docx", docx("<w:p><w:t>open")) == ("", ["damaged"])
    assert taken("a.epub", epub("<p>x")[:-30]) == ("", ["damaged"])
    locked = '<encryption><CipherReference URI="O/t%20x/c0.xhtml"/></encryption>'
    assert taken("a.epub", epub("<p>x", **{"META-INF/encryption.xml": locked})) == ("", ["encrypted"])


def test_a_word_document_is_its_paragraphs_rows_and_notes_as_a_reader_sees_them():
    row = (
        "<w:tr><w:tc><w:p><w:r><w:t>甲</w:t></w:r></w:p></w:tc><w:tc><w:p><w:r><w:t>one</w:t></w:r></w:p></w:tc></w:tr>"
    )
    body = (
        "<w:p><w:r><w:t>第一</w:t></w:r><w:r><w:t>段。</w:t></w:r></w:p><w:p/>"
        "<w:p><w:r><w:t>A</w:t><w:tab/><w:t>b</w:t><w:br/><w:t>c</w:t></w:r>"
        "<w:r><w:rPr><w:vanish/></w:rPr><w:t>hidden</w:t></w:r><w:del><w:r><w:t>deleted</w:t></w:r></w:del></w:p>"
        f"<w:tbl>{row}</w:tbl><w:p><w:r><w:t>end</w:t></w:r></w:p>"
    )
    note = f'<w:footnotes xmlns:w="{W}"><w:p><w:r><w:t>注</w:t></w:r></w:p></w:footnotes>'
    header = f'<w:hdr xmlns:w="{W}"><w:p><w:r><w:t>header</w:t></w:r></w:p></w:hdr>'
    made = docx(body, **{"word/footnotes.xml": note, "word/header1.xml": header})
    assert taken("报告.docx", made) == ("第一段。\nA\tb\nc\n甲 one\nend\n注", [])


def test_a_book_is_its_chapters_in_its_own_order():
    head = (
        "<?xml version='1.0' encoding='utf-8'?><html xmlns='http://www.w3.org/1999/xhtml'><head><title/></head><body>"
    )
    book = epub(
        f"{head}<h1>第二章</h1><p>后来\n下雨了。<span style='display:none'>藏</span></p></body></html>",
        f"{head}<h1>One</h1><p><a id='x'/>It was\na dry year.</p></body></html>",
    )
    assert taken("a.epub", book) == ("One\nIt was a dry year.\n第二章\n后来下雨了。", [])


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_document_that_is_packed_by_a_method_that_unpacks_without_a_bound_is_refused(method: int):
    body = f'<w:document xmlns:w="{W}"><w:body><w:p><w:t>今天天气很好。</w:t></w:p></w:body></w:document>'
    assert taken("a.docx", packed(method, **{"word/document.xml": body})) == ("", ["damaged"])


def test_bombs_and_entities_are_refused_at_once():
    zeros = "<w:t>" + "0" * 200_000_000
    assert taken("a.docx", docx(zeros)) == ("", ["too-large"])
    assert taken("a.epub", epub("0" * 50_000_000)) == ("", ["too-large"])
    lol = '<!DOCTYPE d [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]><d>&b;</d>'
    assert taken("a.docx", packed(**{"word/document.xml": lol})) == ("", ["damaged"])
    secret = '<!DOCTYPE d [<!ENTITY a SYSTEM "file:///etc/passwd">]><d>&a;</d>'
    assert taken("a.epub", packed(**{"META-INF/container.xml": secret})) == ("", ["damaged"])
