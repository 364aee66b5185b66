"""Raw text to shards by stage, against datatrove's filters, MinHash and tokenizer; writes docs/benchmarks/corpus.md.

    python -m benchmarks.corpus [--cache FOLDER] [--mb 6] [--alternations 3]

Ours reads the whole benchmark corpus, once with each preset, with one worker; datatrove a sample of it by language,
with Gopher's repetition and quality filters, MinHash and its tokens' writer with our vocabulary. Processor time.
The second half: what a night costs when little is new, and whether nights, workers and hash seeds change anything.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from benchmarks import nights
from benchmarks.corpus_data import CACHE, LANGUAGES, prepare, read_lines, write_lines
from benchmarks.dedup import peer_python, run_peer, sample
from benchmarks.machine import DOCS, Measured, conditions, measure, median, settings, table
from benchmarks.night import Times, run_night, total, write_config
from slimpajama.core.logs import step_log

# Documents for what a start costs: enough that its filters leave some.
TINY = 50
PRESETS = ("chinese", "slimpajama")
MARK_MB_S, MARK_RATIO = 12, 60

BETTER = """\
Where datatrove is the better choice: a crawl that starts from WARC with its extractors, language identification by its
own models, a Slurm or Ray cluster, or filters in Python that change every week. Its tokens' file is one memory-mapped
array for its own loader; it neither segments Chinese nor keeps words, reasons and earlier nights, which ours does in
the time given. Its filters look at words, ours at characters, so the two keep different documents.
"""


def ours(config: Path, preset: str, alternations: int) -> list[tuple[Times, Measured]]:
    """Build the whole corpus several times; the last workspace stays."""
    found = []
    for _ in range(alternations):
        shutil.rmtree(config.parent / "workspace", ignore_errors=True)
        step_log("bench").info(f"building the corpus (preset {preset}) ...")
        found.append(run_night(config, "first", *settings(clean__preset=preset)))
    return found


def stage_table(runs: dict[str, list[tuple[Times, Measured]]], megabytes: float) -> str:
    """Return CPU seconds and rates by stage, medians over runs of each stage."""
    rows = []
    stages = [*next(iter(runs.values()))[0][0], "total"]
    for stage in stages:
        row: dict[str, object] = {"step": stage}
        for preset, found in runs.items():
            seconds = sorted(total(times) if stage == "total" else times[stage]["cpu_s"] for times, _ in found)
            middle = max(seconds[len(seconds) // 2], 1e-9)
            row |= {f"{preset}, CPU-s": f"{middle:.2f}", f"{preset}, MB per CPU-s": f"{megabytes / middle:.1f}"}
        rows.append(row)
    return table(rows)


def main() -> None:
    """Run everything and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=CACHE.parent)
    parser.add_argument("--mb", type=float, default=4.0, help="text for datatrove, in MB a language")
    parser.add_argument("--alternations", type=int, default=3)
    args = parser.parse_args()
    corpus = prepare(args.cache / "corpus")
    python = peer_python(args.cache, "datatrove")
    records = {language: read_lines(corpus / f"{language}.jsonl") for language in LANGUAGES}
    sizes = {k: sum(len(text.encode()) for _, text in found) / 1e6 for k, found in records.items()}
    megabytes = sum(sizes.values())
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        config = write_config(folder, *(str(corpus / f"{language}.jsonl") for language in LANGUAGES))
        step_log("bench").info("compiling what is not compiled yet ...")
        run_night(config, "warm", *settings(clean__preset=PRESETS[0]))
        runs = {preset: ours(config, preset, args.alternations) for preset in PRESETS}
        vocabulary = folder / "workspace" / "nights" / "first" / "tokenizer" / "tokenizer.json"
        (folder / "peer").mkdir()
        shutil.copy(vocabulary, folder / "peer" / "tokenizer.json")
        theirs: dict[str, float] = {}
        for language in LANGUAGES:
            some = sample(records[language], args.mb)
            size = sum(len(text.encode()) for _, text in some[TINY:]) / 1e6
            for name, lines in (("tiny", some[:TINY]), ("sample", some)):
                write_lines(folder / "peer" / f"{name}.jsonl", lines)
            seconds = {}
            for name in ("tiny", "sample"):
                file = folder / "peer" / f"{name}.jsonl"
                step_log("bench").info(f"datatrove on {name} ({language}) ...")
                turns = [
                    run_peer("datatrove-corpus", python, file, folder / "out", language)
                    for _ in range(args.alternations)
                ]
                seconds[name] = median(turns).cpu_s
            theirs[language] = size / (seconds["sample"] - seconds["tiny"])
        shutil.rmtree(folder / "workspace")
        step_log("bench").info("slimpajama prepare ...")
        command = [sys.executable, "-m", "slimpajama", "prepare", "--config", config, "--json"]
        whole = median(
            [
                measure(
                    [
                        *command,
                        "--night",
                        f"n{turn}",
                        "--workspace",
                        folder / f"whole-{turn}",
                        *settings(run__workers=1),
                    ]
                )
                for turn in range(args.alternations)
            ]
        )
        kinds = nights.report(records, folder, args.alternations)
    mixed = megabytes / sum(sizes[language] / theirs[language] for language in LANGUAGES)
    rate = {
        preset: sorted(megabytes / total(times) for times, _ in found)[len(found) // 2]
        for preset, found in runs.items()
    }
    rows = [
        {
            "": f"steps, preset {preset}",
            "MB per CPU-s": f"{value:.1f}",
            "mark": MARK_MB_S,
            "times datatrove": f"{value / mixed:.0f}",
            "its mark": MARK_RATIO,
        }
        for preset, value in rate.items()
    ]
    rows.append(
        {
            "": "`slimpajama prepare` with start-up and Prefect",
            "MB per CPU-s": f"{megabytes / whole.cpu_s:.1f}",
            "mark": "",
            "times datatrove": f"{megabytes / whole.cpu_s / mixed:.0f}",
            "its mark": "",
        }
    )
    rows.append(
        {
            "": "datatrove, without start-up, by the corpus's mixture",
            "MB per CPU-s": f"{mixed:.2f}",
            "mark": "",
            "times datatrove": "1",
            "its mark": "",
        }
    )
    page = [
        "# Raw text to shards, measured\n",
        f"`python -m benchmarks.corpus`: {megabytes:.1f} MB of Debian's documentation ({sizes['zh']:.1f} MB Chinese),"
        f" one worker, kernels compiled before, medians of {args.alternations} turns of processor time.\n",
        conditions("prefect", "polars", "pyarrow", "numba", "tokenizers"),
        f"- datatrove 0.10.1 on {args.mb:g} MB a language: {', '.join(f'{k} {v:.2f}' for k, v in theirs.items())}"
        " MB per CPU-s\n",
        table(rows),
        f"\nThe whole command took {whole.cpu_s:.1f} CPU-s, {whole.wall_s:.1f} s by the clock, {whole.peak_mb:.0f}"
        " MB at its peak.\n",
        "## By step\n",
        "The vocabulary is learnt on the first night only; later nights keep it.\n",
        stage_table(runs, megabytes),
        "",
        kinds,
        BETTER,
    ]
    (DOCS / "corpus.md").write_text("\n".join(page), encoding="utf-8")
    print((DOCS / "corpus.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
