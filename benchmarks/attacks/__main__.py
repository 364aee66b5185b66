"""Attack a workspace, the servers and the command line in every way that is known, and write down what got through.

    python -m benchmarks.attacks [--seed N] [MODULE ...] [--tries MODULE=N ...]

Each module of this folder is one kind of attack. Without names all of them are tried. Replaces the section "Attacks" of
docs/reliability.md; `python -m benchmarks.soak` writes the rest of that page.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.attacks import Row
from benchmarks.attacks._page import replaced, section
from benchmarks.machine import ROOT

OUT = ROOT / "docs" / "reliability.md"
# How often each is tried; a module that is not named here tries all that there is.
TRIES = {"bits": 40, "writers": 20, "requests": 500}


def run(name: str, tries: int, seed: int) -> list[Row]:
    """Try one kind of attack in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix=f"attack-{name}-") as folder:
        rows: list[Row] = importlib.import_module(f"benchmarks.attacks.{name}").attack(Path(folder), tries, seed)
    return rows


def main() -> None:
    """Run the attacks and write the section."""
    names = sorted(file.stem for file in Path(__file__).parent.glob("[!_]*.py"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="MODULE", help=", ".join(names))
    parser.add_argument("--seed", type=int, default=20261201)
    parser.add_argument("--tries", nargs="*", default=[], metavar="MODULE=N", help="other numbers of tries")
    args = parser.parse_args()
    chosen = args.names or names
    if unknown := set(chosen) - set(names):
        parser.error(f"no such attack: {', '.join(sorted(unknown))}")
    tries = TRIES | {name: int(number) for name, _, number in (one.partition("=") for one in args.tries)}
    rows: list[Row] = []
    for name in chosen:
        began = time.perf_counter()
        print(f"{name} ...", file=sys.stderr, flush=True)
        rows += run(name, tries.get(name, 0), args.seed)
        print(f"{name}: {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    text = section(rows, args.seed)
    print(text)
    if set(chosen) == set(names):
        OUT.write_text(replaced(OUT.read_text(encoding="utf-8"), text), encoding="utf-8")
    if any(row.broken for row in rows):
        sys.exit("attacks: something got through")


if __name__ == "__main__":
    main()
