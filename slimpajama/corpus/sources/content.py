"""The content of a web page without what stands around it: menus, lists of other pages, notes on the author.

The library resiliparse knows by tags, roles and names what surrounds content. Here is added what Chinese pages and
older software need: more names, blocks that are mostly links, lines of nothing but buttons, dates and numbers.
docs/benchmarks/pages.md has what each finds.
"""

import re
from collections.abc import Container, Iterable, Iterator

from resiliparse.extract.html2text import extract_plain_text
from selectolax.lexbor import LexborHTMLParser, LexborNode

# Ideographs, kana, their punctuation and full-width forms: what is written without spaces.
WIDE = (
    "[\u2e80-\u312f\u31c0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\ufe30-\ufe4f\uff01-\uff60\U00020000-\U0003ffff]"
)
# What holds more of a page's text than this is no menu, whatever its name is.
MOST_AROUND = 0.5
# Links in a block that make it a menu, and their share of its text.
LINKS, LINKED = 3, 0.6
# Of the text without menus, the least that the library must find.
LEAST_FOUND = 0.7
# Characters of the longest line that may be buttons alone.
LONGEST_LABEL = 80
_INLINE = r"((?:</?(?:a|b|em|font|i|span|strong|u)\b[^<>]{0,200}>){0,4})"
_BETWEEN_IDEOGRAPHS = re.compile(
    rf"(<(pre|textarea)\b.*?(?:</\2>|\Z))|(?<={WIDE}){_INLINE}[ \t\r\f]*\n[ \t\r\n\f]*{_INLINE}(?={WIDE})", re.DOTALL
)
# Words of the names of parts around content, with pinyin for path, related, recommended, comments, share, signature.
_AROUND = frozenset(
    "ad ads advert advertisement authi banner breadcrumb breadcrumbs byline categories catlinks copyright crumb crumbs "
    "daohang editsection fastre fenxiang footer guanggao login mainmenu mianbaoxie nav navbar navbox navigation "
    "newsletter pager pagination pinglun pls postdetails profile qianming recommend recommended related share "
    "sharedaddy sign signature social sponsor sponsored subscribe tags toc toolbar toolbox topbar tuijian "
    "widget xiangguan".split()
)
_KEPT = frozenset("article body code h1 h2 h3 html main pre".split())
# Text, even where most of it is links.
_TEXT = frozenset("a blockquote dd dt h1 h2 h3 li p pre tr".split())
_PART = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")
# Elements whose text no reader sees.
UNSEEN = frozenset(
    "audio canvas datalist head iframe math noembed noframes noscript object script style svg template video".split()
)
# A line of nothing but these was set by a program.
_BUTTONS = re.compile(
    "(?:"
    "回复|引用|举报|分享到?|收藏(?:本站)?|设为首页|点赞|踩|打赏|登录|注册|打印|关闭|编辑|讨论|加入购物车|立即购买|返回顶[部端]|"
    "只看该作者|发表评论|[上下]一(?:篇|页|主题)|发表于|发布于?|来源|作者|阅读量?|浏览(?:次数)?|查看|评论|字号|[大中小]|首页|有用|"
    "主题|帖子|reply|quote|report|share|save|like|dislike|helpful|log ?in|sign ?in|register|print|close|edit|talk|"
    "add to (?:cart|basket)|back to top|only this author|post a comment|comments?|previous|next|home|posted(?: on)?|"
    "published|source|by|views?|replies|topics|posts|text size|am|pm|on|"
    r"[年月日]|[\d\W_]"
    r")+",
    re.IGNORECASE,
)
_FOOT = re.compile(
    r"(?:©|\(c\) |copyright\b|powered by\b|版权所有|.{0,40}processed in\b|.{0,20}\bicp备)", re.IGNORECASE
)
_NO_LETTER = re.compile(r"[\W\d_]+")
_LIST = re.compile(r"<(/?)[ou]l\b", re.IGNORECASE)


def around_content(body: LexborNode, hidden: Container[int]) -> dict[int, LexborNode]:
    """Return the elements of a page that stand around its content, by `mem_id`.

    Args:
        body: The page's body.
        hidden: The nodes of it that are not shown.
    """
    parts = list(_parts(body, hidden))
    most = MOST_AROUND * (parts[-1][1] if parts else 0)
    return {node.mem_id: node for node, letters, menu in parts if letters <= most and (menu or _is_around(node))}


def content_lines(tree: LexborHTMLParser, left_out: Iterable[LexborNode], rest: list[str]) -> list[str]:
    """Return the lines of a page's content; the tree is another one afterwards.

    Args:
        tree: A parsed page.
        left_out: Nodes that are not shown, or stand around the content.
        rest: The lines of the page without them. They are returned where the library would leave out much more.
    """
    for node in left_out:
        if node.tag == "-text":
            node.remove()
        else:
            node.attrs["hidden"] = ""
    # The library takes lists outside of `<main>` for menus; what is one is left out by now.
    page = _LIST.sub(r"<\1div", _BETWEEN_IDEOGRAPHS.sub(lambda found: found[1] or found[3] + found[4], tree.html or ""))
    found = extract_plain_text(page, main_content=True, alt_texts=False, list_bullets=False).split("\n")
    lines = found if _letters(found) >= LEAST_FOUND * _letters(rest) else rest
    return [line for line in lines if not _is_set_by_program(line)]


def _letters(lines: list[str]) -> int:
    return len(_NO_LETTER.sub("", "".join(lines)))


def _parts(body: LexborNode, hidden: Container[int]) -> Iterator[tuple[LexborNode, int, bool]]:
    """Yield every element that is shown after what it holds, with its characters and whether it is a menu."""
    node = body
    # Letters, those of them in links, and links of each open element.
    held: list[list[int]] = []
    while True:
        tag, child = node.tag or "", None
        if tag == "-text" and held:
            held[-1][0] += len(_NO_LETTER.sub("", node.text_content or ""))
        elif node.mem_id not in hidden and tag not in UNSEEN:
            child = node.child
            if child is not None:
                # An anchor (`<a id="x"/>`, which is open until the next one) is no link.
                held.append([0, 0, tag == "a" and "href" in node.attributes])
        if child is not None:
            node = child
            continue
        while node.next is None:
            if node.parent is None or not held:
                return
            node = node.parent
            chars, linked, links = held.pop()
            yield node, chars, links >= LINKS and linked >= LINKED * chars and node.tag not in _TEXT
            if not held:
                return
            held[-1][0] += chars
            held[-1][1] += chars if node.tag == "a" and links else linked
            held[-1][2] += links
        node = node.next


def _is_around(node: LexborNode) -> bool:
    if node.tag in _KEPT:
        return False
    attributes = node.attributes
    # Programs make the id of a section out of its heading.
    names = f"{attributes.get('class') or ''} {attributes.get('id') or '' if node.tag != 'section' else ''}"
    return not _AROUND.isdisjoint(part.lower() for part in _PART.findall(names))


def _is_set_by_program(line: str) -> bool:
    if len(line) > LONGEST_LABEL or _NO_LETTER.fullmatch(line):
        return False
    return (_BUTTONS.fullmatch(line) or _FOOT.match(line.strip())) is not None
