"""Deduplication of the demo corpus against datatrove, on the same files in one run.

    python -m benchmarks.dedup [--alternations 3]

Reads the demo corpus's raw files, writes them as JSON lines a language, lets `benchmarks/dedup_peers.py` run all sides
over each in turns, and writes docs/benchmarks/dedup.md.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from benchmarks.machine import ROOT, conditions
from slimpajama.config import load_config
from slimpajama.demo_corpus import build_demo_corpus
from slimpajama.ingest.discover import open_input, plan
from slimpajama.ingest.stage import wanted
from slimpajama.readers.files import read

__all__ = ["main"]

OUT = ROOT / "docs" / "benchmarks" / "dedup.md"


def write_lines(folder: Path) -> dict[str, Path]:
    """Write the demo corpus as `zh.jsonl` and `en.jsonl` below `folder`; return the files by language."""
    build_demo_corpus(folder)
    cfg = load_config(folder / "demo.toml")
    files = {lang: folder / f"{lang}.jsonl" for lang in ("zh", "en")}
    sources = {source.name: source for source in cfg.ingest.sources}
    with files["zh"].open("w", encoding="utf-8") as zh, files["en"].open("w", encoding="utf-8") as en:
        for item in plan(cfg, ()).files:
            out = zh if item.source.endswith("-zh") else en
            for batch in read(partial(open_input, item), item.path, wanted(sources[item.source], cfg.ingest)):
                for text in batch.table["text"].to_pylist():
                    out.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
    return files


def main() -> None:
    """Run the comparison and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--alternations", type=int, default=3)
    parser.add_argument("--environment", type=Path, help="environment for the peers; default: a temporary one")
    args = parser.parse_args()
    pages = []
    with tempfile.TemporaryDirectory() as folder:
        for lang, path in write_lines(Path(folder)).items():
            command = [sys.executable, ROOT / "benchmarks" / "dedup_peers.py", path, "--language", lang, "--mb", "1000"]
            done = subprocess.run(
                [*map(str, command), "--alternations", str(args.alternations),
                 "--environment", str(args.environment or Path(folder) / "peers")],
                stdout=subprocess.PIPE, text=True, check=True,
            )  # fmt: skip
            pages.append(f"## {lang}\n\n{done.stdout.rsplit(chr(10), 2)[0].strip()}\n")
    head = (
        "# Deduplication, measured\n\n`python -m benchmarks.dedup`: the raw text of the demo corpus, each side on one"
        f" thread, medians of {args.alternations} turns of processor time.\n\n"
        f"{conditions('numba', 'pyarrow', 'numpy')}\n"
    )
    OUT.write_text("\n".join([head, *pages]), encoding="utf-8")
    print(OUT.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
