"""The index of the corpus: what building it takes, and how long `trace` searches; writes docs/benchmarks/index.md.

    python -m benchmarks.index [--texts FILE...] [--gb 1] [--nights 100] [--folder FOLDER]

The text is the benchmark corpus, or that of JSON lines (.zst), over and over, each time edited anew, so that no two
documents are the same. It is encoded once and published twice, as one night and as many, in a folder that must hold
about ten times as much: a temporary one, or FOLDER, where another run finds it again.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import itertools
import json
import random
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import zstandard

from benchmarks.corpus_data import CACHE, LANGUAGES, prepare
from benchmarks.machine import DOCS, Measured, conditions, measure, table
from benchmarks.memory import interspersed
from slimpajama.core.config import Config, IngestConfig, SourceConfig, TextConfig, TokenizerConfig
from slimpajama.core.logs import step_log
from slimpajama.core.schema import SHARDS
from slimpajama.corpus.index import index_nights
from slimpajama.corpus.shards.columns import encode_words, shard_bytes, words_of
from slimpajama.corpus.trace import trace
from slimpajama.text.segment import Segmenter
from slimpajama.text.tokenizer import SEPARATOR, Tokenizer, train_tokenizer
from slimpajama.workspace import catalogue, layout
from slimpajama.workspace.index import open_index
from slimpajama.workspace.local import LocalStore
from slimpajama.workspace.manifest import FileEntry, Manifest, entry_of
from slimpajama.workspace.nights import Nights
from slimpajama.workspace.open import open_workspace
from slimpajama.workspace.parquet import parquet_bytes
from slimpajama.workspace.store import sha256

CFG = Config(ingest=IngestConfig(sources=(SourceConfig(name="grown", uri="grown/*", licence="many"),)))
# Text that teaches the vocabulary, and documents that are kept out of the index.
LEARN_MB, UNSEEN = 12, 300
# Of a traced text: words, or twice as many ideographs, half of them quoted in stretches.
WORDS, STRETCH = 1000, 50
TRIES = 7
HAN = re.compile(r"[\u4e00-\u9fff]")


def read_texts(files: Sequence[Path]) -> list[str]:
    """Return the texts of JSON lines, in an order that mixes the files."""
    found = []
    for file in files:
        with zstandard.open(file, "rt", encoding="utf-8") if file.suffix == ".zst" else file.open() as lines:
            found += [json.loads(line)["text"] for line in lines]
    random.Random("index").shuffle(found)
    return found


def chunks(texts: Sequence[str], size: float, count: int) -> Iterator[list[str]]:
    """Yield lists of texts, which together have `size` bytes."""
    rng, some, written, done = random.Random("grow"), list[str](), 0, 1
    for turn, text in ((turn, text) for turn in itertools.count() for text in texts):
        some.append(interspersed(text, rng) if turn else text)
        written += len(some[-1].encode())
        if written >= size * done / count:
            yield some
            some, done = [], done + 1
            if done > count:
                return


def shard(number: int, texts: Sequence[str], segmenter: Segmenter, encoder: Tokenizer) -> tuple[bytes, pa.Table]:
    """Return a shard without its words, and what a night's documents say of it."""
    rows = pa.table({"text": pa.array(texts, pa.large_string())})
    words = words_of(rows.append_column("lengths", segmenter.lengths(rows["text"].combine_chunks())))
    _, ids, _ = encode_words(words, np.zeros(len(words.values.dictionary), np.bool_), encoder)
    names = [hashlib.sha256(f"{number} {row}".encode()).hexdigest()[:32] for row in range(len(texts))]
    none = pa.array([[]] * len(texts), pa.list_(pa.string()))
    columns = {"id": names, "words": none, "content_words": none, "input_ids": ids}
    columns |= {"content_mask": [""] * len(texts), "n_bytes": [0] * len(texts)}
    columns |= {name: ["grown"] * len(texts) for name in ("lang", "source")}
    uris = [f"grown/part-{number:05d}.jsonl#{row + 1}" for row in range(len(texts))]
    documents = pa.table({"id": names, "source": columns["source"], "uri": uris, "text": rows["text"]})
    return shard_bytes(pa.table([columns[name] for name in SHARDS.names], SHARDS.names)), documents


