"""What a night costs when little is new, and whether nights, workers and hash seeds change what is kept.

    python -m benchmarks.nights [--cache FOLDER] [--alternations 3]

`python -m benchmarks.corpus` includes it; alone it prints Markdown.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow.parquet as pq

from benchmarks.corpus_data import CACHE, LANGUAGES, prepare, read_lines, write_lines
from benchmarks.machine import settings, table
from benchmarks.memory import interspersed
from benchmarks.night import Times, run_night, total, write_config
from benchmarks.truth import hashed, jaccard
from slimpajama.core.logs import step_log

Records = list[tuple[str, str]]
MARK = 0.03


def split(records: Mapping[str, Records], share: float) -> tuple[Records, Records]:
    """Return documents of both languages, shuffled, and a share of them by size set apart."""
    everything = [record for language in LANGUAGES for record in records[language]]
    random.Random("nights").shuffle(everything)
    size, wanted = 0, share * sum(len(text.encode()) for _, text in everything)
    for number, (_, text) in enumerate(everything):
        if size >= wanted:
            return everything[number:], everything[:number]
        size += len(text.encode())
    return [], everything


def small_night(history: Records, new: Records, folder: Path, alternations: int) -> dict[str, dict[str, float]]:
    """Return CPU and wall seconds of a second night over `new` and of everything at once, medians."""
    took: dict[str, list[Times]] = {"second": [], "everything": []}
    for kind in took:
        (folder / kind / "raw").mkdir(parents=True)
    for kind in took:
        write_lines(folder / kind / "raw" / "0.jsonl", history)
    write_lines(folder / "everything" / "raw" / "1.jsonl", new)
    configs = {kind: write_config(folder / kind, "raw/*.jsonl") for kind in took}
    run_night(configs["second"], "1")
    shutil.move(folder / "second" / "workspace", folder / "history")
    write_lines(folder / "second" / "raw" / "1.jsonl", new)
    for _ in range(alternations):
        for kind, config in configs.items():
            shutil.rmtree(config.parent / "workspace", ignore_errors=True)
            if kind == "second":
                shutil.copytree(folder / "history", config.parent / "workspace")
            step_log("bench").info(f"a night over {kind} ...")
            took[kind].append(run_night(config, "2")[0])
    return {
        kind: {clock: sorted(total(times, clock) for times in found)[len(found) // 2] for clock in ("cpu_s", "wall_s")}
        | {f"{stage}": sorted(times[stage]["cpu_s"] for times in found)[len(found) // 2] for stage in found[0]}
        for kind, found in took.items()
    }


def kept(workspace: Path, nights: Sequence[str]) -> dict[str, str]:
    """Return the raw ids (the end of `uri`) of all kept documents and their texts."""
    found = {}
    for night in nights:
        for path in sorted((workspace / "nights" / night / "documents").glob("*.parquet")):
            rows = pq.read_table(path, columns=["uri", "text"])
            found.update(
                zip((uri.split("#", 1)[1] for uri in rows["uri"].to_pylist()), rows["text"].to_pylist(), strict=True)
            )
    return found


def files_of(workspace: Path, nights: Sequence[str]) -> list[tuple[str, str]]:
    """Return path and SHA-256 of every file that the nights' manifests list."""
    manifests = (json.loads((workspace / "nights" / night / "manifest.json").read_text()) for night in nights)
    return [(entry["path"], entry["sha256"]) for manifest in manifests for entry in manifest["files"]]


def same_bytes(records: Records, folder: Path) -> dict[str, str]:
    """Build two nights with one and two workers and two hash seeds; return how each differs from the first."""
    seen, first = {}, None
    for workers, seed in ((1, "0"), (2, "0"), (1, "12345")):
        here = folder / f"{workers}-{seed}"
        (here / "raw").mkdir(parents=True)
        config = write_config(here, "raw/*.jsonl")
        for night, part in (("1", records[::2]), ("2", records[1::2])):
            write_lines(here / "raw" / f"{night}.jsonl", part)
            step_log("bench").info(f"night {night} with {workers} workers and hash seed {seed} ...")
            run_night(config, night, workers=workers, seed=seed, cold=True)
        files = files_of(here / "workspace", ("1", "2"))
        first = first or files
        differ = len(set(files) ^ set(first))
        seen[f"{workers} worker{'s' if workers > 1 else ''}, hash seed {seed}"] = (
            f"{len(files)} files, {'equal bytes' if not differ else f'{differ} DIFFER'}"
        )
    return seen


