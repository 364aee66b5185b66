"""Pairs out of files of many formats: tables of one pair a row, SQuAD's JSON, TMX, and gettext's catalogues.

| format | a pair is | fields |
|---|---|---|
| `jsonl`, `csv`, `parquet`, `arrow` | a row | those of `PairSourceConfig.fields` |
| `tsv` | a line | by a header that names them, else the first two columns |
| `squad` | a question | `context`, `question`, `answers`; paragraphs of one title belong together |
| `tmx` | a `tu` | the `tuv` of both languages |
| `po`, `mo` | a message | `msgid` and `msgstr`; fuzzy, obsolete and plural ones are passed over |

What cannot be used becomes a `RejectedRecord` with its place, as in `slimpajama.corpus.sources`, whose readers give
lines, JSON objects and row groups. What is wrong with a pair that can be read is told by `rules.py`.
"""

import csv
import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO
from xml.etree import ElementTree

import pyarrow as pa
import pyarrow.parquet as pq

from slimpajama.core.config import PairSourceConfig
from slimpajama.core.config.applications import PairField
from slimpajama.corpus.sources.arrow import HOSTILE
from slimpajama.corpus.sources.fields import field_of
from slimpajama.corpus.sources.formats import format_of, unknown_format
from slimpajama.corpus.sources.jsonl import numbered_lines, objects, parse_object
from slimpajama.corpus.sources.parquet import row_groups
from slimpajama.corpus.sources.records import RejectedRecord, lines_of, seen
from slimpajama.corpus.sources.streams import (
    BLOCK,
    BrokenStreamError,
    TooLong,
    Unpacked,
    blocks,
    bounded,
    is_packed,
    whole_lines,
)

FORMATS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".json": "squad",
    ".tmx": "tmx",
    ".po": "po",
    ".mo": "mo",
}
# Most bytes of a file that is parsed as a whole.
WHOLE = 1 << 28
# Most bytes of a line.
LINE = 1 << 24
# Elements of TMX that hold the code of another format, not text.
_MARKUP = ("bpt", "ept", "ph", "it", "ut")
# A compiled catalogue begins with one of these, by the order of its bytes.
_MO = (b"\xde\x12\x04\x95", b"\x95\x04\x12\xde")
_XML_LANG = "{http://www.w3.org/XML/1998/namespace}lang"

Row = dict[str, Any]
# Place and fields of each pair.
Rows = Iterator[tuple[str, Row] | RejectedRecord]


@dataclass(frozen=True, slots=True)
class Pair:
    """One pair as it was read."""

    place: str
    """Line, row or number of it in the file."""
    source: str
    targets: tuple[str, ...]
    """Several where each is right, as SQuAD's answers are; the first is what is learnt."""
    question: str = ""
    group: str = ""
    """What belongs together, and so into one split; empty where the file does not say."""


def read_pairs(
    open_file: Callable[[], BinaryIO], name: str, source: PairSourceConfig
) -> Iterator[Pair | RejectedRecord]:
    """Yield the pairs of a file in its order, and what could not be read; `name` tells packing and format."""
    kind, found = format_of(name, source.format, FORMATS), False
    fields = source.fields_of()
    if kind in _OWN_FIELDS:
        fields = {field: field for field in fields}
    if not kind:
        yield unknown_format(name, FORMATS)
        return
    try:
        with open_file() as file:
            for item in _READERS[kind](file, name, source):
                found = True
                yield item if isinstance(item, RejectedRecord) else _pair(*item, fields)
    except BrokenStreamError as error:
        yield RejectedRecord("", error.rule, seen(error.value), "a file that is whole")
    except (*HOSTILE, csv.Error, RecursionError) as error:
        yield RejectedRecord("", "unreadable", seen(error), f"a file of format {kind}")
    else:
        if not found:
            yield RejectedRecord("", "empty-file", "no pair", "at least one pair")


