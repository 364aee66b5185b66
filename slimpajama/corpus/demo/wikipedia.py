"""English encyclopaedia text: plain prose out of a MediaWiki XML dump.

The stripper is modest: it knows what these hundred articles use. Templates go, but for the few that stand for text
inside a sentence; tables, references, pictures and the lists at an article's end go, too.
"""

import bz2
import html
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator

_GONE = re.compile(
    r"<!--.*?-->|<ref[^>]*/>|<ref.*?</ref>|<(math|gallery|timeline|table|imagemap|source|code)\b.*?</\1>|__[A-Z]+__",
    re.DOTALL | re.IGNORECASE,
)
_TEMPLATE = re.compile(r"\{\{([^{}]*)\}\}")
_TABLE = re.compile(r"\{\|(?:(?!\{\||\|\}).)*\|\}", re.DOTALL)
_MEDIA = re.compile(r"\[\[\s*(?:File|Image|Category):[^\[\]]*\]\]", re.IGNORECASE)
# Links to the same article in another language.
_OTHER_WIKI = re.compile(r"\[\[[a-z-]{2,12}:[^\[\]|]*\]\]")
# Links in a picture's caption, too: afterwards the picture's link has no brackets in it.
_INNER_LINK = re.compile(r"\[\[(?!\s*(?:File|Image|Category):)(?:[^\[\]|]*\|)?([^\[\]|]*)\]\]", re.IGNORECASE)
_LINK = re.compile(r"\[\[(?:[^\[\]|]*\|)?([^\[\]]*)\]\]")
_URL = re.compile(r"\[(?:https?:)?//\S+\s*([^\]]*)\]")
_MARKUP = re.compile(r"'{2,5}|</?[a-zA-Z][^<>]*>")
_HEADING = re.compile(r"^(={2,6})\s*(.*?)\s*=*\s*$")
_APPENDIX = re.compile(
    r"see also|references|external links|further reading|notes|bibliography|footnotes|sources|citations|gallery|"
    r"notes and references|works cited|discography|filmography",
    re.IGNORECASE,
)
_LIST_MARK = re.compile(r"^[*#:;]+\s*")
# Brackets that held a pronunciation.
_EMPTY_BRACKETS = re.compile(r"\s*\([\s,;:]*\)")
_HALF_EMPTY = re.compile(r"(?<=\()[\s,;:]+|[\s,;:]+(?=\))")
_INNER_SPACE = re.compile(r"[ \t\xa0]+")


def articles(dump: bytes) -> Iterator[tuple[str, str]]:
    """Yield title and plain text of every article of a bz2 dump that is no redirect.

    The dump must be trusted (its hash is pinned): the XML parser expands entities.
    """
    for page in ET.fromstring(bz2.decompress(dump)).iterfind("{*}page"):
        title, text = page.findtext("{*}title", ""), page.findtext("{*}revision/{*}text", "")
        if not text.lstrip().upper().startswith("#REDIRECT"):
            yield title, f"{title}\n\n{plain_text(text)}"


def plain_text(wikitext: str) -> str:
    """Return the prose of an article: headings and paragraphs, one line each, blank lines between them."""
    text = _GONE.sub("", wikitext)
    text = _until_stable(_TEMPLATE, _template_text, text)
    text = _until_stable(_TABLE, lambda _: "", text)
    text = _INNER_LINK.sub(r"\1", _OTHER_WIKI.sub("", text))
    text = _LINK.sub(r"\1", _until_stable(_MEDIA, lambda _: "", text))
    text = html.unescape(_MARKUP.sub("", _URL.sub(r"\1", text)))
    return "\n\n".join(_lines(text))


def _until_stable(pattern: re.Pattern[str], replace: object, text: str) -> str:
    # The innermost of nested constructs goes first.
    for _ in range(20):
        text, count = pattern.subn(replace, text)  # type: ignore[call-overload]
        if not count:
            break
    return text


def _template_text(match: re.Match[str]) -> str:
    """Return what the few templates inside sentences stand for, and nothing for the rest."""
    name, *values = [part.strip() for part in match[1].split("|")]
    plain = [value for value in values if "=" not in value]
    kind = name.lower()
    if kind in ("convert", "cvt") and len(plain) >= 2:
        return f"{plain[0]} {plain[1]}"
    if (kind.startswith("lang") or kind in ("nowrap", "transl", "small", "unicode")) and plain:
        return plain[-1]
    return " – " if kind in ("spaced ndash", "snd", "ndash") else ""


def _lines(text: str) -> Iterator[str]:
    # Level of the appendix heading that is being skipped.
    skipping = 0
    for raw in text.split("\n"):
        line = _INNER_SPACE.sub(" ", raw).strip()
        heading = _HEADING.match(line)
        if heading:
            level = len(heading[1])
            if skipping and level > skipping:
                continue
            skipping = level if _APPENDIX.fullmatch(heading[2]) else 0
            line = heading[2]
        if skipping or line.startswith(("|", "!", "{|", "}}", "|}")):
            continue
        line = _HALF_EMPTY.sub("", _EMPTY_BRACKETS.sub("", _LIST_MARK.sub("", line))).strip()
        if line:
            yield line
