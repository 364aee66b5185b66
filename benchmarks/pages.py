"""Measure what is read of web pages and PDF: how much of the right text, and how fast.

    python -m benchmarks.pages [--before COMMIT]

The sixty pages of tests/unit/marked_pages.py hold the text that a reader came for, marked by hand; F1 is that of words,
each ideograph and each run of other letters being one. Speed is measured on Debian's handbook and reference in both
languages, which apt fetches. `--before` names the commit whose `all` the speed of today's is compared with, in turn.
trafilatura is measured where it is installed. Writes docs/benchmarks/pages.md.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import re
import statistics
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable
from functools import partial
from io import BytesIO
from pathlib import Path

from resiliparse.extract.html2text import extract_plain_text

from benchmarks.machine import DOCS, ROOT, conditions, table
from slimpajama.corpus.sources.files import read
from slimpajama.corpus.sources.html import visible_text
from slimpajama.corpus.sources.records import ReadOptions
from tests.unit.marked_pages import MarkedPage, f1, marked_pages
from tests.unit.printed import known_text, pdf, same_share

PACKAGES = ("debian-handbook", "debian-reference-zh-cn", "debian-reference-en")
READ = re.compile(r"/(?:zh-CN|en-US)/|debian-reference/.*(?:en|zh-cn)\.html$")
ROUNDS = 3
BEFORE = "36b6f60"
_NAME = re.compile(r"""\b(class|id)=("[^"]*"|[^\s">]+)""")

Way = Callable[[str], str]


def ways() -> dict[str, Way]:
    """Return each way to read a page, by its name."""
    found: dict[str, Way] = {
        "`all`": visible_text,
        "`main`": partial(visible_text, main=True),
        "resiliparse alone": partial(extract_plain_text, main_content=True, alt_texts=False),
    }
    if importlib.util.find_spec("trafilatura"):
        extract = importlib.import_module("trafilatura").extract
        found["trafilatura alone"] = lambda page: extract(page, include_comments=False) or ""
    return found


def without_names(page: str) -> str:
    """Return a page whose classes and ids say nothing, but for those that its style hides."""
    styles = " ".join(re.findall(r"<style.*?</style>", page, re.DOTALL))
    kept = set(re.findall(r"[.#]([\w-]+)", styles)) | {"jammer"}

    def renamed(found: re.Match[str]) -> str:
        names = found[2].strip('"').split()
        return f'{found[1]}="{" ".join(name if name in kept else f"n{len(name)}" for name in names)}"'

    return _NAME.sub(renamed, page)


def quality(pages: list[MarkedPage]) -> list[list[str]]:
    """Return a row a way: F1 of both languages, of all pages, and of pages without names; the worst page."""
    rows = []
    for name, way in ways().items():
        scores = {page.name: f1(way(page.html), page.main) for page in pages}
        nameless = [f1(way(without_names(page.html)), page.main) for page in pages]
        by_language = [statistics.mean(scores[one] for one in scores if f"-{code}-" in one) for code in ("zh", "en")]
        worst = min(scores, key=lambda one: scores[one])
        figures = [*by_language, statistics.mean(scores.values()), statistics.mean(nameless)]
        rows.append([name, *(f"{figure:.3f}" for figure in figures), f"{scores[worst]:.2f} ({worst})"])
    return rows


def kinds(pages: list[MarkedPage]) -> list[list[str]]:
    """Return a row a layout: mean F1 of each way."""
    names = sorted({page.name[:-5] for page in pages})
    return [
        [
            name,
            *(
                f"{statistics.mean(f1(way(p.html), p.main) for p in pages if p.name[:-5] == name):.2f}"
                for way in ways().values()
            ),
        ]
        for name in names
    ]


def real_pages() -> list[str]:
    """Return pages of Debian's documentation in both languages."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["apt-get", "download", *PACKAGES], cwd=folder, check=True, capture_output=True)
        for package in sorted(Path(folder).glob("*.deb")):
            subprocess.run(["dpkg-deb", "-x", str(package), folder], check=True)
        files = sorted(
            path for path in Path(folder).rglob("*.html") if READ.search(str(path)) and not path.is_symlink()
        )
        return [path.read_text(encoding="utf-8", errors="replace") for path in files[::8]]


def reader_of(commit: str) -> Way:
    """Return `visible_text` of an earlier commit."""
    shown = ["git", "show", f"{commit}:slimpajama/corpus/sources/html.py"]
    source = subprocess.run(shown, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    module = types.ModuleType("before")
    sys.modules["before"] = module
    exec(source, module.__dict__)
    way: Way = module.__dict__["visible_text"]
    return way


def speed(pages: list[str], before: Way) -> tuple[list[list[str]], str]:
    """Return a row a way: MB of HTML a CPU second; and the time of `all` over that of the commit before."""
    size = sum(len(page.encode()) for page in pages) / 1e6
    taken: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        for name, way in {"before": before, **ways()}.items():
            if name.startswith("trafilatura") and name in taken:
                continue
            began = time.process_time()
            for page in pages:
                way(page)
            taken.setdefault(name, []).append(time.process_time() - began)
    ratio = statistics.median(new / old for new, old in zip(taken["`all`"], taken["before"], strict=True))
    rows = [[name, f"{size / statistics.median(times):.1f}"] for name, times in taken.items() if name != "before"]
    return rows, f"{ratio:.2f}"


def printed() -> list[list[str]]:
    """Return a row a language: how much of a known text comes back out of a PDF of it."""
    rows = []
    for language in ("zh", "en"):
        for said, layout in (("first lines indented", {}), ("space between paragraphs", {"indent": 0, "gap": 8})):
            lines = known_text(language)
            data = pdf(lines, language, **layout)
            (batch,) = read(partial(BytesIO, data), "a.pdf", ReadOptions(max_document_bytes=1_000_000))
            (text,) = batch.table["text"].to_pylist()
            whole = len(set(lines) & set(text.split("\n"))) / len(set(lines))
            rows.append(
                [language, said, f"{100 * same_share(chr(10).join(lines), text):.2f} %", f"{100 * whole:.0f} %"]
            )
    return rows


def _table(head: list[str], rows: list[list[str]]) -> str:
    return table([dict(zip(head, row, strict=True)) for row in rows])


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", default=BEFORE, help="commit whose `all` is compared with")
    before = reader_of(parser.parse_args().before)
    pages, real = list(marked_pages()), real_pages()
    rows, ratio = speed(real, before)
    size = sum(len(page.encode()) for page in real) / 1e6
    text = [
        "# Web pages and PDF, measured\n",
        "`python -m benchmarks.pages`: sixty pages made for this, thirty a language, their main text marked by hand;",
        "F1 of words. The names that `main` looks for were chosen with these layouts in sight. In the column without",
        "names every class and id is replaced.\n",
        conditions("selectolax", "resiliparse", "pypdfium2", "reportlab"),
        "",
        _table(["way", "F1 zh", "F1 en", "F1 of all", "without names", "worst page"], quality(pages)),
        "",
        _table(["layout", *ways()], kinds(pages)),
        "",
        f"Speed on {len(real)} real pages ({size:.1f} MB) of {', '.join(PACKAGES)}.",
        f"`all` takes {ratio} of the time that it took before hidden text was looked for.\n",
        _table(["way", "MB of HTML a CPU second"], rows),
        "",
        "Text out of PDF that was made of known text, over some pages with a header and a page number on each:\n",
        _table(["language", "layout", "characters in order", "paragraphs that are one line"], printed()),
        "",
    ]
    (DOCS / "pages.md").write_text("\n".join(text), encoding="utf-8")


if __name__ == "__main__":
    main()