def _pair(place: str, row: Row, fields: Mapping[PairField, str]) -> Pair | RejectedRecord:
    """Return the pair of a row's fields; a field that may be missing and is counts as empty."""
    values: Row = {name: field_of(row, field) for name, field in fields.items()}
    targets = _texts(values.pop("target"))
    wrong = next((name for name, value in values.items() if value is not None and not isinstance(value, str)), "")
    if wrong or targets is None:
        return RejectedRecord(place, "no-text", f"the field {wrong or 'target'} is no text", "a text")
    try:
        return Pair(place=place, targets=targets, **{name: _valid(value or "") for name, value in values.items()})
    except UnicodeEncodeError:
        return RejectedRecord(place, "lone-surrogate", "half of a UTF-16 pair", "valid Unicode")


def _texts(value: Any) -> tuple[str, ...] | None:
    """Return a target as texts: of a list all that differ, of SQuAD's `{"text": [...]}` those; None if it is none."""
    value = value.get("text") if isinstance(value, dict) else value
    items = [] if value is None else value if isinstance(value, list | tuple) else [value]
    texts: list[Any] = [item.get("text") if isinstance(item, dict) else item for item in items]
    return tuple(dict.fromkeys(map(_valid, texts))) if all(isinstance(text, str) for text in texts) else None


def _valid(text: str) -> str:
    text.encode()
    return text


def _jsonl(file: BinaryIO, name: str, source: PairSourceConfig) -> Rows:
    for noun, first, data in numbered_lines(blocks(file, name), BLOCK, LINE):
        for _, place, row in objects(noun, first, data, LINE):
            yield row if isinstance(row, RejectedRecord) else (place, row)


def _csv(file: BinaryIO, name: str, source: PairSourceConfig) -> Rows:
    """Yield rows under a header; unlike documents' CSV with quotes and ends of lines of any kind."""
    plain = Unpacked(blocks(file, name))
    # The limit holds for the whole process.
    csv.field_size_limit(LINE)
    rows = csv.DictReader(io.TextIOWrapper(io.BufferedReader(plain), "utf-8-sig", newline=""))
    for number, row in enumerate(rows, 1):
        yield f"row {number}", {str(key): value for key, value in row.items()}
    plain.check()


def _tsv(file: BinaryIO, name: str, source: PairSourceConfig) -> Rows:
    """Yield lines of cells between tabs, without quotes: what corpora of pairs are exchanged in."""
    fields = source.fields_of()
    sides = [fields["source"], fields["target"]]
    names: list[str] = []
    for first, data in whole_lines(blocks(file, name), BLOCK, LINE):
        for number, line in lines_of(first, data, LINE):
            if isinstance(line, RejectedRecord):
                yield line
                continue
            place = f"line {number}"
            try:
                cells = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r").split("\t")
            except UnicodeDecodeError as error:
                yield RejectedRecord(place, "invalid-utf8", f"byte {error.start + 1} of the line", "valid UTF-8")
                continue
            if not names:
                has_header = {*sides} <= {*cells}
                names = cells if has_header else sides
                if has_header:
                    continue
            if len(cells) > 1:
                row = dict(zip(names, cells, strict=False))
                yield place, {str(field): row.get(column) for field, column in fields.items()}
            elif cells[0].strip():
                yield RejectedRecord(place, "no-text", "one cell", "cells between tabs")


def _parquet(file: BinaryIO, name: str, source: PairSourceConfig) -> Rows:
    plain = file if file.seekable() and not is_packed(name) else io.BytesIO(_whole(file, name))
    meta = pq.ParquetFile(plain).metadata
    used = {field.split(".")[0] for field in source.fields_of().values()}
    columns = sorted(used & {*meta.schema.to_arrow_schema().names})
    for group in row_groups(plain, meta, columns):
        if isinstance(group, RejectedRecord):
            yield group
            continue
        number, unpacked = group.first, 0
        for batch in group.rows(plain, 256):
            yield from ((f"row {place}", row) for place, row in enumerate(batch.to_pylist(), number))
            number, unpacked = number + batch.num_rows, unpacked + batch.nbytes
            if unpacked > group.limit:
                yield group.too_large(number)
                break


def _arrow(file: BinaryIO, name: str, source: PairSourceConfig) -> Rows:
    data = _whole(file, name)
    opened = pa.ipc.open_file if data.startswith(b"ARROW1") else pa.ipc.open_stream
    table = opened(data).read_all()
    # Without this check, a hostile file's offsets would be followed to any address.
    table.validate(full=True)
    yield from ((f"row {number}", row) for number, row in enumerate(table.to_pylist(), 1))


