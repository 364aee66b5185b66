"""Visible text of a web page: the title first, a line for every block, white space as a browser shows it."""

import re
from collections.abc import Container, Iterator
from html import unescape

from selectolax.lexbor import LexborHTMLParser, LexborNode

from slimpajama.corpus.sources.content import UNSEEN, WIDE, around_content, content_lines
from slimpajama.corpus.sources.hidden import hidden_nodes

# Most tags times depth. The parser's time grows with the square of the depth: 100,000 open tags take 20 seconds.
MAX_WORK = 20_000_000
# Most tags that an end tag could close. Whether it does close one may depend on a table in between.
MAX_OPEN = 150_000
# Most copied elements. An open `<font>` or the like is copied into every later block, at 400 bytes a copy.
MAX_COPIES = 5_000_000
# Most attributes of one tag. The parser compares each with all before it.
MAX_ATTRIBUTES = 10_000
# Most options of a page whose lists are parsed as lists. The parser goes through a list at each of its options.
MAX_OPTIONS = 500
# Most tags of a page in which content is looked for. The library takes 7 microseconds and a kilobyte for each.
MAX_CONTENT = 300_000

_TAG = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9]*)")
# Tags without an end tag, or whose end the next tag of their kind implies.
_NEVER_OPEN = re.compile(
    "area|base|br|col|d[dt]|embed|hr|img|input|li|link|meta|option|p|source|t(body|d|foot|h|head|r|rack)|wbr",
    re.IGNORECASE,
)
_WHITE = " \t\n\r\f"
_FORMATTING = "b|big|code|em|font|i|nobr|s|small|strike|strong|tt|u"
_COPIED = re.compile(rf"<(?:{_FORMATTING})[\s/][^>]*", re.IGNORECASE)
# One that is closed for certain: its end tag follows after text and `<span>`s alone, and no quote hides a `>`.
_ATTRIBUTES = rf"""(?:[{_WHITE}]++[\w:-]++(?:=(?:"[^"<>]*+"|'[^'<>]*+'|[\w./:;#%-]++))?+)*+[{_WHITE}]*+"""
_CLOSED = re.compile(
    rf"<({_FORMATTING}){_ATTRIBUTES}>(?:[^<]++|</?span{_ATTRIBUTES}>)*+</\1[{_WHITE}]*+>", re.IGNORECASE | re.ASCII
)
_LONG_TAG = re.compile(r"<[a-zA-Z][^<>]{20000,}")
_OPTION, _LIST = re.compile("<option", re.IGNORECASE), re.compile("(</?)select", re.IGNORECASE)
# Mark the borders of blocks and of cells. They are removed from every text first: `&#30;` may have put them there.
_BREAK, _CELL = "\x1e", "\x1f"
_BORDERS = {
    **dict.fromkeys(
        "address article aside blockquote br caption center dd details dialog div dl dt fieldset figcaption figure "
        "footer form h1 h2 h3 h4 h5 h6 header hr legend li main nav ol option p pre section select summary table "
        "textarea tr ul".split(),
        _BREAK,
    ),
    **dict.fromkeys(("td", "th"), _CELL),
}
_BLOCKS = "|".join(tag for tag, border in _BORDERS.items() if border == _BREAK)
_BLOCK_TAG = re.compile(rf"<(?:{_BLOCKS})\b", re.IGNORECASE)
_TAGS = re.compile(
    rf"</?(?:{_BLOCKS}|a|abbr|b|big|body|cite|code|del|em|font|html|i|img|ins|mark|s|small|span|strike|strong|"
    r"su[bp]|t[dh]|u|wbr)(?:\s[^<>]*)?/?>",
    re.IGNORECASE,
)
_TAG_OR_END = re.compile("<[^<>]*>|\n")
_AS_WRITTEN = frozenset(("pre", "textarea"))
_SPACE = re.compile(rf"[{_WHITE}{_CELL}]+")
_BROKEN_LINE = re.compile(f"\n(?<={WIDE}\n)(?={WIDE})")


class TreeTooLargeError(ValueError):
    """The page would take minutes to parse; the message says why."""


