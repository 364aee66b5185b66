"""`slimpajama dedup` against datatrove's MinHash pipeline and datasketch's LSH, on the same files in one run.

    python benchmarks/dedup_peers.py --language zh --mb 8 corpus/*.jsonl.zst

Makes one sample of the given JSON lines files, an environment of its own for the peers in a temporary folder, and
lets everyone take turns: each is a process of its own on one thread, and what counts is its processor time, which
a busy machine disturbs less than the clock. Prints a Markdown table and, as the last line, JSON.

The peers do not do quite the same: datatrove compares words, 5 at a time, without punctuation, and removes what
shares a bucket unverified; datasketch's index answers by estimated similarity. Counts differ for that reason.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PEERS = [
    "datatrove==0.10.1",
    "xxhash<4",
    "spacy==3.8.*",
    "tokenizers==0.23.*",
    "nltk",
    "jieba",
    "orjson",
    "datasketch==2.0.*",
]
THRESHOLD, NGRAM, NUM_PERM, BANDS, ROWS = 0.8, 13, 256, 32, 8

PEER_WINS = """\
Where a peer is the better choice:
- datatrove spreads its four stages over a Slurm or Ray cluster and keeps buckets on disk, so memory hardly grows
  with the corpus; ours keeps about 125 bytes a document and its id in memory.
- datatrove drops punctuation and takes all digits as one: pages that differ in numbers or markup only are one page
  to it, where exact character similarity of 0.8 may keep both.
