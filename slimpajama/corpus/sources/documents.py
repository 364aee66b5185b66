"""PDF, docx and epub: documents of programs that people write and print with."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from posixpath import dirname, join, normpath
from typing import Any, BinaryIO
from urllib.parse import unquote
from zipfile import ZipFile

from slimpajama.core.errors import InputError
from slimpajama.corpus.sources import pdf_lines
from slimpajama.corpus.sources.archives import DAMAGED, METHODS, Member
from slimpajama.corpus.sources.decoding import page_text
from slimpajama.corpus.sources.html import TreeTooLargeError, visible_text
from slimpajama.corpus.sources.paragraphs import Line, paragraphs
from slimpajama.corpus.sources.records import Chunk, Found, ReadOptions, RejectedRecord, collect, seen, too_large
from slimpajama.corpus.sources.streams import BOMB_BYTES, BrokenStreamError, TooLong, blocks, bounded

# A file with its pictures.
MAX_FILE_BYTES = 1 << 27
# What a PDF may cost. Text of 16 MB takes half of the time.
PDF_SECONDS, PDF_MEMORY = 120, 1 << 31
# A list of 100,000 files.
MAX_DIRECTORY_BYTES = 1 << 23
_OLD_OFFICE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_SELF_CLOSED = re.compile(r"<([A-Za-z][\w:-]*)((?:\s[^<>]*)?)/>")
_VOID = frozenset("area base br col embed hr img input link meta source track wbr".split())
_TEXTS = ("word/document.xml", "word/footnotes.xml", "word/endnotes.xml")
# What was deleted, and what stands there a second time for older programs.
_SKIPPED = frozenset(("del", "moveFrom", "Fallback"))
_BREAKS = {"tab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-"}


def read_document(file: BinaryIO, name: str, options: ReadOptions, kind: str) -> Iterator[Chunk]:
    """Yield the whole file as one record.

    Raises:
        InputError: The libraries for it are not installed.
    """
    for library in ("pypdfium2", "defusedxml"):
        if find_spec(library) is None:
            hint = "pip install 'slimpajama[documents]'"
            raise InputError("PDF, docx and epub need the extra `documents`", where=name, hint=hint)
    data = bounded(blocks(file, name), MAX_FILE_BYTES)
    if data:
        yield Chunk(partial(_read, data, options, _KINDS[kind]), file.tell())


def _read(data: bytes | TooLong, options: ReadOptions, text_of: Callable[[bytes, ReadOptions], str]) -> Any:
    return collect([_record(data, options, text_of)], options)


def _record(data: bytes | TooLong, options: ReadOptions, text_of: Callable[[bytes, ReadOptions], str]) -> Found:
    if isinstance(data, TooLong):
        return too_large("", data, MAX_FILE_BYTES)
    try:
        return options.checked(1, "", text_of(data, options), None)
    except BrokenStreamError as error:
        return RejectedRecord("", error.rule, seen(error.value), "a document that can be read")
    except TreeTooLargeError as error:
        return RejectedRecord("", "too-deep", str(error), "pages that are parsed in seconds")


def _pdf_text(data: bytes, options: ReadOptions) -> str:
    limits = map(str, (PDF_SECONDS, PDF_MEMORY, options.max_document_bytes))
    program = [sys.executable, "-I", str(Path(pdf_lines.__file__)), *limits]
    try:
        done = subprocess.run(program, input=data, capture_output=True, timeout=10 * PDF_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise BrokenStreamError("too-large", f"more than {10 * PDF_SECONDS} seconds") from None
    if done.returncode == pdf_lines.ENCRYPTED:
        raise BrokenStreamError("encrypted", "it needs a password")
    if done.returncode == pdf_lines.TOO_LARGE:
        raise BrokenStreamError("too-large", f"more than {options.max_document_bytes} characters")
    if done.returncode == pdf_lines.DAMAGED:
        raise BrokenStreamError("damaged", "no PDF")
    if done.returncode:
        raise BrokenStreamError("damaged", f"PDFium ended with {done.returncode}: {done.stderr[-100:]!r}")
    pages = [[Line(*line) for line in json.loads(page)] for page in done.stdout.splitlines()]
    found = paragraphs(pages)
    if not found:
        raise BrokenStreamError("no-text-layer", f"{len(pages)} pages without text")
    return "\n".join(found)


class _Package:
    """A zip file, read within bounds."""

    def __init__(self, data: bytes) -> None:
        if data.startswith(_OLD_OFFICE):
            raise BrokenStreamError("encrypted", "a file with a password, or of Word before 2007")
        end = data.rfind(b"PK\x05\x06")
        if end < 0 or int.from_bytes(data[end + 12 : end + 16], "little") > MAX_DIRECTORY_BYTES:
            raise BrokenStreamError("damaged", "no zip file, or one with a list of more than 100,000 files")
        try:
            self.file = BytesIO(data)
            self.zip = ZipFile(self.file)
        except DAMAGED as error:
            raise BrokenStreamError("damaged", str(error)) from None
        self.left = BOMB_BYTES

    def read(self, name: str, limit: int) -> bytes:
        """Return a file of it; empty where there is none."""
        try:
            entry = self.zip.getinfo(name)
        except KeyError:
            return b""
        if entry.flag_bits & 1:
            raise BrokenStreamError("encrypted", "it needs a password")
        if entry.compress_type not in METHODS:
            raise BrokenStreamError("damaged", f"packed by method {entry.compress_type}")
        data = Member(self.zip, entry, self.file).read(min(limit, self.left) + 1)
        self.left -= len(data)
        if len(data) > limit or self.left < 0:
            raise BrokenStreamError("too-large", f"{name} unpacks to more than {limit} bytes")
        return data


def _xml(data: bytes) -> Iterator[tuple[str, str, str, Any]]:
    """Yield event, namespace, name and element of an XML file; it may declare no entities."""
    parse = import_module("defusedxml.ElementTree").iterparse
    try:
        for event, element in parse(BytesIO(data), ("start", "end"), forbid_dtd=True):
            namespace, _, name = element.tag.rpartition("}")
            yield event, namespace, name, element
    except (SyntaxError, ValueError) as error:
        raise BrokenStreamError("damaged", f"XML: {error}") from None


def _docx_text(data: bytes, options: ReadOptions) -> str:
    package = _Package(data)
    parts = [package.read(name, BOMB_BYTES) for name in _TEXTS]
    if not parts[0]:
        raise BrokenStreamError("damaged", f"no {_TEXTS[0]} in it")
    return "\n".join(line for part in parts if part for line in _docx_lines(part))


def _docx_lines(part: bytes) -> Iterator[str]:
    """Yield a line for each paragraph and each row of a table."""
    # Texts of open paragraphs: that of a box stands in another one.
    open_texts: list[list[str]] = [[]]
    cells: list[str] = []
    rows = skipped = run = 0
    hidden = False
    for event, namespace, name, element in _xml(part):
        if skipped or name in _SKIPPED:
            skipped += 1 if event == "start" else -1
        elif "wordprocessingml" not in namespace and "math" not in namespace:
            continue
        elif event == "start":
            rows += name == "tr"
            if name == "p":
                open_texts.append([])
            elif name == "r":
                run, hidden = len(open_texts[-1]), False
        elif name == "t":
            open_texts[-1].append(element.text or "")
        elif name in _BREAKS:
            open_texts[-1].append(_BREAKS[name])
        elif name == "vanish":
            hidden = not any(value in ("0", "false", "off") for value in element.attrib.values())
        elif name == "r" and hidden:
            del open_texts[-1][run:]
        elif name == "p":
            text = "".join(open_texts.pop()).strip()
            if rows and text:
                cells.append(text)
            elif text:
                yield text
            element.clear()
        elif name == "tr":
            rows -= 1
            if cells:
                yield " ".join(cells)
            cells = []
            element.clear()


def _epub_text(data: bytes, options: ReadOptions) -> str:
    package = _Package(data)
    limit = options.max_document_bytes
    root = next(
        (
            one.get("full-path") or ""
            for _, _, name, one in _xml(package.read("META-INF/container.xml", limit))
            if name == "rootfile"
        ),
        "",
    )
    locked = {
        unquote(one.get("URI") or "")
        for _, _, name, one in _xml(package.read("META-INF/encryption.xml", limit) or b"<none/>")
        if name == "CipherReference"
    }
    files: dict[str, str] = {}
    order: list[str] = []
    for event, _, name, one in _xml(package.read(root, limit)):
        if event == "end" and name == "item" and "nav" not in (one.get("properties") or "").split():
            files[one.get("id") or ""] = normpath(join(dirname(root), unquote(one.get("href") or "")))
        elif event == "end" and name == "itemref" and one.get("linear") != "no":
            order.append(one.get("idref") or "")
    chapters = [files[one] for one in order if one in files]
    if locked.intersection(chapters):
        raise BrokenStreamError("encrypted", "its chapters are encrypted")
    return "\n".join(text for chapter in chapters if (text := _chapter_text(package.read(chapter, limit))))


def _chapter_text(data: bytes) -> str:
    page = page_text(data)
    # A parser of HTML takes `<title/>` for the beginning of a title.
    whole = _SELF_CLOSED.sub(lambda tag: tag[0] if tag[1].lower() in _VOID else f"<{tag[1]}{tag[2]}></{tag[1]}>", page)
    return visible_text(whole)


_KINDS: dict[str, Callable[[bytes, ReadOptions], str]] = {"pdf": _pdf_text, "docx": _docx_text, "epub": _epub_text}
