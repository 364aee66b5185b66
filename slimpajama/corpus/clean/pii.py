"""Mask personal data by option: e-mail addresses, public IP addresses, Chinese identity cards and mobile numbers.

Identity cards are checked down to their last digit, addresses must be routable: version numbers, order numbers and
`127.0.0.1` stay. What follows a pattern is looked at once a pass, so hostile text costs linear time.
"""

import datetime as dt
import ipaddress
import re
from collections import Counter

import pyarrow as pa
import pyarrow.compute as pc

# 2**(17 - i) mod 11.
_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_CHECK = "10X98765432"

_FOUND = re.compile(
    r"""
    (?: (?P<email> (?<![\w.%+-]) [\w.%+-]{1,64} @ (?:[a-z0-9-]{1,63}\.){1,8} [a-z]{2,24} (?![0-9a-z]) )
    | (?P<id> (?<![0-9a-z]) [1-9][0-9]{16}[0-9x] (?![0-9a-z]) )
    | (?P<ip> (?<![\w.:]) (?: [0-9]{1,3} (?:\.[0-9]{1,3}){3} (?![0-9]|\.[0-9])
                           | [0-9a-f]{1,4} (?: ::?[0-9a-f]{1,4}){3,7} (?![\w:]) ) )
    | (?P<phone> (?<![\w.]) (?:(?:\+|00)?86[ -]?)? 1[3-9][0-9] (?:[0-9]{8}|[ -][0-9]{4}[ -][0-9]{4}) (?!\w) )
    ) \u0338*  # a stroke over the last character would go over the mask's, and make a sign of its own with it
    """,
    re.ASCII | re.IGNORECASE | re.VERBOSE,
)
_MAYBE = r"@|[0-9]{11}|[0-9] ?-?[0-9]{4} ?-?[0-9]{4}|[0-9]\.[0-9]+\.[0-9]+\.[0-9]|[0-9A-Fa-f]:[0-9A-Fa-f:]+:[0-9A-Fa-f]"
"""Whatever `_FOUND` finds has this in it; Arrow's engine passes over the texts that have not."""


def is_identity_card(number: str) -> bool:
    """Return whether 18 characters are a Chinese identity card: a date of birth and the check digit are right.

    Source: GB 11643-1999; the check digit is ISO 7064, MOD 11-2.
    """
    if not re.fullmatch(r"[1-9][0-9]{16}[0-9Xx]", number):
        return False
    try:
        born = dt.date(int(number[6:10]), int(number[10:12]), int(number[12:14]))
    except ValueError:
        return False
    check = _CHECK[sum(weight * int(digit) for weight, digit in zip(_WEIGHTS, number, strict=False)) % 11]
    return 1800 <= born.year < 2100 and check == number[17].upper()


def _is_personal(kind: str, text: str) -> bool:
    if kind == "id":
        return is_identity_card(text)
    if kind == "ip":
        try:
            return ipaddress.ip_address(text).is_global
        except ValueError:
            return False
    return True


def mask(text: str) -> tuple[str, Counter[str]]:
    """Return `text` with `<EMAIL>`, `<IP>`, `<ID>` and `<PHONE>` in place of personal data, and how many of each."""
    counts = Counter[str]()

    def replace(match: re.Match[str]) -> str:
        kind = str(match.lastgroup)
        if not _is_personal(kind, match[kind]):
            return match[0]
        counts[kind] += 1
        return f"<{kind.upper()}>"

    before = ""
    # What stood glued behind an address stands free once that is masked.
    while text != before:
        before, text = text, _FOUND.sub(replace, text)
    return text, counts


def mask_block(texts: pa.LargeStringArray) -> tuple[pa.LargeStringArray, Counter[str]]:
    """Return what `mask` makes of each text, and the sum of its counts."""
    maybe = pc.match_substring_regex(texts, _MAYBE)
    done = [mask(text) for text in texts.filter(maybe).to_pylist()]
    replaced = pa.array([text for text, _ in done], pa.large_string())
    return pc.replace_with_mask(texts, maybe, replaced), sum((found for _, found in done), Counter[str]())
