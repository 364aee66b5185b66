"""JSON that is not one object a line: arrays, objects over several lines or several in one, in bounded memory.

Strings and brackets are followed through the stream, and each element becomes one line. Where an element cannot be
right (a string without an end, a bracket of the wrong kind), it is given up, and reading goes on at the next place
that looks as the first element began: so a defect costs one element.
"""

import re
from collections.abc import Iterator

from slimpajama.corpus.sources.streams import BrokenStreamError, TooLong, UntilBroken

# Python's parser fails somewhere below a depth of 1,000: where depends on its caller.
MAX_DEPTH = 500
# Bytes at the beginning of a file that tell what it holds, and how an element begins.
_HEAD = 1 << 16
# Most bytes of a match of the pattern by which reading goes on.
_LONGEST = 512
_FIRST = re.compile(rb'\s*\[?\s*(\{\s{0,64}"[^"\\\n]{1,128}"\s{0,16}:)')
_ANY = re.compile(rb'\{\s{0,64}"')
_IN_STRING = re.compile(rb'(?:[^"\\\n]++|\\[^\n])*+')
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*+"|["\[\]{}]', re.DOTALL)
_MARK = re.compile(rb'["\[\]{},:]')
_QUOTE, _COMMA, _ARRAY, _OBJECT, _BACKSLASH = b'",[{\\'
_CLOSES = {ord("]"): _ARRAY, ord("}"): _OBJECT}
_BLANK = b" \t\r\n\xef\xbb\xbf"


def peeked(stream: Iterator[bytes]) -> tuple[bytes, Iterator[bytes]]:
    """Return the beginning of a stream, as much as tells what it holds, and all of it."""
    whole, head = UntilBroken(stream), bytearray()
    for block in whole:
        head += block
        if len(head) >= _HEAD:
            break

    def everything() -> Iterator[bytes]:
        if head:
            first = bytes(head)
            # Nothing holds it once it is read, see `utf8_blocks`.
            head.clear()
            yield first
            del first
        yield from whole
        whole.check()

    return bytes(head[:_HEAD]), everything()


def has_lines(head: bytes) -> bool:
    """Return whether what begins so has one JSON value a line: no array, no object that goes on in the next line."""
    first = head.lstrip(_BLANK)
    if first[:1] == b"[":
        # No array begins as a line of a log does, `[2024-01-01] ...`, above lines of JSON.
        return not re.match(rb"\[\s*(?:[\[{\]\"]|\Z)", first) and b"\n{" in first
    return not re.match(rb"\{[ \t\r]*\n", first) and not _has_next(first)


def _has_next(head: bytes) -> bool:
    """Return whether a comma or another object stands behind the first one, in its line."""
    depth = 0
    for found in _TOKEN.finditer(head):
        if found[0] == b'"':
            # The head ends inside a string.
            return False
        depth += {b"{": 1, b"[": 1, b"}": -1, b"]": -1}.get(found[0], 0)
        if depth <= 0:
            return re.match(rb"[ \t\r]*[,{]", head[found.end() :]) is not None
    return False


def element_lines(head: bytes, stream: Iterator[bytes], size: int, limit: int) -> Iterator[tuple[int, bytes | TooLong]]:
    """Yield the number of the first element, from 1, and elements, one a line, as `whole_lines` yields lines.

    Never holds more than size, limit and a block.

    Args:
        head: The beginning of the stream.
        stream: Its blocks.
        size: Bytes of a chunk.
        limit: A longer element is skipped in passing and yields `TooLong`.

    Raises:
        BrokenStreamError: The stream breaks off, or ends inside an element or an array; the elements before were handed
            out.
    """
    number, held, n_bytes = 1, list[bytes](), 0
    whole = UntilBroken(_Scanner(head, limit).elements(stream))
    for element in whole:
        if isinstance(element, bytes):
            held.append(element)
            n_bytes += len(element) + 1
        if held and (isinstance(element, TooLong) or n_bytes >= size):
            yield number, b"\n".join(held) + b"\n"
            number, held, n_bytes = number + len(held), [], 0
        if isinstance(element, TooLong):
            yield number, element
            number += 1
    if held:
        yield number, b"\n".join(held) + b"\n"
    whole.check()


