"""Lines of printed pages as paragraphs: without what repeats at the edges of pages, hyphens at line ends undone."""

import re
import statistics
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from slimpajama.corpus.sources.content import WIDE

# Lines at the upper and at the lower edge of a page that may be a header or a footer, and their share of its height.
EDGE, EDGE_SHARE = 2, 0.07
_NUMBER = re.compile(
    r"[-–—·.\s]*(?:第\s*)?(?:page\s+)?(?:\d{1,5}|[ivxl]{1,8})(?:\s*(?:[/／]|of)\s*\d{1,5})?(?:\s*页.{0,12})?[-–—·.\s]*",
    re.IGNORECASE,
)
_DIGITS = re.compile(r"\d+|\b[ivxl]+\b", re.IGNORECASE)
_ITEM = re.compile(
    r"[•·●■◆▪◦‣*–—-]\s|\(?\d{1,3}[.)]\s|\d{1,3}、|[（(][一二三四五六七八九十\d]{1,3}[）)]|[一二三四五六七八九十]{1,3}、|第.{1,5}[章节条]"
)
_END = re.compile(r"[.!?。！？：:；;…][\"'”’」』）)\]]*$")
_HYPHEN = re.compile(r"(?<=[^\W\d_])[-‐]$")
_WIDE_END, _WIDE_START = re.compile(f"{WIDE}$"), re.compile(WIDE)


class Line(NamedTuple):
    """A line of a page; places in points from its lower left corner."""

    text: str
    left: float
    right: float
    first: float
    """Height of its first character."""
    last: float
    """Height of its last character: another one where a hyphen joins two lines."""


class _Measure(NamedTuple):
    left: float
    right: float
    pitch: float


def paragraphs(pages: Sequence[Sequence[Line]]) -> list[str]:
    """Return the paragraphs of pages without headers, footers and page numbers."""
    found: list[str] = []
    before: Line | None = None
    for lines in _without_edges(pages):
        if not lines:
            continue
        measure = _measure(lines)
        for number, line in enumerate(lines):
            if before is None or _begins(line, before, measure, number > 0):
                found.append(line.text)
            else:
                found[-1] = _joined(found[-1], line.text)
            before = line
    return found


def _without_edges(pages: Sequence[Sequence[Line]]) -> list[list[Line]]:
    heights = [line.first for lines in pages for line in lines]
    low, high = min(heights, default=0.0), max(heights, default=0.0)
    share = EDGE_SHARE * (high - low)
    edges = []
    for lines in pages:
        by_height = sorted(range(len(lines)), key=lambda at: -lines[at].first)
        upper = {at for at in by_height[:EDGE] if lines[at].first >= high - share}
        edges.append(upper | {at for at in by_height[-EDGE:] if lines[at].first <= low + share})
    # A header stands at the same height of many pages, with another number at most.
    seen = Counter(key for lines, edge in zip(pages, edges, strict=True) for key in {_key(lines[at]) for at in edge})
    enough = 2 if len(pages) < 5 else 3
    return [
        [
            line
            for at, line in enumerate(lines)
            if at not in edge or not (_NUMBER.fullmatch(line.text) or seen[_key(line)] >= enough)
        ]
        for lines, edge in zip(pages, edges, strict=True)
    ]


def _key(line: Line) -> tuple[str, int]:
    return _DIGITS.sub("0", line.text), round(line.first / 3)


def _measure(lines: Sequence[Line]) -> _Measure:
    lefts = Counter(round(line.left) for line in lines)
    steps = [step for one, two in pairwise(lines) if 1 < (step := one.last - two.first) < 100]
    return _Measure(
        left=min(lefts, key=lambda left: (-lefts[left], left)),
        right=max(line.right for line in lines),
        pitch=statistics.median_low(steps) if steps else 14.0,
    )


def _begins(line: Line, before: Line, page: _Measure, same_page: bool) -> bool:
    """Say whether a line begins a paragraph."""
    if _ITEM.match(line.text):
        return True
    step = before.last - line.first
    if not same_page or step < 0:
        # The paragraph goes on at the top of the next page or column, unless it had ended.
        return bool(_END.search(before.text)) or line.left > page.left + page.pitch / 2
    if step > 1.25 * page.pitch or line.left > max(before.left, page.left) + page.pitch / 2:
        return True
    # Whether the next word would have had room.
    word = line.text.split(maxsplit=1)[0]
    letters = 2 if _WIDE_START.match(word) else len(word) + 1
    room = page.right - before.right - letters * (line.right - line.left) / max(1, len(line.text))
    return room > (page.pitch / 2 if _END.search(before.text) else 0.25 * (page.right - page.left))


def _joined(before: str, after: str) -> str:
    if _HYPHEN.search(before):
        return before[:-1] + after if after[0].islower() else before + after
    between = "" if before.endswith("-") or (_WIDE_END.search(before) and _WIDE_START.match(after)) else " "
    return before + between + after
