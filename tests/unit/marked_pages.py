"""Sixty web pages whose main text is marked by hand: forum, news, blog, documentation, shop, wiki, in both languages.

Fifteen layouts, each after a kind of software that many sites run, hold marks (`⟦` and `⟧`) around what a reader came
for: headings, paragraphs, posts, reviews, tables of facts. Menus, dates, names of authors, signatures, lists of other
pages, banners and forms stand outside. Sentences come from `pages/texts.txt`, which was written for this.
"""

import html
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

TEXTS = Path(__file__).with_name("pages") / "texts.txt"
LAYOUTS = Path(__file__).with_name("pages") / "layouts.html"
_MARKED = re.compile("⟦(.*?)⟧", re.DOTALL)
_TAG = re.compile(r"<(/?)(\w+)[^>]*>")
_INLINE = {"a", "b", "code", "em", "font", "i", "span", "strong"}
_WORD = re.compile(r"[\u4e00-\u9fff]|[^\W\u4e00-\u9fff]+")
_PLACE = re.compile(r"\{(\w+)(?: (\w+))?\}|\[\[(\d+)\s(.*?)\]\]", re.DOTALL)
_CHOICE = re.compile(r"\{\{(.*?)\|(.*?)\}\}", re.DOTALL)
MENU = {
    "zh": "首页 新闻 体育 财经 论坛 视频 图片 专题 生活 科技 教育 健康 汽车 旅游 读书 游戏 帮助 关于我们 联系".split(),
    "en": "Home|News|Sport|Business|Forums|Video|Photos|Features|Living|Technology|Education|Health|Property|Motoring|"
    "Travel|Books|Games|Help|About us|Contact".split("|"),
}
NAMES = {
    "zh": "山里人 小舟 木头人 老周 半亩田 阿青 南风 过路的猫".split(),
    "en": "oldfield tinker_77 marlow Rosa.K hedgehog plainjane bolt nightowl".split(),
}


class MarkedPage(NamedTuple):
    """A page, and the text that a reader came for."""

    name: str
    """Layout, language and number, as in `forum-table-zh-1`."""
    html: str
    main: str


def marked_pages() -> Iterator[MarkedPage]:
    """Yield the sixty pages, always the same."""
    topics: dict[str, list[tuple[str, list[str]]]] = {"zh": [], "en": []}
    for block in TEXTS.read_text(encoding="utf-8").strip().split("\n\n"):
        head, *sentences = block.split("\n")
        topics[head[:2]].append((head[3:], sentences))
    layouts = LAYOUTS.read_text(encoding="utf-8").split("<!--layout ")[1:]
    for number, layout in enumerate(layouts):
        name, _, template = layout.partition("-->\n")
        for language, known in topics.items():
            for copy in range(2):
                marked = _filled(template, language, known, 2 * number + copy)
                main = "\n".join(_plain(part) for part in _MARKED.findall(marked))
                yield MarkedPage(f"{name}-{language}-{copy + 1}", re.sub("[⟦⟧]", "", marked), main)


def _filled(template: str, language: str, topics: list[tuple[str, list[str]]], seed: int) -> str:
    """Return a layout with its places filled.

    `{{中文|English}}` is a choice by language, `[[3 ...]]` repeats, `{t}` is the title, `{s 2}` the next sentences,
    `{other}` another page's title, `{m}` the next word of a menu, `{u}` a user, `{n}` a number.
    """
    title, sentences = topics[seed % len(topics)]
    # The second page of a layout is longer than the first.
    more, at, counted = 2 * (seed % 2), 0, seed

    def place(found: re.Match[str]) -> str:
        nonlocal at, counted
        if found[3]:
            return "".join(_PLACE.sub(place, found[4]) for _ in range(int(found[3]) + more))
        counted += 1
        match found[1]:
            case "t":
                return title
            case "s":
                count = int(found[2] or 1)
                at += count
                taken = [sentences[(at - count + i) % len(sentences)] for i in range(count)]
                # As editors wrap their source.
                return ("\n" if counted % 3 == 0 else "" if language == "zh" else " ").join(taken)
            case "other":
                return topics[counted % len(topics)][0] if topics[counted % len(topics)][0] != title else topics[0][0]
            case "m":
                return MENU[language][counted % len(MENU[language])]
            case "u":
                return NAMES[language][counted % len(NAMES[language])]
            case _:
                return str(counted * 7919 % 9973)

    chosen = _CHOICE.sub(lambda found: found[1 if language == "zh" else 2], template)
    return _PLACE.sub(place, chosen)


def _plain(marked: str) -> str:
    spaced = _TAG.sub(lambda tag: "" if tag[2].lower() in _INLINE else "\n", marked)
    return html.unescape(spaced)


def words(text: str) -> list[str]:
    """Return the words of a text: each ideograph, and each run of other letters and digits."""
    return _WORD.findall(text.lower())


def f1(found: str, truth: str) -> float:
    """Return the harmonic mean of precision and recall of words, counted as often as they occur."""
    left, right = Counter(words(found)), Counter(words(truth))
    return 2 * (left & right).total() / max(1, left.total() + right.total())
