"""Plain text in other forms: a document a line or a paragraph, `<doc>` dumps, subtitles, Markdown.

Memory: a chunk and one document, none above the bound.
"""

import re
from collections.abc import Iterator
from html import unescape
from itertools import pairwise, takewhile
from typing import BinaryIO

from slimpajama.corpus.sources.decoding import text_blocks, with_notes
from slimpajama.corpus.sources.elements import peeked
from slimpajama.corpus.sources.jsonl import json_chunks
from slimpajama.corpus.sources.pages import read_page
from slimpajama.corpus.sources.records import (
    Chunk,
    Found,
    Note,
    ReadOptions,
    RejectedRecord,
    collect,
    decoded,
    parsed,
    seen,
    too_large,
)
from slimpajama.corpus.sources.streams import TooLong, whole_lines

# Number and bytes of lines, or of what several lines make.
_Lines = Iterator[tuple[int, bytes | TooLong]]

_FRONT = re.compile(r"(?:---|\+\+\+)[ \t\r]*\n(.*?\n)??(?:---|\.\.\.|\+\+\+)[ \t\r]*(?:\n\s*|\Z)", re.DOTALL)
_SETTING = re.compile(r"[^:=]{1,100}(?:=|:(?:\s|\Z))|[\s#\-\[\]{}]|\Z")
# Most characters of front matter.
_LONGEST_FRONT = 1 << 16

_DOC = re.compile(rb"<doc\s([^\n]*)>\s*")
_ID = re.compile(r"""\bid\s*=\s*["']([^"']*)""")

_TIMES = re.compile(r"\s*(?:\d+:)?\d+:\d+[.,]\d+\s*-->\s*(?:\d+:)?\d+:\d+[.,]\d+.*")
_STYLE = re.compile(r"</?(?:[biuscv]|font|ruby|rt|lang)(?:[.\s][^<>]*)?>|<\d[\d:.]*>|\{\\[^{}]*\}", re.IGNORECASE)
_OVERRIDE = re.compile(r"\{[^{}]*\}")
_DRAWING = re.compile(r"\{[^{}]*\\p[1-9][^{}]*\}")
_EVENT = re.compile(r"(Format|Dialogue)\s*:\s*(.*)", re.IGNORECASE)


class _Gathered:
    """Lines of one document, none of them once they are more than a document may have."""

    def __init__(self, limit: int) -> None:
        self._limit, self._lines, self._n_bytes = limit, list[bytes](), 0

    def add(self, line: bytes | TooLong) -> None:
        self._n_bytes += 1 + (line.n_bytes if isinstance(line, TooLong) else len(line))
        if self._n_bytes > self._limit + 1 or isinstance(line, TooLong):
            self._lines.clear()
            self._n_bytes = max(self._n_bytes, self._limit + 2)
        else:
            self._lines.append(line)

    def take(self) -> bytes | TooLong:
        """Return them, and begin anew."""
        whole, n_bytes = b"\n".join(self._lines), self._n_bytes - 1
        self._lines, self._n_bytes = [], 0
        return TooLong(n_bytes) if n_bytes > self._limit else whole


def read_text(file: BinaryIO, name: str, options: ReadOptions) -> Iterator[Chunk]:
    """Yield the file, or each line or block of lines of it that is not blank; a record's number is its first line's."""
    if options.split == "file":
        yield from read_page(file, name, options)
        return
    notes: list[Note] = []
    lines = _lines(text_blocks(file, name, options, notes), options)
    found = _texts(lines if options.split == "line" else _paragraphs(lines, options.max_document_bytes), options)
    yield from with_notes((parsed(batch, file.tell()) for batch in collect(found, options)), notes)


def _lines(stream: Iterator[bytes], options: ReadOptions) -> _Lines:
    for first, data in whole_lines(stream, options.batch_bytes, options.max_document_bytes):
        if isinstance(data, TooLong):
            yield first, data
        else:
            yield from enumerate(data.removesuffix(b"\n").split(b"\n"), first)


def _paragraphs(lines: _Lines, limit: int) -> _Lines:
    """Yield what stands between blank lines; what a broken stream ends in is left out."""
    first, gathered = 0, _Gathered(limit)
    for number, line in lines:
        if isinstance(line, TooLong) or line.strip():
            first = first or number
            gathered.add(line.rstrip(b"\r") if isinstance(line, bytes) else line)
        elif first:
            yield first, gathered.take()
            first = 0
    if first:
        yield first, gathered.take()


def _texts(lines: _Lines, options: ReadOptions) -> Iterator[Found]:
    for number, data in lines:
        place = f"line {number}"
        if isinstance(data, TooLong) or len(data) > options.max_document_bytes:
            size = data if isinstance(data, TooLong) else TooLong(len(data))
            yield too_large(place, size, options.max_document_bytes)
        elif data.strip():
            notes: list[Note] = []
            text = decoded(data.removesuffix(b"\r"), place, notes)
            yield text if isinstance(text, RejectedRecord) else options.checked(number, place, text, None, notes)


