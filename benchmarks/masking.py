"""How often `clean.mask_pii` masks what is no personal data, and how fast it is; writes docs/benchmarks/masking.md.

    python -m benchmarks.masking [--texts FOLDER] [--list FILE]

Reads each `*.jsonl` and `*.jsonl.zst` of a folder (field `text`); without one the benchmark corpus, which apt fetches.
`--list` writes every distinct item with what stands around it, to be looked at: what is found wrong goes to `WRONG`, so
that the next run counts it. Speed is that of one core, medians of three
turns with the code before version 2 of masking.
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import re
import statistics
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pyarrow as pa
import zstandard

from benchmarks.corpus_data import LANGUAGES, prepare
from benchmarks.machine import DOCS, ROOT, conditions, table
from slimpajama.corpus.clean import pii

OUT = DOCS / "masking.md"
BEFORE = "36b6f60"
ROUNDS = 3
AROUND = 30  # characters
# Which items are none: looked at by hand, all numbers and addresses of the texts of 2026-12 and each distinct e-mail.
WRONG = {
    "email": r"external\+py3\.1[35]@.*|USER%SOMETHING@some\.where|en@(?:bold)?quot\.header|Package@swift.*",
    "phone": r"0?17777777777|14871501014",
    "ip": r"3\.3\.9\.45|3\.36\.10\.0|3\.37\.10\.0|2\.6\.38\.6|7\.21\.6\.2|6\.34\.2\.[123]",
    "id": r"137510220928964",
    "bank_card": r"[0-9]{18}",
    "landline": r"0377777777[57][57]|0101111111|4000000000",
}


def texts_of(file: Path) -> Iterator[str]:
    """Yield a file's texts, each once."""
    seen = set()
    with file.open("rb") as stream:
        lines = zstandard.ZstdDecompressor().stream_reader(stream) if file.suffix == ".zst" else stream
        for line in io.TextIOWrapper(lines, encoding="utf-8"):
            text = json.loads(line)["text"]
            if text not in seen:
                seen.add(text)
                yield text


def items(text: str, kind: str) -> Iterator[tuple[str, str]]:
    """Yield each item of a kind that is masked, and the text around it."""
    masked, _ = pii.mask(text, [kind])
    mask, at = {"phone": "<PHONE>", "landline": "<PHONE>"}.get(kind, f"<{kind.upper()}>"), 0
    pieces = masked.split(mask)
    for piece, after in itertools.pairwise(pieces):
        begin = at + len(piece)
        # What lies between two pieces; the last one reaches to the end.
        end = text.find(after, begin + 1) if after else len(text)
        yield text[begin:end], text[max(0, begin - AROUND) : end + AROUND]
        at = end


def code_before() -> ModuleType | None:
    """Return the module as it was, or None where the history does not hold it."""
    shown = subprocess.run(
        ["git", "show", f"{BEFORE}:slimpajama/corpus/clean/pii.py"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if shown.returncode:
        return None
    module = ModuleType("pii_before")
    exec(compile(shown.stdout, "pii_before", "exec"), module.__dict__)
    return module


def rates(column: pa.LargeStringArray, megabytes: float) -> dict[str, str]:
    """Return MB a CPU-second of the code and of that before."""
    ways = {"MB/s": pii, "MB/s before": code_before()}
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, module in ways.items():
            if module:
                began = time.process_time()
                module.mask_block(column)
                found[name].append(megabytes / (time.process_time() - began))
    return {name: f"{statistics.median(values):.0f}" if values else "-" for name, values in found.items()}


def row(file: Path, listing: list[str]) -> dict[str, object]:
    """Measure one file."""
    texts = list(texts_of(file))
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    column = pa.array(texts, pa.large_string())
    counts: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    for kind, how in pii.KINDS.items():
        distinct: dict[str, str] = {}
        maybe = pa.compute.match_substring_regex(column, how.maybe)
        for text in column.filter(maybe).to_pylist():
            for item, around in items(text, kind):
                counts[kind] += 1
                wrong[kind] += bool(re.fullmatch(WRONG.get(kind, "(?!)"), item))
                distinct.setdefault(item, around)
        listing += [f"{file.name}\t{kind}\t{item!r}\t{around!r}" for item, around in distinct.items()]
    default = sum(wrong[kind] for kind in pii.DEFAULT)
    return {
        "texts": file.name.partition(".")[0],
        "MB": f"{megabytes:.1f}",
        **{kind: counts[kind] for kind in pii.DEFAULT},
        "of them wrong": default,
        "wrong a MB": f"{default / megabytes:.2f}",
        "by option": sum(counts[kind] for kind in pii.KINDS if kind not in pii.DEFAULT),
        "wrong by option": sum(wrong.values()) - default,
        **rates(column, megabytes),
    }


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--texts", type=Path)
    parser.add_argument("--list", type=Path)
    args = parser.parse_args()
    if args.texts:
        files = sorted(path for path in args.texts.iterdir() if path.name.endswith((".jsonl", ".jsonl.zst")))
    else:
        corpus = prepare()
        files = [corpus / f"{lang}.jsonl" for lang in LANGUAGES]
    listing: list[str] = []
    rows = [row(file, listing) for file in files]
    if args.list:
        args.list.write_text("\n".join(listing) + "\n", encoding="utf-8")
    page = "\n".join(
        [
            "# Masking of personal data, measured\n\n`python -m benchmarks.masking`: what `clean.mask_pii` and"
            " `clean.mask_also` find in real text, and how much of it is none, by hand. An address of an example"
            " (`user@example.com`) has the form of one, and so counts as right. Processor time of one core, filter and"
            f" masks together, in turn with the code of commit {BEFORE}.\n",
            conditions("pyarrow") + "\n",
            table(rows) + "\n",
        ]
    )
    OUT.write_text(page, encoding="utf-8")
    print(page)


if __name__ == "__main__":
    main()
