"""Where two texts that resemble each other part."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from slimpajama.core.format import SPACE

# So much of each document is compared: a difference after that is not worth the seconds.
COMPARED_CHARS = 200_000
CUT_SHORT = {("insert", True), ("delete", True)}


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of an excerpt."""

    text: str
    differs: bool
    """Whether the other document has something else, or nothing, here."""


def around_first_difference(
    left: str, right: str, before: int = 48, after: int = 152
) -> tuple[list[Segment], list[Segment]]:
    """Return one excerpt of each text, around the place where they first part.

    Runs of white space count as one blank, as they do in deduplication.

    Args:
        left: One document.
        right: Another one that resembles it.
        before: Characters of context ahead of the difference.
        after: Characters from there on.

    Returns:
        The segments of both excerpts; none differs where the texts are the same.
    """
    left, right = (SPACE.sub(" ", text[:COMPARED_CHARS]).strip() for text in (left, right))
    differing = (place for place, (a, b) in enumerate(zip(left, right, strict=False)) if a != b)
    parting = 0 if left == right else next(differing, min(len(left), len(right)))
    start = max(0, parting - before)
    cut_left, cut_right = left[start : parting + after], right[start : parting + after]
    steps = difflib.SequenceMatcher(None, cut_left, cut_right, autojunk=False).get_opcodes()
    if steps and (steps[-1][0], len(left if steps[-1][0] == "insert" else right) > parting + after) in CUT_SHORT:
        # Here the excerpt ends, but not the document.
        steps.pop()
    sides: tuple[list[Segment], list[Segment]] = ([], [])
    for tag, l0, l1, r0, r1 in steps:
        for side, piece in ((sides[0], cut_left[l0:l1]), (sides[1], cut_right[r0:r1])):
            if piece:
                side.append(Segment(piece, tag != "equal"))
    for side, whole in ((sides[0], left), (sides[1], right)):
        if start:
            side.insert(0, Segment("…", False))
        if parting + after < len(whole):
            side.append(Segment("…", False))
    return sides
