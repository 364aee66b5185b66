"""The readers: what each takes, what one document of it is, and by which rules it refuses what it cannot use.

docs/formats.md is made of this table: `python -m slimpajama.corpus.sources.formats > docs/formats.md`.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import NamedTuple

from slimpajama.corpus.sources.arrow import read_arrow
from slimpajama.corpus.sources.csv import read_csv
from slimpajama.corpus.sources.documents import read_document
from slimpajama.corpus.sources.html import visible_text
from slimpajama.corpus.sources.jsonl import read_jsonl
from slimpajama.corpus.sources.pages import read_page, read_warc
from slimpajama.corpus.sources.parquet import read_parquet
from slimpajama.corpus.sources.records import NOTES, RULES, Chunk, RejectedRecord, seen
from slimpajama.corpus.sources.streams import PACKINGS
from slimpajama.corpus.sources.texts import read_text, read_wiki, spoken, without_front_matter


class Reader(NamedTuple):
    """What reads the files of one format."""

    format: str
    suffixes: tuple[str, ...]
    """Endings of names that tell the format, those of packings taken off."""
    document: str
    """What one document is."""
    takes: str
    refuses: tuple[str, ...]
    """Rules of `RULES` besides `ANY_FILE`."""
    read: Callable[..., Iterator[Chunk]]
    """Takes the open file, its name and the `ReadOptions`."""
    has_fields: bool = False
    """Whether `text_field` and `id_field` name what is read."""
    reopens: bool = False
    """Whether `read` takes what opens the file again, too, behind the open file."""


# By these a file of any format may be refused, or the rest of it.
ANY_FILE = ("empty-file", "unreadable", "truncated", "damaged", "too-large")
# By these what a source names is refused before a reader sees it.
BEFORE = ("no-files", "left-out", "unknown-format")
# By these a text of any format may be refused.
_ANY_TEXT = ("invalid-utf8", "no-text", "has-nul")
# By this one that may be in any encoding, too.
_PAGE = (*_ANY_TEXT, "unknown-encoding")
READERS = (
    Reader(
        "txt",
        (".txt", ".text", ".rst"),
        "the file",
        'plain text; with `split = "line"` or `"blank"` each line or block of lines is a document',
        _PAGE,
        read_text,
    ),
    Reader(
        "md",
        (".md", ".markdown"),
        "the file",
        "Markdown without front matter",
        _PAGE,
        partial(read_page, convert=without_front_matter),
    ),
    Reader(
        "subtitles",
        (".srt", ".vtt", ".ass", ".ssa"),
        "the file",
        "what is said, without times, numbers and styles",
        _PAGE,
        partial(read_page, convert=spoken),
    ),
    Reader(
        "wiki",
        (),
        "a `<doc>`",
        "dumps as WikiExtractor writes them (`wiki_00`), its JSON lines too",
        (*_ANY_TEXT, "not-json", "lone-surrogate"),
        read_wiki,
    ),
    Reader(
        "html",
        (".html", ".htm", ".xhtml"),
        "the file",
        'a web page: its content, or with `extract = "all"` what a reader sees of it',
        (*_PAGE, "too-deep"),
        partial(read_page, convert=visible_text),
    ),
    Reader(
        "jsonl",
        (".jsonl", ".ndjson", ".json"),
        "an object",
        "one JSON object a line, arrays of objects, objects over several lines or side by side: the beginning tells",
        (*_ANY_TEXT, "not-json", "lone-surrogate"),
        read_jsonl,
        has_fields=True,
    ),
    Reader(
        "csv",
        (".csv", ".tsv"),
        "a row",
        "CSV with a header; comma, tab, semicolon or bar and the quotes are found out, and spaces around cells",
        (*_ANY_TEXT, "not-csv"),
        read_csv,
        has_fields=True,
    ),
    Reader("parquet", (".parquet",), "a row", "Parquet", _ANY_TEXT, read_parquet, has_fields=True, reopens=True),
    Reader(
        "arrow",
        (".arrow",),
        "a row",
        "Arrow streams and files, as `datasets.save_to_disk` writes them",
        _ANY_TEXT,
        read_arrow,
        has_fields=True,
    ),
    Reader(
        "warc",
        (".warc", ".wet"),
        "a record",
        "pages and plain text: responses with status 200, resources, and conversions (WET); others are passed over",
        (*_PAGE, "too-deep"),
        read_warc,
    ),
    Reader(
        "pdf",
        (".pdf",),
        "the file",
        "paragraphs of a PDF with a text layer, without headers, footers and page numbers (extra `documents`)",
        ("no-text", "no-text-layer", "encrypted"),
        partial(read_document, kind="pdf"),
    ),
    Reader(
        "docx",
        (".docx",),
        "the file",
        "paragraphs, rows of tables and notes of a Word document (extra `documents`)",
        ("no-text", "encrypted"),
        partial(read_document, kind="docx"),
    ),
    Reader(
        "epub",
        (".epub",),
        "the file",
        "chapters of a book in its order (extra `documents`)",
        ("no-text", "has-nul", "encrypted", "too-deep"),
        partial(read_document, kind="epub"),
    ),
)
BY_FORMAT = {reader.format: reader for reader in READERS}
SUFFIXES = {suffix: reader.format for reader in READERS for suffix in reader.suffixes}
# The formats whose records have fields.
TABLES = {reader.format for reader in READERS if reader.has_fields}
# The formats of which a file is one document.
PAGES = {reader.format for reader in READERS if reader.document == "the file"}


# WikiExtractor's files have no ending.
_WIKI = re.compile(r"(^|/)wiki_[0-9]+$")


def format_of(name: str, asked_for: str = "auto", suffixes: Mapping[str, str] = SUFFIXES) -> str:
    """Return the format that is asked for or, for `auto`, that a file's name tells; empty where it does not.

    Endings of packings are looked through; `suffixes` has the format by the ending below.
    """
    if asked_for != "auto":
        return asked_for
    plain = name.lower()
    for packing in PACKINGS:
        plain = plain.removesuffix(packing)
    dot = plain.rfind(".")
    if suffixes is SUFFIXES and _WIKI.search(plain):
        return "wiki"
    return suffixes.get(plain[dot:], "") if dot >= 0 else ""


def unknown_format(name: str, suffixes: Iterable[str] = SUFFIXES) -> RejectedRecord:
    """Return that a file's name tells no format."""
    return RejectedRecord("", "unknown-format", seen(name.rsplit("/", 1)[-1][-80:]), ", ".join(suffixes))