def _whole(file: BinaryIO, name: str) -> bytes:
    data = bounded(blocks(file, name), WHOLE)
    if isinstance(data, TooLong):
        raise BrokenStreamError("too-large", f"more than {WHOLE:,} bytes")
    return data


def _squad(file: BinaryIO, name: str, source: PairSourceConfig) -> Rows:
    """Yield the questions of SQuAD 1.1 and 2.0, DRCD, CMRC 2018, XQuAD: one shape."""
    data = parse_object(_whole(file, name), "")
    if isinstance(data, RejectedRecord):
        yield data
        return
    articles, number = data.get("data"), 0
    for place, article in enumerate(articles if isinstance(articles, list) else [], 1):
        group = str(field_of(article, "title") or field_of(article, "id") or f"article {place}")
        for paragraph in field_of(article, "paragraphs") or []:
            for asked in field_of(paragraph, "qas") or []:
                number += 1
                row = {"source": field_of(paragraph, "context"), "group": group}
                row |= {"question": field_of(asked, "question"), "target": field_of(asked, "answers")}
                yield f"question {number}", row


def _tmx(file: BinaryIO, name: str, source: PairSourceConfig) -> Rows:
    """Yield the translation units of both languages; `en` takes `en-US` too.

    Source: TMX 1.4b specification, LISA OSCAR 2005.
    """
    plain = Unpacked(blocks(file, name))
    unit = 0
    root: ElementTree.Element | None = None
    try:
        for event, element in ElementTree.iterparse(plain, events=("start", "end")):
            root = element if root is None else root
            if event == "end" and element.tag == "tu":
                unit += 1
                sides = [_side(element, language) for language in source.languages]
                yield f"unit {unit}", dict(zip(("source", "target"), sides, strict=True))
                # Otherwise the whole file would stay in memory.
                root.clear()
    except ElementTree.ParseError as error:
        raise plain.error or BrokenStreamError("damaged", str(error)) from None
    plain.check()


def _side(unit: ElementTree.Element, language: str) -> str:
    for variant in unit.iter("tuv"):
        code = variant.get(_XML_LANG) or variant.get("lang") or ""
        if code.lower().replace("_", "-").split("-")[0] == language:
            segment = variant.find("seg")
            return "".join(_text_of(segment)) if segment is not None else ""
    return ""


def _text_of(element: ElementTree.Element) -> Iterator[str]:
    if element.tag not in _MARKUP:
        yield element.text or ""
        for child in element:
            yield from _text_of(child)
            yield child.tail or ""


def _gettext(file: BinaryIO, name: str, source: PairSourceConfig, *, compiled: bool) -> Rows:
    import polib

    data = _whole(file, name)
    if compiled and data[:4] not in _MO:
        raise BrokenStreamError("damaged", "no catalogue of messages")
    try:
        # Polib opens a file if the content is a file's name. No such name ends in a line feed.
        catalogue = polib.mofile(data) if compiled else polib.pofile(data.decode("utf-8-sig") + "\n")
    except Exception as error:
        # Polib raises errors of any kind over a damaged file.
        raise BrokenStreamError("damaged", seen(error)) from None
    for number, entry in enumerate(catalogue, 1):
        # A compiled catalogue does not say which entries are fuzzy.
        doubtful = entry.obsolete or entry.msgid_plural or getattr(entry, "fuzzy", False)
        if not doubtful and entry.msgid and entry.msgstr:
            yield f"message {number}", {"source": entry.msgid, "target": entry.msgstr}


_READERS: dict[str, Callable[[BinaryIO, str, PairSourceConfig], Rows]] = {
    "jsonl": _jsonl,
    "csv": _csv,
    "tsv": _tsv,
    "parquet": _parquet,
    "arrow": _arrow,
    "squad": _squad,
    "tmx": _tmx,
    "po": partial(_gettext, compiled=False),
    "mo": partial(_gettext, compiled=True),
}
# Formats whose readers name the fields.
_OWN_FIELDS = ("tsv", "squad", "tmx", "po", "mo")