def visible_text(page: str, main: bool = False) -> str:
    """Return what a reader sees of a page, one line a block; empty where there is nothing.

    Args:
        page: Its HTML.
        main: Leave out what stands around its content: menus, lists of other pages, forms, notes below. Where no
            content is found, or the page has more than `MAX_CONTENT` tags, everything stays.

    Raises:
        TreeTooLargeError: The page would take more than seconds to parse.
    """
    tags, depth = _check_work(page)
    if sum(1 for _ in _OPTION.finditer(page)) > MAX_OPTIONS:
        # A `div` is a block, too, and has the same text.
        page = _LIST.sub(r"\1div", page)
    tree = LexborHTMLParser(page)
    try:
        hidden = hidden_nodes(tree, tags, depth)
    except OverflowError as error:
        raise TreeTooLargeError(str(error)) from None
    main = main and tags <= MAX_CONTENT
    if main and tree.body:
        hidden |= around_content(tree.body, hidden)
    lines = list(_lines("".join(_visible_texts(tree.body, hidden)))) if tree.body else []
    if main and lines:
        found = (line.replace(_BREAK, "") for line in content_lines(tree, hidden.values(), lines))
        return "\n".join(line for line in map(_one_line, found) if line)
    title_node = tree.css_first("title")
    title = _one_line(title_node.text().replace(_BREAK, "") if title_node else "")
    if title and (not lines or lines[0] != title):
        lines.insert(0, title)
    return "\n".join(lines)


def field_text(text: str) -> str:
    """Return what a reader sees of a field with tags or entities; without blocks its lines stay lines.

    Raises:
        TreeTooLargeError: It would take more than seconds to parse.
    """
    if not _TAGS.search(text):
        return unescape(text)
    if not _BLOCK_TAG.search(text):
        text = _TAG_OR_END.sub(lambda found: "<br>" if found[0] == "\n" else found[0], text)
    return visible_text(text)


def _visible_texts(body: LexborNode, hidden: Container[int]) -> Iterator[str]:
    """Yield the visible texts of a tree in order, with a break where a block begins or ends."""
    node, as_written = body, 0
    while True:
        tag = node.tag or ""
        child = None
        if node.mem_id in hidden:
            pass
        elif tag == "-text":
            text = (node.text_content or "").replace(_BREAK, "").replace(_CELL, "")
            yield text.replace("\n", _BREAK) if as_written else text
        elif tag not in UNSEEN:
            yield _BORDERS.get(tag, "")
            child = node.child
            as_written += child is not None and tag in _AS_WRITTEN
        if child is not None:
            node = child
            continue
        yield _BORDERS.get(tag, "")
        # There is no next node: go up until there is one.
        while node.next is None:
            if node.parent is None or node.parent.tag == "html":
                return
            node = node.parent
            as_written -= (node.tag or "") in _AS_WRITTEN
            yield _BORDERS.get(node.tag or "", "")
        node = node.next


def _lines(text: str) -> Iterator[str]:
    for line in text.split(_BREAK):
        if collapsed := _one_line(line):
            yield collapsed


def _one_line(text: str) -> str:
    """Return a text as a browser sets it into a line: where its source breaks between ideographs is no space."""
    if "\n" in text:
        pieces = (piece.strip(_WHITE) for piece in text.split("\n"))
        text = _BROKEN_LINE.sub("", "\n".join(piece for piece in pieces if piece))
    return _SPACE.sub(" ", text).strip(" ")


def _check_work(page: str) -> tuple[int, int]:
    """Return how many tags a page has, and how deep they may be nested."""
    tags = opened = depth = deepest = 0
    for tag in _TAG.finditer(page):
        tags += 1
        if _NEVER_OPEN.fullmatch(tag[2]):
            continue
        opened += not tag[1]
        depth = max(0, depth - 1) if tag[1] else depth + 1
        deepest = max(deepest, depth)
    if tags * deepest > MAX_WORK or opened > MAX_OPEN:
        raise TreeTooLargeError(f"{tags} tags, {deepest} deep")
    # The parser copies three equal ones at most (HTML's "Noah's Ark clause").
    copied = 3 * len(set(_COPIED.findall(page)))
    if tags * copied > MAX_COPIES:
        copied = 3 * len(set(_COPIED.findall(_CLOSED.sub("", page))))
    if tags * copied > MAX_COPIES:
        raise TreeTooLargeError(f"{tags} tags, {copied} to be open at once")
    attributes = max((len(tag.split()) for tag in _LONG_TAG.findall(page)), default=0)
    if attributes > MAX_ATTRIBUTES:
        raise TreeTooLargeError(f"a tag of {attributes} attributes")
    return tags, deepest
