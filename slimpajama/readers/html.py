"""Visible text of a web page: the title first, a line for every block, white space as a browser shows it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from selectolax.lexbor import LexborHTMLParser, LexborNode

__all__ = ["TreeTooLargeError", "declared_encoding", "visible_text"]

MAX_WORK = 20_000_000  # tags times depth; the parser is quadratic in depth, and 100,000 open tags take 20 seconds

_BLOCKS = re.compile(
    "address|article|aside|blockquote|br|caption|center|dd|details|dialog|div|dl|dt|fieldset|figcaption|figure|footer|"
    "form|h[1-6]|header|hr|legend|li|main|nav|ol|option|p|pre|section|select|summary|table|textarea|tr|ul"
)
_CELLS = re.compile("td|th")
_INVISIBLE = re.compile("head|iframe|math|noscript|object|script|style|svg|template")
_AS_WRITTEN = re.compile("pre|textarea")
_TAG = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9]*)")
_NEVER_OPEN = re.compile(  # no end tag, or one that the next of its kind implies
    "area|base|br|col|d[dt]|embed|hr|img|input|li|link|meta|option|p|source|t(body|d|foot|h|head|r|rack)|wbr",
    re.IGNORECASE,
)
_BREAK = "\x1e"  # cannot come from a page: taken out of its text first
_SPACE = re.compile(r"[ \t\n\r\f]+")
_CHARSET = re.compile(rb"""<meta[^>]{0,200}?charset\s*=\s*["']?\s*([A-Za-z0-9_.:-]{1,40})""", re.IGNORECASE)


class TreeTooLargeError(ValueError):
    """The page's tags are nested deeper than a page's are; the message gives tags and depth."""


def declared_encoding(page: bytes) -> str:
    """Return the encoding that a page names in its first 1,024 bytes, else UTF-8; the name may be unknown.

    Chinese pages that say GB2312 or GBK are read as GB18030, which contains both.
    Source: WHATWG HTML, "prescan a byte stream to determine its encoding".
    """
    found = _CHARSET.search(page[:1024])
    name = found[1].decode("ascii").lower() if found else "utf-8"
    return "gb18030" if name in ("gb2312", "gbk", "x-gbk", "gb_2312-80") else name


def visible_text(page: str) -> str:
    """Return what a reader sees of a page, one line a block; empty where there is nothing.

    Raises:
        TreeTooLargeError: The page would take more than seconds to parse.
    """
    _check_depth(page)
    tree = LexborHTMLParser(page.replace(_BREAK, ""))
    title_node = tree.css_first("title")
    title = _SPACE.sub(" ", title_node.text() if title_node else "").strip()
    lines = list(_lines("".join(_pieces(tree.body)))) if tree.body else []
    if title and (not lines or lines[0] != title):
        lines.insert(0, title)
    return "\n".join(lines)


def _pieces(body: LexborNode) -> Iterator[str]:
    """Yield the visible texts of a tree in order, with a break where a block begins or ends."""
    node, as_written = body, 0
    while True:
        tag = node.tag or ""
        child = None
        if tag == "-text":
            text = node.text_content or ""
            yield text.replace("\n", _BREAK) if as_written else text
        elif not _INVISIBLE.fullmatch(tag) and "hidden" not in node.attributes:
            yield _border(tag)
            child = node.child
            as_written += child is not None and _AS_WRITTEN.fullmatch(tag) is not None
        if child is not None:
            node = child
            continue
        yield _border(tag)
        while node.next is None:  # nothing beside it: back up to where there is something
            if node.parent is None or node.parent.tag == "html":
                return
            node = node.parent
            as_written -= _AS_WRITTEN.fullmatch(node.tag or "") is not None
            yield _border(node.tag or "")
        node = node.next


def _border(tag: str) -> str:
    return _BREAK if _BLOCKS.fullmatch(tag) else " " if _CELLS.fullmatch(tag) else ""


def _lines(text: str) -> Iterator[str]:
    for line in text.split(_BREAK):
        collapsed = _SPACE.sub(" ", line).strip(" ")
        if collapsed:
            yield collapsed


def _check_depth(page: str) -> None:
    tags = depth = deepest = 0
    for tag in _TAG.finditer(page):
        tags += 1
        if _NEVER_OPEN.fullmatch(tag[2]):
            continue
        depth = max(0, depth - 1) if tag[1] else depth + 1
        deepest = max(deepest, depth)
    if tags * deepest > MAX_WORK:
        raise TreeTooLargeError(f"{tags} tags, {deepest} deep")