- datasketch answers single queries against a live index (also in Redis or Cassandra); ours works in batches.
- On the first run after installing, our kernels are compiled for the time given as `first run`; on inputs of a few
  MB that, or the start-up alone, is most of the run."""


def records(paths: list[Path]) -> Iterator[dict[str, Any]]:
    """Yield the records of JSON lines files, plain, .gz or .zst."""
    import zstandard

    for path in paths:
        opener = {".gz": gzip.open, ".zst": zstandard.open}.get(path.suffix, open)
        with opener(path, "rt", encoding="utf-8") as file:
            yield from map(json.loads, file)


def write_sample(paths: list[Path], target: Path, limit: float) -> tuple[int, int]:
    """Write records of up to `limit` bytes of text as `id` and `text`; return how many, and their bytes."""
    size = number = 0
    with target.open("w", encoding="utf-8") as file:
        for number, record in enumerate(records(paths), 1):
            text = record["text"]
            file.write(json.dumps({"id": f"d{number}", "text": text}, ensure_ascii=False) + "\n")
            size += len(text.encode())
            if size >= limit:
                break
    return number, size


def write_tiny(sample: Path, target: Path) -> None:
    """Write a few documents with an exact and a near-duplicate each: they start every part of a program."""
    with target.open("w", encoding="utf-8") as file:
        for number, record in enumerate(list(records([sample]))[:3]):
            for copy, text in enumerate((record["text"], record["text"], record["text"] + " The end.")):
                file.write(json.dumps({"id": f"t{number}-{copy}", "text": text}, ensure_ascii=False) + "\n")


def run_slimpajama(sample: Path, out: Path, language: str) -> dict[str, Any]:
    from slimpajama.config import DedupConfig
    from slimpajama.dedup.files import dedup_files

    cfg = DedupConfig(threshold=THRESHOLD, ngram_chars=NGRAM, num_perm=NUM_PERM, bands=BANDS, rows=ROWS)
    report = dedup_files([sample], out, cfg, workers=1)
    return {"kept": report.kept, "removed": report.documents - report.kept}


def run_datatrove(sample: Path, out: Path, language: str) -> dict[str, Any]:
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.dedup import (
        MinhashDedupBuckets,
        MinhashDedupCluster,
        MinhashDedupFilter,
        MinhashDedupSignature,
    )
    from datatrove.pipeline.dedup.minhash import MinhashConfig
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.writers import JsonlWriter
    from datatrove.utils.hashing import HashConfig
    from datatrove.utils.typeshelper import Languages

    cfg = MinhashConfig(hash_config=HashConfig(precision=64))  # its own defaults: 14 buckets of 8 hashes, 5-grams
    code = {"en": Languages.english, "zh": Languages.mandarin_chinese}[language]

    def reader() -> Any:
        return JsonlReader(str(sample.parent), glob_pattern=sample.name)

    step = {name: str(out / name) for name in ("signatures", "buckets", "remove", "removed", "kept")}
    pipelines = [
        [reader(), MinhashDedupSignature(step["signatures"], config=cfg, language=code)],
        [MinhashDedupBuckets(step["signatures"], step["buckets"], config=cfg)],
        [MinhashDedupCluster(step["buckets"], step["remove"], config=cfg)],
        [
            reader(),
            MinhashDedupFilter(step["remove"], exclusion_writer=JsonlWriter(step["removed"], compression=None)),
            JsonlWriter(step["kept"], compression=None),
        ],
    ]
    for number, pipeline in enumerate(pipelines):
        tasks = cfg.num_buckets if number == 1 else 1
        LocalPipelineExecutor(pipeline, tasks=tasks, workers=1, logging_dir=str(out / f"log{number}")).run()
    return {name: sum(1 for _ in records(list((out / name).glob("*")))) for name in ("kept", "removed")}


def run_datasketch(sample: Path, out: Path, language: str) -> dict[str, Any]:
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(threshold=THRESHOLD, num_perm=NUM_PERM, params=(BANDS, ROWS))
    counts, sketches = {"kept": 0, "removed": 0}, {}
    out.mkdir(parents=True)
    with (out / "kept.jsonl").open("w", encoding="utf-8") as kept:
        for record in records([sample]):
            text = " ".join(record["text"].lower().split())
            sketch = MinHash(NUM_PERM)
            sketch.update_batch([text[i : i + NGRAM].encode() for i in range(max(1, len(text) - NGRAM + 1))])
            if any(sketch.jaccard(sketches[name]) >= THRESHOLD for name in index.query(sketch)):
                counts["removed"] += 1
                continue
            sketches[record["id"]] = sketch
            index.insert(record["id"], sketch)
            kept.write(json.dumps(record, ensure_ascii=False) + "\n")
            counts["kept"] += 1
    return counts


RUNNERS = {"slimpajama": run_slimpajama, "datatrove": run_datatrove, "datasketch": run_datasketch}


def measure(python: str, name: str, sample: Path, out: Path, language: str, **environment: str) -> dict[str, Any]:
    """Run one side in a process of its own; return its counts, processor seconds and peak memory."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "ARROW_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    command = [python, __file__, "--side", name, "--language", language, "--out", str(out), str(sample)]
    done = subprocess.run(
        command,
        env=os.environ | {"PYTHONPATH": ""} | threads | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr[-3000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def one_side(args: argparse.Namespace) -> None:
    counts = RUNNERS[args.side](args.inputs[0], args.out, args.language)
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    seconds = sum(u.ru_utime + u.ru_stime for u in usage)
    unit = 1 if sys.platform == "darwin" else 1024
    print(json.dumps(counts | {"cpu_s": seconds, "peak_mb": max(u.ru_maxrss for u in usage) * unit / 1e6}))


def hardware() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    return (
        f"{model}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}, Python {platform.python_version()}"
    )


def versions(python: str) -> str:
    listed = subprocess.run([python, "-m", "pip", "list", "--format=json"], capture_output=True, text=True, check=True)
    wanted = ("datatrove", "datasketch", "spacy", "xxhash", "tokenizers", "numba", "numpy", "pyarrow", "slimpajama")
    found = {item["name"].lower(): item["version"] for item in json.loads(listed.stdout)}
    return ", ".join(f"{name} {found[name]}" for name in wanted if name in found)


def table(rows: dict[str, dict[str, Any]]) -> str:
    lines = [
        "| | MB per CPU s | without start-up | CPU s | times ours | start-up | first run | peak MB | kept | removed |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        rates = f"{row['mb_per_cpu_s']:.2f} | {row['mb_per_cpu_s_running']:.2f}"
        seconds = (
            f"{row['cpu_s']:.1f} | {row['times_ours']:.1f} | {row['startup_cpu_s']:.1f} | {row['first_cpu_s']:.1f}"
        )
        lines.append(f"| {name} | {rates} | {seconds} | {row['peak_mb']:.0f} | {row['kept']:,} | {row['removed']:,} |")
    return "\n".join(lines)


def peers_python(environment: Path) -> str:
    """Return the Python of an environment that holds the peers; it is made where it is missing."""
    python = str(environment / "bin" / "python")
    if not (environment / "complete").exists():
        venv.create(environment, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PEERS, "zstandard"], check=True)
        (environment / "complete").touch()
    return python


def compare(args: argparse.Namespace, folder: Path) -> None:
    sides = ["slimpajama", "datatrove"] + ["datasketch"] * args.datasketch
    sample, tiny = folder / "sample" / "sample.jsonl", folder / "tiny" / "tiny.jsonl"
    for path in (sample, tiny):
        path.parent.mkdir()
    documents, size = write_sample(args.inputs, sample, args.mb * 1e6)
    write_tiny(sample, tiny)
    peers = peers_python(args.environment or folder / "venv")
    python = {name: sys.executable if name == "slimpajama" else peers for name in sides}

    def turn(name: str, path: Path, label: str, **environment: str) -> dict[str, Any]:
        found = measure(python[name], name, path, folder / f"{name}-{label}", args.language, **environment)
        print(f"{name:<11} {label:<8} {found['cpu_s']:8.1f} CPU s", file=sys.stderr, flush=True)
        return found

    cold = str(folder / "numba")  # kernels are compiled into it by the first run, and found there by the others
    first = {name: turn(name, tiny, "first", NUMBA_CACHE_DIR=cold) for name in sides}
    startup = {name: turn(name, tiny, "startup", NUMBA_CACHE_DIR=cold) for name in sides}
    turns: dict[str, list[dict[str, Any]]] = {name: [] for name in sides}
    for number in range(args.alternations):
        for name in sides:
            turns[name].append(turn(name, sample, f"{number}", NUMBA_CACHE_DIR=cold))
    rows: dict[str, dict[str, Any]] = {}
    for name, found in turns.items():
        seconds = statistics.median(run["cpu_s"] for run in found)
        rows[name] = found[-1] | {
            "cpu_s": seconds, "all_cpu_s": [run["cpu_s"] for run in found], "mb_per_cpu_s": size / 1e6 / seconds,
            "mb_per_cpu_s_running": size / 1e6 / max(seconds - startup[name]["cpu_s"], 1e-3),
            "startup_cpu_s": startup[name]["cpu_s"], "first_cpu_s": first[name]["cpu_s"],
            "times_ours": seconds / statistics.median(run["cpu_s"] for run in turns["slimpajama"]),
        }  # fmt: skip
    about = {
        "documents": documents, "text_mb": size / 1e6, "language": args.language, "alternations": args.alternations,
        "threshold": THRESHOLD, "ngram_chars": NGRAM, "num_perm": NUM_PERM, "bands": BANDS, "rows": ROWS,
        "hardware": hardware(), "ours": versions(sys.executable), "peers": versions(peers),
    }  # fmt: skip
    print(f"{documents:,} documents, {size / 1e6:.1f} MB of text ({args.language}); {about['hardware']}")
    print(f"ours: {about['ours']}; peers: {about['peers']}\n\n{table(rows)}\n\n{PEER_WINS}\n")
    print(json.dumps(about | {"sides": rows}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("inputs", nargs="+", type=Path, help="JSON lines files with `text`, plain, .gz or .zst")
    parser.add_argument("--language", choices=("en", "zh"), default="en", help="for datatrove's word tokenizer")
    parser.add_argument("--mb", type=float, default=8.0, help="text to take from the inputs, in MB")
    parser.add_argument("--alternations", type=int, default=3)
    parser.add_argument("--datasketch", action="store_true", help="time datasketch's MinHashLSH, too")
    parser.add_argument("--environment", type=Path, help="environment for the peers, made where it is missing")
    parser.add_argument("--side", choices=tuple(RUNNERS), help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        one_side(args)
        return
    with tempfile.TemporaryDirectory(prefix="dedup-peers-") as folder:
        compare(args, Path(folder))


if __name__ == "__main__":
    main()