def read_wiki(file: BinaryIO, name: str, options: ReadOptions) -> Iterator[Chunk]:
    """Read `<doc id="...">` dumps as WikiExtractor writes them, or its JSON lines; a record's number counts from 1."""
    notes: list[Note] = []
    head, stream = peeked(text_blocks(file, name, options, notes))
    if head.lstrip().startswith(b"{"):
        found = json_chunks(stream, file, options)
    else:
        docs = collect(_docs(_lines(stream, options), options), options)
        found = (parsed(batch, file.tell()) for batch in docs)
    yield from with_notes(found, notes)


def _docs(lines: _Lines, options: ReadOptions) -> Iterator[Found]:
    number, own_id, gathered = 0, None, _Gathered(options.max_document_bytes)
    # What stands between documents: on record once, by its first line.
    is_inside = is_told = False
    for line_number, line in lines:
        begins = _DOC.fullmatch(line) if isinstance(line, bytes) else None
        if begins:
            if is_inside:
                yield _unended(number)
            gathered.take()
            number, is_inside, is_told = number + 1, True, False
            found = _ID.search(begins[1].decode("utf-8", "replace"))
            own_id = found[1] if found else None
        elif is_inside and isinstance(line, bytes) and line.strip() == b"</doc>":
            yield _doc(number, own_id, gathered.take(), options)
            is_inside = False
        elif is_inside:
            gathered.add(line)
        elif not is_told and (isinstance(line, TooLong) or line.strip()):
            shown = "" if isinstance(line, TooLong) else seen(line[:80].decode("utf-8", "replace"))
            yield RejectedRecord("", "unreadable", f"line {line_number}, outside of <doc>: {shown}", "<doc ...>")
            is_told = True
    if is_inside:
        yield _unended(number)


def _doc(number: int, own_id: str | None, data: bytes | TooLong, options: ReadOptions) -> Found:
    place = f"record {number}"
    if isinstance(data, TooLong):
        return too_large(place, data, options.max_document_bytes)
    notes: list[Note] = []
    text = decoded(data, place, notes)
    if isinstance(text, RejectedRecord):
        return text
    return options.checked(number, place, unescape(text).strip(), own_id, notes)


def _unended(number: int) -> RejectedRecord:
    return RejectedRecord(f"record {number}", "truncated", "no </doc>", "a record that is whole")


def without_front_matter(text: str) -> str:
    """Return Markdown without the settings (YAML, TOML) between two rules at its beginning."""
    found = _FRONT.match(text, 0, _LONGEST_FRONT)
    is_front = found is not None and all(map(_SETTING.match, (found[1] or "").split("\n")))
    return text[found.end() :] if found and is_front else text


def spoken(text: str) -> str:
    """Return what subtitles (srt, vtt, ass) say, a line each, without times, numbers, styles and notes."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    if any(line.strip().lower() == "[events]" for line in lines):
        said = list(_events(lines))
    else:
        said = list(_cues(lines, is_web=lines[0].startswith("WEBVTT")))
    return "\n".join(filter(None, map(_plain, said)))


def _plain(line: str) -> str:
    return unescape(_STYLE.sub("", line)).strip()


def _cues(lines: list[str], is_web: bool) -> Iterator[str]:
    """Yield the lines below times: of WebVTT up to a blank line, of SubRip up to the number of the next cue."""
    times = [place for place, line in enumerate(lines) if "-->" in line and _TIMES.fullmatch(line)]
    last = [""]
    for number, (place, end) in enumerate(pairwise([*times, len(lines)]), 2):
        cue = lines[place + 1 : end]
        if is_web:
            cue = [_plain(line) for line in takewhile(str.strip, cue)]
            # What is spoken so far stands in each cue again.
            cue, last = [line for line in cue if line not in last], cue
        elif end < len(lines) and cue and cue[-1].strip().isdecimal():
            is_number = len(cue) == 1 or not cue[-2].strip() or cue[-1].strip() == str(number)
            cue = cue[:-1] if is_number else cue
        yield from cue


def _events(lines: list[str]) -> Iterator[str]:
    n_columns, last = 10, ""
    for line in lines:
        event = _EVENT.match(line)
        if event and event[1].lower() == "format":
            n_columns = event[2].count(",") + 1
        elif event:
            text = event[2].split(",", n_columns - 1)[-1]
            plain = _OVERRIDE.sub("", text)
            # Effects are layers of the same words.
            if not _DRAWING.search(text) and plain != last:
                yield from re.split(r"\\[Nn]", plain.replace(r"\h", " "))
                last = plain