class _Scanner:
    """Finds where elements end. Positions are those in `held`."""

    def __init__(self, head: bytes, limit: int) -> None:
        first = _FIRST.match(head.lstrip(_BLANK))
        begins = re.escape(first[1]) if first else _ANY.pattern
        self._again = re.compile(rb"[,\n]\s{0,256}(" + begins + b")")
        self._limit, self._held = limit, bytearray()
        # The brackets that are open, and those that are where an element begins.
        self._open = bytearray()
        self._outside = bytearray(b"[" if head.lstrip(_BLANK)[:1] == b"[" else b"")
        # The element's beginning, its first mark, the last mark, and up to where all was looked at.
        self._begin, self._first, self._last, self._pos = 0, -1, 0, 0
        # Bytes of the element that are no longer held.
        self._skipped = 0
        self._in_string = self._behind_string = self._behind_comma = self._behind_bracket = self._is_lost = False

    def elements(self, stream: Iterator[bytes]) -> Iterator[bytes | TooLong]:
        """Yield every element without ends of lines; see `element_lines` for errors."""
        for block in stream:
            self._held += block
            more = True
            while more:
                more, found = self._find() if self._is_lost else self._step()
                if found:
                    yield found
            self._forget()
        is_cut = bool(self._open) and not self._is_lost
        if not is_cut or self._open == self._outside:
            last = self._cut(len(self._held), 0)
            yield from [last] if last else []
        if is_cut:
            raise BrokenStreamError("truncated", "the file ends inside an array or an object")

    def _step(self) -> tuple[bool, bytes | TooLong | None]:
        """Go on behind the next mark; return whether there was one, and the element that ends there."""
        held = self._held
        if self._in_string:
            self._pos = _IN_STRING.match(held, self._pos).end()  # type: ignore[union-attr]
            rest = bytes(held[self._pos : self._pos + 2])
            if rest in (b"", b"\\"):
                return False, None
            self._in_string, self._behind_string, self._is_lost = False, True, rest[0] != _QUOTE
            self._pos += 1
            return True, None
        mark = _MARK.search(held, self._pos)
        end = mark.start() if mark else len(held)
        self._is_lost = self._behind_string and bool(held[self._pos : end].strip())
        self._pos = end
        if not mark or self._is_lost:
            return self._is_lost, None
        return True, self._read(held[end], end)

    def _read(self, char: int, place: int) -> bytes | TooLong | None:
        """Take in a mark; return the element that ends there."""
        around = self._open[-1] if self._open else 0
        self._is_lost = (
            (self._behind_string and char in (_QUOTE, _ARRAY, _OBJECT))
            or (self._behind_comma and char in (_ARRAY, _OBJECT) and around == _OBJECT)
            or around != _CLOSES.get(char, around)
            or len(self._open) > MAX_DEPTH + 1
        )
        if self._is_lost:
            return None
        found, is_outside = None, self._open == self._outside
        if self._first < 0:
            self._first = place
        behind_bracket = self._behind_bracket
        self._behind_string, self._behind_comma, self._behind_bracket = False, char == _COMMA, char in _CLOSES
        self._last, self._pos = place, place + 1
        if char == _QUOTE:
            self._in_string = True
        elif char in (_ARRAY, _OBJECT):
            if char == _ARRAY and not self._open:
                found = self._cut(place, place + 1)
            elif is_outside and behind_bracket:
                # A comma is missing.
                found = self._cut(place, place)
                self._first = place
            self._open.append(char)
        elif char in _CLOSES:
            self._open.pop()
            if not self._open:
                found = self._cut(place + (around == _OBJECT), place + 1)
        elif char == _COMMA and (is_outside or not self._open):
            found = self._cut(place, place + 1)
        return found

    def _find(self) -> tuple[bool, bytes | TooLong | None]:
        """Go on where the next element seems to begin; return whether it was found, and what was given up."""
        begin = max(self._last, self._first + 1)
        again = self._again.search(self._held, begin)
        if not again:
            self._last = max(begin, len(self._held) - _LONGEST)
            return False, None
        found = self._cut(again.start(), again.start(1))
        self._pos = self._last = self._begin
        self._open = self._outside.copy()
        self._in_string = self._behind_string = self._behind_comma = self._behind_bracket = self._is_lost = False
        return True, found

    def _cut(self, end: int, begin: int) -> bytes | TooLong | None:
        """Return the element that ends at `end`, if it is not blank, and begin the next one."""
        data = bytes(self._held[self._begin : end])
        data = data if self._skipped else data.lstrip(_BLANK)
        found: bytes | TooLong | None = None
        if self._skipped + len(data) > self._limit:
            found = TooLong(self._skipped + len(data))
        elif data := data.rstrip(_BLANK):
            # An end of line that a string holds must not become white space that it may hold.
            found = data.replace(b"\n", b"\1" if self._is_lost else b" ")
        self._begin, self._first, self._skipped = begin, -1, 0
        return found

    def _forget(self) -> None:
        """Let go of what precedes the element and, of one that is too long, of what was looked at."""
        if not self._skipped:
            self._begin = len(self._held) - len(self._held[self._begin :].lstrip(_BLANK))
        known = self._last if self._is_lost else self._pos
        if known - self._begin > self._limit:
            self._skipped += known - self._begin
            self._begin = known
        n = self._begin
        del self._held[:n]
        self._begin, self._pos, self._last = 0, max(0, self._pos - n), max(0, self._last - n)
        self._first = max(-1, self._first - n)
