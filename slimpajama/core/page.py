"""Pages that people read: one model of sections, tables, quotes and figures, written as HTML, Markdown or plain text.

A page may quote the most hostile corpus. Three guards keep its text a text:

- every template escapes every value: HTML's by Jinja, Markdown's by one of the two functions below;
- `visible` spells out invisible characters before that;
- the HTML page's content security policy forbids script, images from elsewhere and forms.

Only a `Figure` is put into a page as it is; its SVG is drawn by us, from numbers.
"""

import base64
import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
from markupsafe import Markup

from slimpajama.core.config import canonical
from slimpajama.core.errors import printable
from slimpajama.core.format import decimal, megabytes, number, share, visible

HERE = Path(__file__).parent
FULL_WIDTH = {ord(char): ord(char) + 0xFEE0 for char in "<>&|`*_~\\[]!#@"}
# Some renderer makes a link of each of these.
LINKS = re.compile(r"://|(?i:\bwww\.|\b(?:javascript|data|mailto):)")
# At the beginning of a line these make a list, or underline a heading.
BEGINS = re.compile(r"^[-+=](?!\d)")
# A cell with more characters is too long for one line of Prefect's classic UI.
LONG = 60
HAN = re.compile("[\u3400-\u9fff]")
# Glyphs differ between the two kinds of Chinese, so the browser must know which one a text is in.
TAGS = {"zh": "zh-Hans", "zh-Hant": "zh-Hant", "en": "en"}


class Column(NamedTuple):
    """How a column of a table comes out of its rows."""

    title: str
    value: str | Callable[[Any], Any] = ""
    """Key of a row, or what makes a value of a row."""
    show: Callable[[Any], str] | None = None
    """How a number is written; numbers are set to the right."""
    tone: Callable[[Any], str] = lambda row: ""
    """`good`, `bad` or nothing."""
    bar: Callable[[Any], float] | None = None
    """Share from 0 to 1, drawn as a bar in HTML."""
    interval: Callable[[Any], Sequence[float]] | None = None
    """Left end, middle and right end from 0 to 1, drawn in HTML in the place of the text; nothing for no interval."""

    def text(self, row: Mapping[str, Any]) -> str:
        """Return what the column says of a row; nothing of a text that is missing."""
        value = self.value(row) if callable(self.value) else row.get(self.value)
        return self.show(value) if self.show else "" if value is None else str(value)


def columns(*names: str, show: Callable[[Any], str] | None = None) -> list[Column]:
    """Return columns that are called as their rows' keys are."""
    return [Column(name, name, show) for name in names]


class Table(NamedTuple):
    """A table."""

    rows: Sequence[Mapping[str, Any]]
    columns: Sequence[Column]
    title: str = ""
    note: str = ""
    is_strong: Callable[[Any], bool] = lambda row: False
    """Whether a row stands out."""
    half: bool = False
    """Whether half the width of the page is enough."""


class Span(NamedTuple):
    """A stretch of a quote."""

    text: str
    kind: str = ""
    """`mark` where it differs from the quote beside it, `prompt` where it was given to a model."""


class Quote(NamedTuple):
    """A text that somebody else wrote."""

    spans: Sequence[Span]
    label: str = ""
    place: str = ""
    note: str = ""
    lang: str = ""


class Quotes(NamedTuple):
    """Texts side by side."""

    quotes: Sequence[Quote]
    title: str = ""
    note: str = ""


class Words(NamedTuple):
    """Words, each with its number."""

    title: str
    words: Sequence[tuple[str, str]]
    lang: str


class Figure(NamedTuple):
    """A drawing."""

    svg: str
    alt: str
    title: str = ""

    @property
    def data(self) -> str:
        """The drawing as it stands in the address of an image."""
        return base64.b64encode(self.svg.encode()).decode()


class Folded(NamedTuple):
    """What a reader of the HTML page unfolds first."""

    title: str
    blocks: Sequence[Table | Quotes]
    html_only: bool = False
    is_open: bool = False


Block = str | Table | Quotes | Words | Figure | Folded


class Section(NamedTuple):
    """A part of a page; one without blocks is not shown."""

    title: str
    blocks: Sequence[Block]
    anchor: str = ""
    """Its name in the page's list of contents."""
    note: str = ""


class Tile(NamedTuple):
    """A figure that stands out at the top of a page."""

    label: str
    value: str
    note: str
    tone: str = ""


class Page(NamedTuple):
    """All of a page."""

    title: str
    badge: str
    badge_kind: str
    lead: str
    tiles: Sequence[Tile]
    sections: Sequence[Section]
    version: str


def full_width(value: object) -> str:
    """Return a value as one line that any Markdown renderer shows as it is.

    ASCII punctuation that could mean something becomes its full-width form, which means nothing to any renderer. The
    usual way would be entities, but Prefect's UI shows them as they are inside tables.
    """
    flat = " ".join(visible(str(value)).split())
    flat = LINKS.sub(lambda match: match[0].replace(":", "：").replace(".", "．"), flat)
    return BEGINS.sub(lambda match: chr(ord(match[0]) + 0xFEE0), flat).translate(FULL_WIDTH)


def entities(value: object) -> str:
    """Return a value as one line of Markdown that shows it and does nothing else, in the form that the hub reads."""
    return "".join(char if char.isalnum() or char in " .,-" else f"&#{ord(char)};" for char in str(value))