def publish(folder: Path, texts: Sequence[str], size: float, nights: int) -> None:
    """Publish the text as one night in `one`, and as several in `many`."""
    segmenter, learnt = Segmenter(TextConfig()), next(chunks(texts, LEARN_MB * 1e6, 1))
    vocabulary = train_tokenizer((SEPARATOR.join(segmenter.cut(text)) for text in learnt), TokenizerConfig())
    encoder, stores = Tokenizer.load(vocabulary), {name: LocalStore(str(folder / name)) for name in ("one", "many")}
    listed: dict[str, list[FileEntry]] = {}
    for number, some in enumerate(chunks(texts, size, nights)):
        train, documents = shard(number, some, segmenter, encoder)
        for name, night in (("one", "one"), ("many", f"n{number:03d}")):
            files = {
                f"nights/{night}/shards/train/{sha256(train)[:16]}.parquet": train,
                f"nights/{night}/documents/part-{number:05d}.parquet": parquet_bytes(documents),
            }
            listed.setdefault(night, [])
            for path, data in files.items():
                stores[name].write(path, data)
                listed[night].append(entry_of(path, data, len(some)))
    for night, entries in listed.items():
        store = stores["one" if night == "one" else "many"]
        path = f"nights/{night}/tokenizer/tokenizer.json"
        store.write(path, vocabulary)
        made = Manifest("shards", night, (*entries, entry_of(path, vocabulary)), {}, {})
        Nights(store).publish(night, [made], CFG)


def asked(unseen: Sequence[str], indexed: Sequence[str], lang: str) -> str:
    """Return a text of WORDS words or twice as many ideographs: stretches that were indexed, and others."""
    rng, parts = random.Random(lang), list[str]()
    unit = r"[\u4e00-\u9fff][^\u4e00-\u9fff]*" if lang == "zh" else r"\S+\s*"
    stretch = STRETCH * (2 if lang == "zh" else 1)
    kinds = [
        [text for text in texts if (len(HAN.findall(text)) > len(text) / 3) == (lang == "zh")]
        for texts in (unseen, indexed)
    ]
    for texts in itertools.cycle(kinds):
        units = re.findall(unit, rng.choice(texts))
        begin = rng.randrange(max(1, len(units) - stretch))
        parts += units[begin : begin + stretch]
        if len(parts) >= stretch * WORDS / STRETCH:
            return "".join(parts)
    raise AssertionError


def build(workspace: str) -> None:
    """Index every night of a workspace, and say how large it is."""
    space = open_workspace(workspace)
    for night in space.nights.published():
        catalogue.forget(space.store, layout.night(night).index.path)
    report = index_nights(space, Config())
    [index] = open_index(space, space.nights.published())
    files = [(name, entry) for part in index.parts for name, entry in part.entries.items()]
    sizes = {name: sum(entry.bytes for kind, entry in files if kind == name) for name in dict(files)}
    print(json.dumps({"parts": len(index.parts), "merged": len(report.merged), "sizes": sizes}))


def search(workspace: str, file: str) -> None:
    """Trace a text again and again, and say how long it took."""
    space, text, seconds, cpu = open_workspace(workspace), Path(file).read_text(encoding="utf-8"), [], []
    for _ in range(TRIES + 1):
        begun = time.perf_counter(), time.process_time()
        found = trace(space, text)
        seconds.append(time.perf_counter() - begun[0])
        cpu.append(time.process_time() - begun[1])
    longest = max(span.end - span.start for span in found.spans)
    print(
        json.dumps(
            {
                "first": seconds[0],
                "again": statistics.median(seconds[1:]),
                "cpu": statistics.median(cpu[1:]),
                "spans": found.found,
                "longest": longest,
            }
        )
    )