def three_nights(records: Records, folder: Path, name: str, options: Sequence[str] = ()) -> dict[str, object]:
    """Compare three nights over growing sources with one build of everything, both with these options.

    Nights keep what came first, one build what its survivor rule says (priority, length, id); so the kept sets are
    compared by what they stand for: each document that only one of the two keeps must have a similar one in the other.
    """
    names = ("1", "2", "3")
    for kind in ("grown", "once"):
        (folder / kind / "raw").mkdir(parents=True)
    grown, once = (write_config(folder / kind, "raw/*.jsonl") for kind in ("grown", "once"))
    for number, night in enumerate(names):
        for kind in ("grown", "once"):
            write_lines(folder / kind / "raw" / f"{night}.jsonl", records[number::3])
        step_log("bench").info(f"night {night} of three ...")
        run_night(grown, night, *options, cold=True)
    run_night(once, "1", *options, cold=True)
    by_nights, at_once = kept(folder / "grown" / "workspace", names), kept(folder / "once" / "workspace", ("1",))
    alone = {}
    for kind, mine, others in (("nights", by_nights, at_once), ("once", at_once, by_nights)):
        only = sorted(set(mine) - set(others))
        counterpart = {i: hashed(others[i]) for i in sorted(set(others) - set(mine))}
        sets = [hashed(mine[i]) for i in only]
        alone[kind] = sum(all(jaccard(a, b) < 0.8 for b in counterpart.values()) for a in sets)
    return {
        "": name,
        "documents": f"{len(records):,}",
        "kept by three nights": f"{len(by_nights):,}",
        "kept at once": f"{len(at_once):,}",
        "kept by both": f"{len(set(by_nights) & set(at_once)):,}",
        "only by nights, unlike any only at once": alone["nights"],
        "only at once, unlike any only by nights": alone["once"],
    }


def report(records: Mapping[str, Records], folder: Path, alternations: int) -> str:
    """Return the Markdown of all three measurements."""
    history, new = split(records, 0.01)
    rng = random.Random("edits")
    edits = [(f"{name}#edit", interspersed(text, rng)) for name, text in rng.sample(history, max(1, len(new) // 2))]
    sets = {"all of it new": new, "half of it edits of old documents": [*new[: len(new) // 2], *edits]}
    rows = []
    for number, (name, documents) in enumerate(sets.items()):
        took = small_night(history, documents, folder / f"small-{number}", alternations)
        second, everything = took["second"], took["everything"]
        share = sum(len(text.encode()) for _, text in documents) / sum(
            len(t.encode()) for _, t in [*history, *documents]
        )
        rows.append(
            {
                "second night": name,
                "new": f"{share:.2%}",
                "CPU-s": f"{second['cpu_s']:.2f} of {everything['cpu_s']:.2f}",
                "share": f"{second['cpu_s'] / everything['cpu_s']:.1%}",
                "by the clock": f"{second['wall_s'] / everything['wall_s']:.1%}",
                "mark": f"{MARK:.0%}",
                "where it goes, CPU-s": ", ".join(
                    f"{stage} {seconds:.2f}" for stage, seconds in second.items() if stage not in ("cpu_s", "wall_s")
                ),
            }
        )
    fifth = [record for number, record in enumerate([*new, *history]) if number % 5 == 0]
    copies = [(f"{name}#copy", interspersed(text, rng)) for name, text in fifth[::4]]
    mixed = [*fifth, *copies]
    random.Random("mixed").shuffle(mixed)
    equal = same_bytes(mixed, folder / "bytes")
    return "\n".join(
        [
            "## A night when little is new\n",
            "Library steps in a warm process: starting Python, imports and Prefect come on top, as in the table above,"
            " whatever the night's size.\n",
            table(rows),
            "\n## Three nights and one build\n",
            "A fifth of the corpus with edited copies, in three growing portions against everything at once.\n",
            table(
                [
                    three_nights(mixed, folder / "three", "as configured"),
                    three_nights(
                        mixed,
                        folder / "three-apart",
                        "without comparing with held-out text",
                        settings(decontaminate__held_out_share=0),
                    ),
                ]
            ),
            "\n## The same bytes\n",
            "Two nights over the same fifth, SHA-256 of every published file.\n",
            table([equal]),
            "",
        ]
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=CACHE.parent)
    parser.add_argument("--alternations", type=int, default=3)
    args = parser.parse_args()
    corpus = prepare(args.cache / "corpus")
    with tempfile.TemporaryDirectory() as temporary:
        records = {language: read_lines(corpus / f"{language}.jsonl") for language in LANGUAGES}
        print(report(records, Path(temporary), args.alternations))


if __name__ == "__main__":
    main()