def html(page: Page) -> str:
    """Return a page as one HTML file that loads nothing from elsewhere."""
    # Markup is a subclass of str that only our templates make.
    environment = _environment(HERE, lambda value: visible(value) if type(value) is str else value)
    return environment.get_template("page.html").render(page=page)


def markdown(section: Section) -> str:
    """Return a section as Markdown for Prefect's UI.

    Figures stand in Markdown's tables, quotes and what is long in HTML's: the classic UI never breaks a line inside the
    former.
    """
    parts = [f"## {full_width(section.title)}", full_width(section.note), *_blocks(section.blocks)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _blocks(blocks: Sequence[Block]) -> Iterator[str]:
    for kind, group in itertools.groupby(blocks, type):
        if kind is Quotes:
            yield _quotes([block for block in group if isinstance(block, Quotes)])
            continue
        for block in group:
            match block:
                case Table():
                    heading = [f"### {full_width(block.title)}"] if block.title else []
                    yield "\n\n".join([*heading, *filter(None, [full_width(block.note)]), _table(block)])
                case Figure():
                    yield f'<img alt="{full_width(block.alt)}" src="data:image/svg+xml;base64,{block.data}">'
                case str():
                    yield full_width(block)
                case Folded() if not block.html_only:
                    yield "\n\n".join([f"### {full_width(block.title)}", *_blocks(block.blocks)])


def _table(table: Table) -> str:
    """Return a table as Markdown; columns in which nothing is written are left out."""
    shown = [column for column in table.columns if column.title or any(map(column.text, table.rows))]
    head = [full_width(column.title) for column in shown]
    rows = [[full_width(column.text(row)) for column in shown] for row in table.rows]
    if any(len(cell) > LONG for row in rows for cell in row):
        return _html_table([[f"<b>{title}</b>" for title in head], *rows], len(head))
    lines = [head, ["---:" if column.show else "---" for column in shown], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _quotes(rows: Sequence[Quotes]) -> str:
    """Return an HTML table: a row a group of quotes, and a row for its title before it."""
    columns = max(len(row.quotes) for row in rows)
    lines = []
    for row in rows:
        if row.title:
            note = f", {full_width(row.note)}" if row.note else ""
            lines.append([f"<b>{full_width(row.title)}</b>{note}"])
        lines.append([_quote(quote) for quote in row.quotes])
    return _html_table(lines, columns)


def _html_table(lines: Sequence[Sequence[str]], columns: int) -> str:
    """Return a table whose lines may be long; the last cell of a row takes the columns that are left."""
    made = ["<table>"]
    for *cells, last in lines:
        spans = [(cell, 1) for cell in cells] + [(last, columns - len(cells))]
        row = (f'<td align="left" valign="top" colspan="{span}">{cell}</td>' for cell, span in spans)
        made.append(f"<tr>{''.join(row)}</tr>")
    return "\n".join([*made, "</table>"])


def _quote(quote: Quote) -> str:
    about = full_width(" · ".join(filter(None, (quote.label, quote.place, quote.note))))
    return f"{about}<br>{''.join(map(_span, quote.spans))}"


def _span(span: Span) -> str:
    """Return a stretch of a quote with the blanks at its ends, bold where it is of a kind."""
    first, last = (" " if end.isspace() else "" for end in (span.text[:1], span.text[-1:]))
    text = f"{first}{full_width(span.text)}{last}"
    return f"<b>{text}</b>" if span.kind else text


def render(template: Path, **values: Any) -> str:
    """Return a card: a Markdown template with its values, each escaped."""

    def finalize(value: Any) -> Markup:
        return value if isinstance(value, Markup) else Markup(entities(value))

    return _environment(template.parent, finalize).get_template(template.name).render(values)


def _environment(folder: Path, finalize: Callable[[Any], Any]) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=finalize,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    shown = {filter_.__name__: filter_ for filter_ in (number, decimal, megabytes, share)}
    environment.filters |= shown | {"tag": _tag, "values": _values}
    return environment


def _tag(lang: str, spans: Sequence[Span] = ()) -> str:
    """Return a language as HTML names it; where it is not known, by whether its text holds Chinese characters."""
    return TAGS.get(lang) or ("zh-Hans" if any(HAN.search(span.text) for span in spans) else "und")


def _values(section: object) -> str:
    """Return a section of settings as one line."""
    return ", ".join(f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in canonical(section).items())


def card_head(values: Mapping[str, Any]) -> str:
    """Return the YAML head of a README.md, which the Hugging Face hub and `datasets` read."""
    # The import takes a tenth of a second.
    from huggingface_hub import CardData

    return f"---\n{CardData(**values).to_yaml()}\n---\n\n"


def plain_table(rows: Sequence[Mapping[str, Any]], shown: Sequence[Column] = ()) -> str:
    """Return rows as aligned text, by default with all that they have, in order of first appearance."""
    chosen = shown or columns(*dict.fromkeys(name for row in rows for name in row))
    cells = [[column.title, *(printable(column.text(row)) for row in rows)] for column in chosen]
    padded = [[text.ljust(max(map(len, column))) for text in column] for column in cells]
    return "\n".join("  ".join(line).rstrip() for line in zip(*padded, strict=True))


def plain_facts(facts: Mapping[str, str], width: int = 10) -> str:
    """Return a line a fact, its name before it; facts without a text are left out."""
    return "\n".join(f"{name:<{width}} {printable(text, 2000)}" for name, text in facts.items() if text)
