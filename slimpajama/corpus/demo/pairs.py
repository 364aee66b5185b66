"""Pairs for the demo, for every application in both languages, out of packages as the corpus is.

| source | a pair is |
|---|---|
| `jupyterlab`, `horizon`, `cinder`, `heat` | a message of a program's Chinese catalogue, as gettext's file holds it |
| `headlines-zh` | an article of the newspaper, and its headline |
| `docstrings-en` | what stands below a docstring's first paragraph, and that paragraph |
| `cloze-zh`, `cloze-en` | a passage, a sentence out of it with a name left out, and the name (`cloze.py`) |

What belongs to one article or module is one group, so that it is in one split, and tests cost the corpus no more
documents than there are groups in them.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path

from slimpajama.core.config import PairSourceConfig, Task
from slimpajama.corpus.demo import chinese, cloze, python_texts
from slimpajama.corpus.demo.download import CINDER, HEAT, HORIZON, JUPYTERLAB_ZH, members, read_member
from slimpajama.corpus.pairs.records import Pair, read_pairs

CATALOGUES = {
    "jupyterlab": (JUPYTERLAB_ZH, "BSD-3-Clause, Project Jupyter"),
    "horizon": (HORIZON, "Apache-2.0, OpenStack"),
    "cinder": (CINDER, "Apache-2.0, OpenStack"),
    "heat": (HEAT, "Apache-2.0, OpenStack"),
}
# That every installation has; Python's own are in the corpus.
PACKAGES = ("matplotlib", "numpy", "polars")
_OWN = "PSF-2.0 (matplotlib), BSD-3-Clause (numpy), MIT (polars), LGPL-2.1 (gensim)"
_CATALOGUE = r"/zh_(CN|Hans)/LC_MESSAGES/[^/]+\.(po|mo)$"
# Of a docstring's first paragraph: shorter says nothing, longer sums up nothing.
_HEAD_CHARS = range(20, 200)
# Of what is summed up.
_LEAST_CHARS = {"zh": 100, "en": 150}
_PASSAGE_CHARS = {"zh": 600, "en": 1500}

Row = dict[str, str]
Documents = Callable[[], Iterable[tuple[str, str]]]  # name or title, text
Files = Iterable[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class PairsReport:
    """One source of pairs as it was written."""

    name: str
    task: str
    pattern: str
    files: int
    pairs: int
    """As they are read; which of them stay is for `slimpajama pairs` to say."""
    text_mb: float
    """UTF-8 of both sides and the questions, in MB (10^6 bytes)."""
    licence: str


@dataclass(frozen=True, slots=True)
class PairsSource:
    """Where a source's pairs come from."""

    name: str
    task: Task
    licence: str
    files: Callable[[], Files]
    """Names and contents."""


def pair_sources(
    documents: Mapping[str, Documents],
    licences: Mapping[str, str],
    tagged: str,
    gensim: Path,
    wheels: Mapping[str, Path],
) -> list[PairsSource]:
    """Return the sources.

    Args:
        documents: The corpus's, by source.
        licences: Of the corpus's sources.
        tagged: The newspaper with its words' tags.
        gensim: Its wheel; its modules have long docstrings.
        wheels: Those of CATALOGUES, by source.
    """

    def modules() -> Iterator[tuple[str, bytes]]:
        for package in PACKAGES:
            yield from python_texts.package_modules(package)
        for name in members(gensim, r"^gensim/(?!test/).*\.py$"):
            yield name, read_member(gensim, name)

    def english() -> Iterator[Row]:
        texts = [row for name in ("wikipedia-en", "news-en") for row in documents[name]()]
        return _cloze([(title, text, cloze.english_names(text)) for title, text in texts], "en")

    def news() -> Iterator[Row]:
        names = chinese.names(tagged)
        texts = ((number, text, text.split("\n")) for number, text in documents["news-zh"]())
        return _cloze(
            [(number, text, tuple(n for line in lines for n in names[line])) for number, text, lines in texts], "zh"
        )

    mixed = f"{licences['wikipedia-en']}; {licences['news-en']}"
    return [
        *(
            PairsSource(name, "translation", licence, partial(_catalogues, wheels[name]))
            for name, (_, licence) in CATALOGUES.items()
        ),
        PairsSource(
            "headlines-zh", "summarization", licences["news-zh"], lambda: _jsonl(_headlines(documents["news-zh"]()))
        ),
        PairsSource("docstrings-en", "summarization", _OWN, lambda: _jsonl(_docstrings(modules()))),
        PairsSource("cloze-zh", "question-answering", licences["news-zh"], lambda: _jsonl(news())),
        PairsSource("cloze-en", "question-answering", mixed, lambda: _jsonl(english())),
    ]


def write_pairs(source: PairsSource, folder: Path) -> PairsReport:
    """Write a source's files into a folder of its own, and read them back to tell what is in them."""
    (folder / source.name).mkdir(parents=True)
    found: list[Pair] = []
    files = list(source.files())
    for name, data in files:
        (folder / source.name / name).write_bytes(data)
        settings = PairSourceConfig(name=source.name, uri=name, task=source.task)
        read = read_pairs(partial(BytesIO, data), name, settings)
        found += [item for item in read if isinstance(item, Pair)]
    n_bytes = sum(len("".join((pair.source, pair.question, *pair.targets)).encode()) for pair in found)
    return PairsReport(
        name=source.name,
        task=source.task,
        pattern=f"{folder.name}/{source.name}/*",
        files=len(files),
        pairs=len(found),
        text_mb=round(n_bytes / 1e6, 3),
        licence=source.licence,
    )


def _catalogues(wheel: Path) -> Files:
    """Yield the Chinese catalogues of a wheel as they are."""
    for member in members(wheel, _CATALOGUE):
        yield member.replace("/", "-"), read_member(wheel, member)


def _jsonl(rows: Iterable[Row]) -> Files:
    data = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    # No clock in the file.
    yield "pairs.jsonl.gz", gzip.compress(data, compresslevel=6, mtime=0)


def _headlines(articles: Iterable[tuple[str, str]]) -> Iterator[Row]:
    """Yield articles without their headline, and it."""
    for number, article in articles:
        found = chinese.headline(article)
        if found and len(found[1]) >= _LEAST_CHARS["zh"]:
            yield {"source": found[1], "target": found[0], "group": number}


def _docstrings(modules: Iterable[tuple[str, bytes]]) -> Iterator[Row]:
    """Yield docstrings without their first paragraph, which by PEP 257 is a summary of the rest."""
    for module, source in modules:
        for _, text in python_texts.named_docstrings(source):
            head, _, rest = text.partition("\n\n")
            if len(head) in _HEAD_CHARS and len(rest.strip()) >= _LEAST_CHARS["en"]:
                yield {"source": rest.strip(), "target": " ".join(head.split()), "group": module}


def _cloze(texts: list[tuple[str, str, tuple[str, ...]]], lang: str) -> Iterator[Row]:
    """Yield gap questions about texts, each given with its title and the names in it."""
    texts_with = cloze.frequencies(names for _, _, names in texts)
    for title, text, names in texts:
        for passage in cloze.passages(text, _PASSAGE_CHARS[lang]):
            for rest, question, name in cloze.questions(passage, names, lang, texts_with):
                yield {"source": rest, "question": question, "target": name, "group": title}
