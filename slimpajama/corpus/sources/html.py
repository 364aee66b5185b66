"""Visible text of a web page: the title first, a line for every block, white space as a browser shows it."""

import codecs
import contextlib
import re
from collections.abc import Iterator
from html import unescape

from selectolax.lexbor import LexborHTMLParser, LexborNode

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

_BLOCKS = re.compile(
    "address|article|aside|blockquote|br|caption|center|dd|details|dialog|div|dl|dt|fieldset|figcaption|figure|footer|"
    "form|h[1-6]|header|hr|legend|li|main|nav|ol|option|p|pre|section|select|summary|table|textarea|tr|ul"
)
_BLOCK_TAG = re.compile(rf"<(?:{_BLOCKS.pattern})\b", re.IGNORECASE)
_TAGS = re.compile(
    rf"</?(?:{_BLOCKS.pattern}|a|abbr|b|big|body|cite|code|del|em|font|html|i|img|ins|mark|s|small|span|strike|strong|"
    r"su[bp]|t[dh]|u|wbr)(?:\s[^<>]*)?/?>",
    re.IGNORECASE,
)
_TAG_OR_END = re.compile("<[^<>]*>|\n")
_CELLS = re.compile("td|th")
_INVISIBLE = re.compile("head|iframe|math|noscript|object|script|style|svg|template")
_AS_WRITTEN = re.compile("pre|textarea")
_TAG = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9]*)")
# Tags without an end tag, or whose end the next tag of their kind implies.
_NEVER_OPEN = re.compile(
    "area|base|br|col|d[dt]|embed|hr|img|input|li|link|meta|option|p|source|t(body|d|foot|h|head|r|rack)|wbr",
    re.IGNORECASE,
)
_COPIED = re.compile(r"<(?:b|big|code|em|font|i|nobr|s|small|strike|strong|tt|u)[\s/][^>]*", re.IGNORECASE)
_LONG_TAG = re.compile(r"<[a-zA-Z][^<>]{20000,}")
_OPTION, _LIST = re.compile("<option", re.IGNORECASE), re.compile("(</?)select", re.IGNORECASE)
# Marks the borders of blocks. It is removed from every text first: `&#30;` may have put it there.
_BREAK = "\x1e"
_SPACE = re.compile(r"[ \t\n\r\f]+")
_CHARSET = re.compile(rb"""<meta[^>]{0,200}?charset\s*=\s*["']?\s*([A-Za-z0-9_.:-]{1,40})""", re.IGNORECASE)
MANY = 20
_UTF8 = ("utf-8", "utf8", "utf-16", "utf-16le", "utf-16be")
_WIDER = {  # as browsers read them
    **dict.fromkeys(("gb2312", "gbk", "x-gbk", "gb_2312-80"), "gb18030"),
    "big5": "big5hkscs",
    "euc-kr": "cp949",
    "shift_jis": "cp932",
}
# The encodings of WHATWG Encoding, by Python's names.
_ENCODINGS = frozenset(
    "ascii big5 big5hkscs cp1250 cp1251 cp1252 cp1253 cp1254 cp1255 cp1256 cp1257 cp1258 cp866 cp874 cp932 cp949 "
    "euc_jp euc_kr gb18030 iso2022_jp iso8859-1 iso8859-10 iso8859-11 iso8859-13 iso8859-14 iso8859-15 iso8859-16 "
    "iso8859-2 iso8859-3 iso8859-4 iso8859-5 iso8859-6 iso8859-7 iso8859-8 iso8859-9 koi8-r koi8-u mac-cyrillic "
    "mac-roman shift_jis tis-620".split()
)


class TreeTooLargeError(ValueError):
    """The page would take minutes to parse; the message says why."""


def declared_encoding(page: bytes) -> str:
    """Return the encoding that a page begins with or names in its first 1,024 bytes, else UTF-8.

    As browsers do: a byte order mark outweighs the name, a name that can be read as ASCII is not that of UTF-16, and
    pages that say GB2312, GBK or Big5 are read as what contains it. Unlike browsers: a page that is valid UTF-8
    with `MANY` characters beyond ASCII is UTF-8 whatever it says; fewer may be so by chance (GBK's 联通 is).

    Raises:
        LookupError: No encoding of the web; the message is its name. Some of Python's take hours over a hostile page.

    Source: WHATWG HTML, "prescan a byte stream to determine its encoding".
    """
    if page.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    found = _CHARSET.search(page[:1024])
    name = found[1].decode("ascii").lower() if found else "utf-8"
    if page.startswith(codecs.BOM_UTF8) or name in _UTF8 or _is_utf8(page):
        return "utf-8"
    name = _WIDER.get(name, name)
    with contextlib.suppress(LookupError):
        if codecs.lookup(name).name in _ENCODINGS:
            return name
    raise LookupError(name)


def _is_utf8(page: bytes) -> bool:
    try:
        text = page.decode()
    except UnicodeDecodeError:
        return False
    # An ideograph has two bytes more than characters, an accented letter one.
    return len(page) - len(text) >= 2 * MANY


def visible_text(page: str) -> str:
    """Return what a reader sees of a page, one line a block; empty where there is nothing.

    Raises:
        TreeTooLargeError: The page would take more than seconds to parse.
    """
    _check_work(page)
    if sum(1 for _ in _OPTION.finditer(page)) > MAX_OPTIONS:
        # A `div` is a block, too, and has the same text.
        page = _LIST.sub(r"\1div", page)
    tree = LexborHTMLParser(page)
    title_node = tree.css_first("title")
    title = _SPACE.sub(" ", title_node.text().replace(_BREAK, "") if title_node else "").strip()
    lines = list(_lines("".join(_visible_texts(tree.body)))) if tree.body else []
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


def _visible_texts(body: LexborNode) -> Iterator[str]:
    """Yield the visible texts of a tree in order, with a break where a block begins or ends."""
    node, as_written = body, 0
    while True:
        tag = node.tag or ""
        child = None
        if tag == "-text":
            text = (node.text_content or "").replace(_BREAK, "")
            yield text.replace("\n", _BREAK) if as_written else text
        elif not _INVISIBLE.fullmatch(tag) and "hidden" not in node.attributes:
            yield _border(tag)
            child = node.child
            as_written += child is not None and _AS_WRITTEN.fullmatch(tag) is not None
        if child is not None:
            node = child
            continue
        yield _border(tag)
        # There is no next node: go up until there is one.
        while node.next is None:
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


def _check_work(page: str) -> None:
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
        raise TreeTooLargeError(f"{tags} tags, {copied} to be open at once")
    attributes = max((len(tag.split()) for tag in _LONG_TAG.findall(page)), default=0)
    if attributes > MAX_ATTRIBUTES:
        raise TreeTooLargeError(f"a tag of {attributes} attributes")
