"""What a character is compared as, whichever code point a font, a keyboard or an encoding has chosen for it.

Near-duplicates, overlaps with tests and words all ask here, so that they see the same characters alike.
"""

import unicodedata

# Radicals that PDF fonts give in place of ideographs, and these. Unicode decomposes all of U+2F00 to U+2FD5 (⼀ is 一),
# of U+2E80 to U+2EF3 only two. Source of the others: Unicode's EquivalentUnifiedIdeograph, where the radical stands for
# an ideograph of its own and not only for a part of others.
_SUPPLEMENT = (
    "⺁厂⺂乛⺃乚⺄乙⺅亻⺆冂⺉刂⺊卜⺋㔾⺎兀⺏尣⺐尢⺒巳⺓幺⺔彑⺕彐⺖忄⺗㣺⺘扌⺙攵⺛旡⺝月⺞歺⺠民⺡氵⺢氺⺣灬⺤爫⺥爫⺦丬⺨犭⺩王⺪疋⺬示⺭礻"
    "⺯糹⺰纟⺱罓⺲罒⺶羊⺷羊⺸羋⺹耂⺺肀⺻聿⺽臼⺾艹⺿艹⻀艹⻁虎⻂衤⻃覀⻄西⻅见⻆角⻈讠⻉贝⻋车⻌辶⻍辶⻎辶⻏阝⻐钅⻑長⻒镸⻓长⻔门⻕阜⻖阝"
    "⻗雨⻘青⻙韦⻚页⻛风⻜飞⻝食⻟飠⻠饣⻢马⻣骨⻤鬼⻥鱼⻦鸟⻧卤⻨麦⻩黄⻪黾⻫斉⻬齐⻭歯⻮齿⻯竜⻰龙⻱龜⻲亀"
)
_FORMS = dict(zip(_SUPPLEMENT[::2], _SUPPLEMENT[1::2], strict=True))
FONT_FORMS = {
    **{chr(point): unicodedata.normalize("NFKC", chr(point)) for point in (0x2E9F, 0x2EF3, *range(0x2F00, 0x2FD6))},
    **_FORMS,
    **{chr(point): unicodedata.normalize("NFKC", chr(point)) for point in range(0xFB00, 0xFB07)},
}
"""Code points that a font chose and no writer: radicals in place of ideographs, ligatures of Latin letters."""
# Punctuation of another width or shape: Chinese text is typed with either.
_MARKS = dict(
    zip("。、“”„‟‘’‚‛「」『』【】〔〕〖〗《》〈〉‐‑‒–—―−", ".,\"\"\"\"''''\"\"''[][][]<><>-------", strict=True)
)
_PLAIN = str.maketrans({**_FORMS, **_MARKS})


def folded(char: str) -> str:
    """Return what a character is compared as: in lower case, taken apart as NFKD has it, and empty if nobody sees it.

    So full and half width, radicals and ideographs, ligatures and letters, letters with accents and letters before
    accents are alike. Punctuation is as ASCII has it. White space is one space. A character stays whole where it would
    become more characters than it has bytes in UTF-8, or more than twice the bytes.
    """
    if char.isspace():
        return " "
    # The last two: variation selectors and tags.
    if unicodedata.category(char) == "Cf" or "\ufe00" <= char <= "\ufe0f" or "\U000e0000" <= char < "\U000e0200":
        return ""
    if ord(char) not in _PLAIN and not unicodedata.decomposition(char):
        return char.lower()
    found = _apart(char)
    if (lowered := _lower(found)) != found:
        # What became small may come apart once more.
        found = _lower(_apart(lowered))
    size = len(char.encode())
    fits = len(found) <= size and len(found.encode()) <= 2 * size
    return found if fits and " " not in found else _lower(char)


def _apart(text: str) -> str:
    return unicodedata.normalize("NFKD", text).translate(_PLAIN)


def _lower(text: str) -> str:
    # Each by itself: `str.lower` would look around a capital sigma.
    return "".join(map(str.lower, text))
