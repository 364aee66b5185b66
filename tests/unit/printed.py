"""PDF out of known text, in both languages, with a header and a page number on each page."""

import difflib
import io
from pathlib import Path

from reportlab.lib.styles import ParagraphStyle
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.cidfonts import UnicodeCIDFont
from reportlab.platypus import Paragraph, SimpleDocTemplate

TEXTS = Path(__file__).with_name("pages") / "texts.txt"
FONT = {"zh": "STSong-Light", "en": "Helvetica"}
pdfmetrics.registerFont(UnicodeCIDFont("STSong-Light"))


def known_text(language: str) -> list[str]:
    """Return titles and paragraphs, some pages of them."""
    blocks = TEXTS.read_text(encoding="utf-8").strip().split("\n\n")
    kept = [block.split("\n") for block in blocks if block.startswith(language)]
    between = "" if language == "zh" else " "
    return [line for head, *rest in kept for line in (head[3:], between.join(rest[:6]), between.join(rest[6:]))]


def pdf(lines: list[str], language: str, *, indent: int = 22, gap: int = 0) -> bytes:
    """Return paragraphs as a PDF: first lines `indent` points to the right, `gap` points between paragraphs."""
    out = io.BytesIO()

    def edges(canvas, document):
        canvas.setFont(FONT[language], 9)
        canvas.drawString(72, 800, {"zh": "街谈巷议 二〇二四年文集", "en": "Sundry Papers, collected 2024"}[language])
        canvas.drawCentredString(
            300, 30, {"zh": f"第 {document.page} 页", "en": f"Page {document.page} of 9"}[language]
        )

    style = ParagraphStyle(
        "body", fontName=FONT[language], fontSize=11, leading=24, firstLineIndent=indent, spaceAfter=gap,
        wordWrap="CJK" if language == "zh" else None,
    )  # fmt: skip
    flow = [Paragraph(line, style) for line in lines]
    SimpleDocTemplate(out).build(flow, onFirstPage=edges, onLaterPages=edges)
    return out.getvalue()


def same_share(truth: str, found: str) -> float:
    """Return how much of the longer one of two texts stands in both, in the same order, in characters."""
    pairs = difflib.SequenceMatcher(None, truth, found, autojunk=False)
    return sum(block.size for block in pairs.get_matching_blocks()) / max(len(truth), len(found))
