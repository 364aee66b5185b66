"""Near-duplicate removal against five other tools, on the same files in one run; writes docs/benchmarks/dedup.md.

    python -m benchmarks.dedup [--cache FOLDER] [--real FOLDER] [--mb 6] [--alternations 3]

Every side is a process of its own on one thread and counts by its processor time. The others are slow: they get a
sample of the corpus, ours that sample, the whole corpus, and 1 GB grown out of it. Truth is exact, over all pairs.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.corpus_data import CACHE, LANGUAGES, exact_jaccard, prepare, read_lines, write_lines
from benchmarks.machine import DOCS, Measured, conditions, measure, median, settings, table
from benchmarks.memory import grow
from benchmarks.night import run_night, total, write_config
from benchmarks.truth import Pairs, join
from slimpajama.core.config import DedupConfig
from slimpajama.core.logs import step_log
from slimpajama.corpus.dedup.kernel import sketch
from slimpajama.workspace.open import open_workspace

THRESHOLD = 0.8
MARKS = {"datatrove": 250, "text-dedup": 50, "datasketch-256": 50, "datasketch-128": 50}
PEERS = {
    "datatrove": ["datatrove==0.10.1", "xxhash<4", "spacy==3.8.*", "tokenizers==0.23.*", "nltk", "jieba", "orjson"],
    "text-dedup": ["text-dedup==0.4.0"],
    "datasketch": ["datasketch==2.0.0"],
    "rensa": ["rensa==0.5.0"],
    "daft": ["daft==0.7.26"],
}
SIDES = {
    "datatrove": "datatrove",
    "text-dedup": "text-dedup",
    "datasketch-256": "datasketch",
    "datasketch-128": "datasketch",
    "rensa": "rensa",
    "daft": "daft",
}

BETTER = """\
Where another tool is the better choice:

- **datatrove** spreads its stages over a Slurm or Ray cluster and keeps buckets on disk. It drops punctuation and takes
  all digits as one: pages that differ in numbers or markup only are one page to it, where exact character similarity
  of 0.8 keeps both.
- **datasketch** answers single queries against a live index (also in Redis or Cassandra), and estimates containment
  and weighted similarity; ours works in batches.
- **rensa** is the fastest of the others, and as a library without files the lightest: one call in a Python loop that
  has its texts already.
- **Daft** runs the same query on a cluster, on any table and beside any other query; its n-grams are its own kernel.
- **text-dedup** also has SimHash, suffix arrays and Bloom filters, and a Spark script; its words are what stands
  between non-letters, so to it a Chinese sentence is one word.