def rows(folder: Path, texts: Sequence[str], gigabytes: float, nights: int) -> tuple[list[dict[str, object]], ...]:
    """Return the rows of building and of searching."""
    unseen, indexed = texts[:UNSEEN], texts[UNSEEN:]
    if not (folder / "one" / layout.NIGHTS_INDEX).exists():
        step_log("bench").info(f"encoding {gigabytes:g} GB ...")
        publish(folder, indexed, gigabytes * 1e9, nights)
    for lang in LANGUAGES:
        (folder / f"{lang}.txt").write_text(asked(unseen, indexed, lang), encoding="utf-8")
    built, searched = list[dict[str, object]](), list[dict[str, object]]()
    ours = [sys.executable, "-m", "benchmarks.index"]
    for name, count in (("one", 1), ("many", nights)):
        step_log("bench").info(f"indexing {count} nights ...")
        done = measure([*ours, "--build", folder / name])
        made = json.loads(done.output.splitlines()[-1])
        ids, whole = made["sizes"]["ids.npy"], sum(made["sizes"].values())
        built.append(
            {
                "nights": count,
                "CPU-s": f"{done.cpu_s:.0f}",
                "peak MB": f"{done.peak_mb:.0f}",
                "tokens, M": f"{ids / 2e6:.0f}",
                "parts asked": made["parts"],
                "merges": made["merged"],
                "MB": f"{whole / 1e6:.0f}",
                "times the ids": f"{whole / ids:.2f}",
            }
        )
        print(built[-1], file=sys.stderr)
        for lang in LANGUAGES:
            file = folder / f"{lang}.txt"
            found = json.loads(measure([*ours, "--search", folder / name, file]).output.splitlines()[-1])
            command = [
                sys.executable,
                "-m",
                "slimpajama",
                "trace",
                "--text",
                file,
                "--workspace",
                folder / name,
                "--json",
            ]
            runs: list[Measured] = sorted((measure(command) for _ in range(3)), key=lambda run: run.wall_s)
            searched.append(
                {
                    "nights": count,
                    "text": f"{WORDS} words" if lang == "en" else f"{2 * WORDS} ideographs",
                    "search, CPU-s": f"{found['cpu']:.2f}",
                    "search, s": f"{found['again']:.2f}",
                    "first of a process, s": f"{found['first']:.2f}",
                    "command, s": f"{runs[1].wall_s:.1f}",
                    "its CPU-s": f"{runs[1].cpu_s:.1f}",
                    "spans": found["spans"],
                    "longest, characters": found["longest"],
                }
            )
            print(searched[-1], file=sys.stderr)
    return built, searched


def main() -> None:
    """Run everything and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=CACHE.parent)
    parser.add_argument("--texts", type=Path, nargs="+", help="JSON lines instead of the benchmark corpus")
    parser.add_argument("--gb", type=float, default=1.0, help="size of the text, in GB")
    parser.add_argument("--nights", type=int, default=100)
    parser.add_argument("--folder", type=Path, help="keep what is encoded here")
    parser.add_argument("--build", help=argparse.SUPPRESS)
    parser.add_argument("--search", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.build:
        return build(args.build)
    if args.search:
        return search(*args.search)
    files = args.texts or [prepare(args.cache / "corpus") / f"{language}.jsonl" for language in LANGUAGES]
    texts = read_texts(files)
    with contextlib.nullcontext(args.folder) if args.folder else tempfile.TemporaryDirectory() as folder:
        built, searched = rows(Path(folder), texts, args.gb, args.nights)
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    page = [
        "# Index and trace, measured\n",
        f"`python -m benchmarks.index`: {megabytes:.0f} MB of Chinese and English text, repeated with edits to"
        f" {args.gb:g} GB, as one night and as {args.nights}.\n",
        conditions("pydivsufsort", "numba", "numpy", "pyarrow"),
        "- one thread; files in the page cache, and mapped ones count to the peak; what is traced is half unseen, half"
        f" quoted in stretches of {STRETCH} words\n",
        "## Building\n",
        table(built),
        "\nMarks for one night: 120 CPU-s, 1000 MB, 3.2 times the ids. `MB` are the parts that a search of all nights"
        " asks; the parts of single nights that were merged take as much again.\n",
        "## Searching\n",
        table(searched),
        "\nMarks: 1 s for one night, 2 s for a hundred. `search` is that of a process that runs, as `serve` does; the"
        " command starts Python, its libraries and the segmenter first. A match that occurs more than 1,000 times in a"
        " part is told as its tokens have it, so a few spans differ between the two.\n",
    ]
    (DOCS / "index.md").write_text("\n".join(page), encoding="utf-8")
    print((DOCS / "index.md").read_text(encoding="utf-8"))
    return None


if __name__ == "__main__":
    main()
