"""Attack a workspace, the servers and the command line in every way that is known, and write down what got through.

    python -m benchmarks.attacks [--seed N] [--at-once N] [MODULE ...] [--tries MODULE=N ...]

Each module of this folder is one kind of attack. Without names all of them are tried. Replaces the section "Attacks" of
docs/reliability.md; `python -m benchmarks.soak` writes the rest of that page.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from benchmarks.attacks import run
from benchmarks.attacks._page import replaced, section
from benchmarks.machine import ROOT

OUT = ROOT / "docs" / "reliability.md"
# How often each is tried; a module that is not named here tries all that there is.
TRIES = {"bits": 40, "writers": 20, "requests": 500}


def main() -> None:
    """Run the attacks and write the section."""
    names = sorted(file.stem for file in Path(__file__).parent.glob("[!_]*.py"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="MODULE", help=", ".join(names))
    parser.add_argument("--seed", type=int, default=20261201)
    parser.add_argument("--tries", nargs="*", default=[], metavar="MODULE=N", help="other numbers of tries")
    parser.add_argument("--at-once", type=int, default=1, metavar="N", help="kinds that are tried at the same time")
    args = parser.parse_args()
    chosen = args.names or names
    if unknown := set(chosen) - set(names):
        parser.error(f"no such attack: {', '.join(sorted(unknown))}")
    tries = TRIES | {name: int(number) for name, _, number in (one.partition("=") for one in args.tries)}
    # A process for each: some change signals, limits or the environment of their own.
    spawned = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(args.at_once, mp_context=spawned, max_tasks_per_child=1) as pool:
        begun = [pool.submit(run, name, tries.get(name, 0), args.seed) for name in chosen]
        rows = [row for one in begun for row in one.result()]
    text = section(rows, args.seed)
    print(text)
    if set(chosen) == set(names):
        OUT.write_text(replaced(OUT.read_text(encoding="utf-8"), text), encoding="utf-8")
    if any(row.broken for row in rows):
        sys.exit("attacks: something got through")


if __name__ == "__main__":
    main()