- On the first run after installation our kernels are compiled (`first run`). On a few MB, start-up is most of the run.
"""


REPEATED = """\
`of the text`: what lies in passages of 50 words or ideographs that stand in 5 documents, by defaults; `cut`: what is
gone where they are cut out of all but the first. `windows`: the file by which later nights find them, against the text.
"""


class Side(NamedTuple):
    """One tool on one file."""

    runs: list[Measured]
    kept: set[str]


def peer_python(cache: Path, name: str, wanted: Sequence[str] = ()) -> str:
    """Return the Python of a peer's own environment, made where it is missing; the peer's error if it cannot be.

    Args:
        cache: Holds the environments.
        name: Of the environment.
        wanted: What is installed there; that of PEERS by default.
    """
    folder = cache / "peers" / name
    python = str(folder / "bin" / "python")
    if not (folder / "complete").exists():
        step_log("bench").info(f"installing {name} into {folder} ...")
        venv.create(folder, with_pip=True, clear=True)
        command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *(wanted or PEERS[name])]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr.strip().splitlines()[-1])
        (folder / "complete").touch()
    return python


def run_ours(files: Sequence[Path], out: Path, *options: str, threads: int = 1) -> Measured:
    """Run `slimpajama dedup` as a user does."""
    command = [sys.executable, "-m", "slimpajama", "dedup", *files, "--out", out, "--json", *options]
    return measure([*command, *settings(run__workers=threads)], threads=threads)


def run_peer(name: str, python: str, file: Path, out: Path, language: str) -> Measured:
    """Run another tool by its function in `peers.py`."""
    shutil.rmtree(out, ignore_errors=True)
    command = [python, Path(__file__).with_name("peers.py"), name, file, out, language]
    try:
        return measure(command, {"PYTHONPATH": ""})
    except RuntimeError:
        # Daft now and then ends by a segmentation fault.
        return measure(command, {"PYTHONPATH": ""})


def kept_ids(name: str, out: Path) -> set[str]:
    """Return the ids of the documents that a tool wrote as kept."""
    if name in ("slimpajama", "daft"):
        return {
            i
            for path in (out / "kept").glob("*.parquet")
            for i in pq.read_table(path, columns=["id"])["id"].to_pylist()
        }
    if name == "text-dedup":
        tables = (pa.ipc.open_stream(path).read_all() for path in (out / "kept").glob("*.arrow"))
        return {i for read in tables for i in read["id"].to_pylist()}
    files = [out / "kept.jsonl"] if (out / "kept.jsonl").exists() else sorted((out / "kept").glob("*.jsonl"))
    return {i for path in files for i, _ in read_lines(path)}


def sample(records: list[tuple[str, str]], megabytes: float) -> list[tuple[str, str]]:
    """Return documents of so many MB, drawn evenly; an edited copy is drawn with its document."""
    names = sorted({name.partition("#")[0] for name, _ in records})
    random.Random("sample").shuffle(names)
    rank = {name: number for number, name in enumerate(names)}
    ranked = sorted(range(len(records)), key=lambda n: rank[records[n][0].partition("#")[0]])
    size, taken = 0, set()
    for number in ranked:
        if size >= megabytes * 1e6:
            break
        size += len(records[number][1].encode())
        taken.add(number)
    return [record for number, record in enumerate(records) if number in taken]


def quality(records: list[tuple[str, str]], truth: Pairs, kept: set[str]) -> dict[str, str]:
    """Return how many similar pairs stand no longer both, and how many documents went without being similar to any."""
    stays = [name in kept for name, _ in records]
    caught = sum(not (stays[a] and stays[b]) for a, b in zip(truth.left, truth.right, strict=True))
    partnered = {int(n) for side in (truth.left, truth.right) for n in side}
    wrong = sum(not stays[n] and n not in partnered for n in range(len(records)))
    return {
        "removed": f"{len(records) - sum(stays):,}",
        "pairs caught": f"{caught / max(1, len(truth.left)):.4f} of {len(truth.left):,}",
        "removed unlike any": f"{wrong:,}",
    }


def compare(language: str, corpus: Path, folder: Path, args: argparse.Namespace) -> str:
    """Return the section of one language: every side on one sample."""
    records = sample(read_lines(corpus / "with_variants" / f"{language}.jsonl"), args.mb)
    file, tiny = folder / f"{language}-sample.jsonl", folder / f"{language}-tiny.jsonl"
    write_lines(file, records)
    write_lines(tiny, [(f"{copy}/{name}", text + copy) for name, text in records[:3] for copy in ("", "", " The end.")])
    size = sum(len(text.encode()) for _, text in records) / 1e6
    step_log("bench").info(f"exact truth of {size:.1f} MB ({language}) ...")
    truth = join([text for _, text in records], THRESHOLD)
    pythons, failures = {}, {}
    for name, peer in SIDES.items():
        try:
            pythons[name] = peer_python(args.cache, peer)
            run_peer(name, pythons[name], tiny, folder / "out" / name, language)
        except RuntimeError as error:
            failures[name] = str(error).strip().splitlines()[-1]
            pythons.pop(name, None)

    def turn(name: str, source: Path) -> Measured:
        step_log("bench").info(f"{language}: {name} on {source.name} ...")
        out = folder / "out" / name
        return run_ours([source], out) if name == "slimpajama" else run_peer(name, pythons[name], source, out, language)

    names = ["slimpajama", *pythons]
    startup = {name: median([turn(name, tiny) for _ in range(args.alternations)]).cpu_s for name in names}
    runs: dict[str, list[Measured]] = {name: [] for name in names}
    for _ in range(args.alternations):
        for name in names:
            runs[name].append(turn(name, file))
    rows = []
    for name in names:
        middle = median(runs[name])
        running = middle.cpu_s - startup[name]
        # Else the sample is too small to tell it from starting.
        clear = running > 0.1 * startup[name]
        rows.append(
            {
                "": name,
                "MB per CPU-s": f"{size / middle.cpu_s:.2f}",
                "without start-up": f"{size / running:.2f}" if clear else "–",
                "CPU-s": f"{middle.cpu_s:.1f}",
                "start-up": f"{startup[name]:.1f}",
                "peak MB": f"{middle.peak_mb:.0f}",
                **quality(records, truth, kept_ids(name, folder / "out" / name)),
                "rate": size / running if clear else 0.0,
            }
        )
    args.rates[language] = {str(row[""]): row.pop("rate") for row in rows}
    lines = [f"- {name} could not be run: `{error}`" for name, error in failures.items()]
    return "\n".join([f"### {language}: {len(records):,} documents, {size:.1f} MB\n", table(rows), "", *lines])


def whole(corpus: Path, folder: Path, args: argparse.Namespace) -> str:
    """Return the section on ours alone: the whole corpus and 1 GB a language, start-up included, and the marks."""
    rows, marks = [], []
    for language in LANGUAGES:
        grown = folder / f"grown-{language}"
        grown.mkdir()
        step_log("bench").info(f"growing {args.grown:.1f} GB ({language}) ...")
        inputs = {
            "corpus with variants": [corpus / "with_variants" / f"{language}.jsonl"],
            f"{args.grown:.1f} GB grown": grow([corpus / f"{language}.jsonl"], grown, args.grown * 1e9),
        }
        for name, files in inputs.items():
            step_log("bench").info(f"{language}: slimpajama on {name} ...")
            middle = median([run_ours(files, folder / "whole") for _ in range(args.alternations)])
            found = json.loads(middle.output.splitlines()[-1])
            rate = found["text_bytes"] / 1e6 / middle.cpu_s
            rows.append(
                {
                    "": f"{language}, {name}",
                    "documents": f"{found['documents']:,}",
                    "kept": f"{found['kept']:,}",
                    "MB per CPU-s": f"{rate:.1f}",
                    "CPU-s": f"{middle.cpu_s:.2f}",
                    "peak MB": f"{middle.peak_mb:.0f}",
                }
            )
        marks += [
            {
                "": f"{language}, {name}",
                "its MB per CPU-s": f"{theirs:.2f}",
                "ours": f"{rate:.1f}",
                "ratio": f"{rate / theirs:.0f}",
                "mark": f"{MARKS[name]}" if name in MARKS else "none",
            }
            for name, theirs in args.rates[language].items()
            if theirs and name != "slimpajama"
        ]
        shutil.rmtree(grown)
    return "\n".join(
        [
            table(rows),
            "",
            "Ratios: ours on the grown input with start-up, the others on their sample without theirs.",
            "",
            table(marks),
            "",
        ]
    )


def kernel_rates(corpus: Path, rounds: int) -> str:
    """Return MB a CPU-second of the signatures alone and of all that `sketch` gives, warm, in this process."""
    cfg, rows = DedupConfig(), []
    for language in LANGUAGES:
        texts = pa.array([text for _, text in read_lines(corpus / f"{language}.jsonl")], pa.large_string())
        size = texts.nbytes / 1e6
        sketch(texts.slice(0, 10), cfg)
        took = []
        for _ in range(rounds):
            began = time.process_time()
            sketch(texts, cfg)
            took.append(time.process_time() - began)
        middle = sorted(took)[len(took) // 2]
        rows.append({"": language, "MB": f"{size:.1f}", "MB per CPU-s": f"{size / middle:.0f}", "mark": "200"})
    return table(rows)


def real_recall(name: str, records: list[tuple[str, str]], folder: Path) -> dict[str, object]:
    """Return recall and wrong removals of ours on one set of documents, against all its exact pairs."""
    file = folder / "real.jsonl"
    write_lines(file, records)
    step_log("bench").info(f"exact truth of {name} ...")
    truth = join([text for _, text in records], THRESHOLD)
    texts = dict(records)
    row: dict[str, object] = {"": name, "documents": f"{len(records):,}", "pairs": f"{len(truth.left):,}"}
    for clusters in ("nearest_keeper", "components"):
        out = folder / "real"
        run_ours([file], out, *settings(dedup__clusters=clusters))
        kept = kept_ids("slimpajama", out)
        removed = pq.read_table(out / "removed")
        keeper = dict(zip(removed["id"].to_pylist(), removed["duplicate_of"].to_pylist(), strict=True))
        ids = [i for i, _ in records]
        pairs = [(ids[a], ids[b]) for a, b in zip(truth.left, truth.right, strict=True)]
        if clusters == "nearest_keeper":
            stand = sum(a in kept and b in kept for a, b in pairs)
            row["no longer both (nearest keeper)"] = f"{1 - stand / max(1, len(pairs)):.4f}"
            said = removed["jaccard"].to_pylist()
            exact = [exact_jaccard(texts[a], texts[b]) for a, b in keeper.items()]
            row["removed"] = f"{len(exact):,}"
            row["partner below 0.8"] = sum(value < THRESHOLD for value in exact)
            row["similarity told wrong"] = sum(abs(a - b) > 1e-9 for a, b in zip(said, exact, strict=True))
            row["removed for a removed one"] = sum(partner not in kept for partner in keeper.values())
        else:
            together = sum(keeper.get(a, a) == keeper.get(b, b) for a, b in pairs)
            row["one cluster (components)"] = f"{together / max(1, len(pairs)):.4f}"
    return row


def real_sets(folder: Path) -> Iterable[tuple[str, list[tuple[str, str]]]]:
    """Yield the real sets of versions of documents: files `*.jsonl.zst` of a folder, their languages apart."""
    import zstandard

    for path in sorted(folder.glob("*.jsonl.zst")):
        by_language: dict[str, list[tuple[str, str]]] = {}
        with zstandard.open(path, "rt", encoding="utf-8") as file:
            for number, line in enumerate(file):
                record = json.loads(line)
                language = record.get("lang") or record.get("meta", {}).get("lang") or ""
                by_language.setdefault(language, []).append((f"{number}", record["text"]))
        for language, records in sorted(by_language.items()):
            yield f"{path.name.partition('.')[0]} {language}", records


def repeated(name: str, records: list[tuple[str, str]], folder: Path) -> dict[str, object]:
    """Return what stands in many documents of one set, and what finding and cutting it takes, as shares of a night."""
    home = folder / "repeated"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir()
    write_lines(home / "records.jsonl", records)
    config = write_config(home, str(home / "records.jsonl"))
    row: dict[str, object] = {"": name}
    for night, options in (("found", ()), ("cut", settings(dedup__cut_passages=True))):
        step_log("bench").info(f"passages of {name}, {night} ...")
        shutil.rmtree(home / "workspace", ignore_errors=True)
        times, _ = run_night(config, night, *options)
        manifest = open_workspace(str(home / "workspace")).nights.load(night)
        counts, share = manifest.counts["passages"], times["passages"]["cpu_s"] / total(times)
        if night == "found":
            text = sum(manifest.counts["dedup"]["kept_bytes"].values())
            index = sum(entry.bytes for entry in manifest.entries("nights/found/windows/"))
            row |= {"MB": f"{text / 1e6:.1f}", "passages": f"{sum(counts['passages'].values()):,}"}
            row |= {"in documents": f"{sum(counts['documents'].values()):,}"}
            row |= {"of the text": f"{sum(counts['bytes'].values()) / text:.2%}", "windows": f"{index / text:.1%}"}
        else:
            removed = sum(sum(rules.values()) for rules in counts["removed"].values())
            row |= {"cut": f"{counts['taken'] / text:.2%}", "documents removed by it": f"{removed:,}"}
        row[f"CPU of a night, {night}"] = f"{share:.1%}"
    return row


def main() -> None:
    """Run everything and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=CACHE.parent, help="folder for the corpus and the peers")
    parser.add_argument("--real", type=Path, help="folder of *.jsonl.zst with versions of documents, measured too")
    parser.add_argument("--mb", type=float, default=6.0, help="text for the slow ones, in MB a language")
    parser.add_argument("--grown", type=float, default=1.0, help="input for ours alone, in GB a language")
    parser.add_argument("--alternations", type=int, default=3)
    args = parser.parse_args()
    args.rates = {}
    corpus = prepare(args.cache / "corpus")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        tiny = folder / "tiny.jsonl"
        write_lines(tiny, read_lines(corpus / "zh.jsonl")[:3])
        first = measure(
            [sys.executable, "-m", "slimpajama", "dedup", tiny, "--out", folder / "first"],
            {"NUMBA_CACHE_DIR": str(folder / "numba")},
        )
        run_ours([tiny], folder / "first")
        sections = [compare(language, corpus, folder, args) for language in LANGUAGES]
        alone = whole(corpus, folder, args)
        rows = [
            real_recall(
                f"planted and natural, {language}", read_lines(corpus / "with_variants" / f"{language}.jsonl"), folder
            )
            for language in LANGUAGES
        ]
        rows += [real_recall(name, records, folder) for name, records in (real_sets(args.real) if args.real else ())]
        sets = {language: read_lines(corpus / f"{language}.jsonl") for language in LANGUAGES}
        passages = [repeated(name, records, folder) for name, records in sets.items()]
    page = [
        "# Near-duplicate removal, measured\n",
        f"`python -m benchmarks.dedup --mb {args.mb:g} --grown {args.grown:g}`: Debian's documentation in Chinese and"
        f" English with edited copies; each side one process on one thread, {args.alternations} turns,"
        " medians of processor time.\n",
        conditions("numba", "pyarrow", "numpy"),
        f"- others: {', '.join(requirement for wanted in PEERS.values() for requirement in wanted[:1])}",
        f"- first run after installation, kernels compiled: {first.cpu_s:.1f} CPU-s\n",
        "## Everyone on one sample\n",
        "`pairs caught`: of all pairs of documents with an exact Jaccard similarity of 0.8 or more (13-grams of"
        " characters), the share of which not both are kept. `removed unlike any`: documents removed although no other"
        " is that similar. datatrove and text-dedup compare 5-grams of words by design, so both columns are by a"
        " measure that is not theirs.\n",
        *sections,
        "\n## Ours on inputs that outweigh its start-up\n",
        alone,
        "## Signatures alone\n",
        "Normalisation, content hash, signatures and band keys of texts in memory, kernels warm.\n",
        kernel_rates(corpus, 2 * args.alternations + 1),
        "\n## Recall and wrong removals\n",
        "All pairs by an exact join that shares no kernel with the library (`benchmarks/truth.py`); each removal's"
        " similarity computed again by plain Python sets. Marks: 1.0000 and 0.\n",
        table(rows),
        "\n## Repeated passages\n",
        REPEATED,
        table(passages),
        "",
        BETTER,
    ]
    (DOCS / "dedup.md").write_text("\n".join(page), encoding="utf-8")
    print((DOCS / "dedup.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