def page() -> str:
    """Return docs/formats.md."""
    rows = [
        (f"`{reader.format}`", _codes(reader.suffixes), reader.document, reader.takes, _codes(reader.refuses))
        for reader in READERS
    ]
    return "\n".join(
        (
            "# What is read\n",
            "This page is made of `slimpajama/corpus/sources/formats.py` by",
            "`python -m slimpajama.corpus.sources.formats > docs/formats.md`; a test compares them.\n",
            f"Any of these may be packed ({_codes(PACKINGS)}) and lie on a disk, on S3 or on a web server.\n",
            *_table(("format", "names", "a document is", "what is read", "refused by"), rows),
            f"\nA file of any format may be refused as a whole, or the rest of it, by {_codes(ANY_FILE)}.\n",
            "What is refused is on record in `removed/`, each by its rule:\n",
            *_table(("rule", "what was seen"), [(f"`{rule}`", what) for rule, what in RULES.items()]),
            "\nWhat is read may have a line in `notes/`:\n",
            *_table(("note", "what was seen"), [(f"`{rule}`", what) for rule, what in NOTES.items()]),
            "",
        )
    )


def _codes(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield from (f"| {' | '.join(row)} |" for row in (head, ("---",) * len(head), *rows))


if __name__ == "__main__":
    print(page(), end="")
