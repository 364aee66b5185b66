"""Numbers and texts as people read them; a dash stands for a number that is not known."""

import re
import unicodedata

NONE = "–"
HIDDEN = {"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"}
SPACE = re.compile(r"\s+")


def number(value: float | None) -> str:
    """Return `1,234`."""
    return NONE if value is None else f"{value:,.0f}"


def short(value: float) -> str:
    """Return `2.01 M` from a million on, else `1,234`."""
    return number(value) if value < 1e6 else f"{value / 1e6:,.2f} M"


def size(n_bytes: float | None) -> str:
    """Return `12.3 MB`; units are powers of 1,000."""
    if n_bytes is None:
        return NONE
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n_bytes >= factor:
            return f"{n_bytes / factor:,.1f} {unit}"
    return f"{n_bytes:,.0f} B"


def megabytes(n_bytes: float, places: int = 2) -> str:
    """Return a number of megabytes without its unit, for a column that names it."""
    return f"{n_bytes / 1e6:,.{places}f}"


def decimal(value: float | None, places: int = 3) -> str:
    """Return `0.123`."""
    return NONE if value is None else f"{value:.{places}f}"


def signed(value: float | None) -> str:
    """Return a difference with its sign and four places; the minus is a real one."""
    return NONE if value is None else f"{value:+.4f}".replace("-", "\N{MINUS SIGN}")


def share(value: float | None, places: int = 1) -> str:
    """Return a share as `12.3 %`."""
    return NONE if value is None else f"{100 * value:.{places}f} %"


def visible(text: str) -> str:
    """Return `text` with control, format, bidirectional and unassigned characters spelled out.

    A right-to-left override or a zero-width character could otherwise make a reader see another text than is there.
    Line feeds and tabs stay.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_spell, text))


def _spell(char: str) -> str:
    if char in "\n\t" or unicodedata.category(char) not in HIDDEN:
        return char
    code = ord(char)
    return chr(0x2400 + code) if code < 0x20 else f"[U+{code:04X}]"


def excerpt(text: str | None, limit: int = 240) -> str:
    """Return the beginning of a text in one line of at most `limit` characters."""
    flat = SPACE.sub(" ", (text or "")[: 8 * limit]).strip()
    return flat if len(flat) <= limit else flat[: limit - 1].rstrip() + "…"
