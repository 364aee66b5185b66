"""Other tools on a JSON lines file of `id` and `text`: one function a tool, run by the Python of its own environment.

    PEER/bin/python benchmarks/peers.py datatrove FILE.jsonl OUT zh

Each reads the file, removes near-duplicates at a similarity of 0.8 and writes what it keeps below OUT, as its own
documentation says, with one worker. Nothing of slimpajama is imported here.
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

THRESHOLD, NGRAM = 0.8, 13


def records(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the records of a JSON lines file."""
    with path.open(encoding="utf-8") as file:
        yield from map(json.loads, file)


def shingles(text: str) -> set[str]:
    """Return a text's character 13-grams, lower case and with squeezed white space as ours are."""
    text = " ".join(text.lower().split())
    return {text[i : i + NGRAM] for i in range(max(1, len(text) - NGRAM + 1))}


def _datatrove_steps(source: Path, out: Path, language: str) -> tuple[Any, list[list[Any]], int]:
    """Return a reader's constructor, the four steps of MinHash, and the number of buckets."""
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

    # Its own defaults: 14 buckets of 8 hashes, 5-grams.
    cfg = MinhashConfig(hash_config=HashConfig(precision=64))

    def reader() -> Any:
        return JsonlReader(str(source.parent), glob_pattern=source.name)

    step = {name: str(out / name) for name in ("signatures", "buckets", "remove", "removed")}
    steps = [
        [reader(), MinhashDedupSignature(step["signatures"], config=cfg, language=_code(language))],
        [MinhashDedupBuckets(step["signatures"], step["buckets"], config=cfg)],
        [MinhashDedupCluster(step["buckets"], step["remove"], config=cfg)],
        [reader(), MinhashDedupFilter(step["remove"], exclusion_writer=JsonlWriter(step["removed"], compression=None))],
    ]
    return reader, steps, cfg.num_buckets


def _code(language: str) -> str:
    from datatrove.utils.typeshelper import Languages

    return str({"en": Languages.english, "zh": Languages.mandarin_chinese}[language])


def _execute(steps: list[list[Any]], buckets: int, out: Path) -> None:
    """Run steps one after the other, each in a process: a step that has cut Chinese words cannot be copied again."""
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.dedup import MinhashDedupBuckets

    for number, step in enumerate(steps):
        tasks = buckets if isinstance(step[0], MinhashDedupBuckets) else 1
        executor = LocalPipelineExecutor(step, tasks=tasks, workers=1, logging_dir=str(out / f"log{number}"))
        process = multiprocessing.Process(target=executor.run)
        process.start()
        process.join()
        if process.exitcode:
            raise SystemExit(f"step {number} failed")


def datatrove(source: Path, out: Path, language: str) -> None:
    """datatrove's MinHash pipeline: words, 5 at a time, unverified."""
    from datatrove.pipeline.writers import JsonlWriter

    _, steps, buckets = _datatrove_steps(source, out, language)
    steps[-1].append(JsonlWriter(str(out / "kept"), compression=None))
    _execute(steps, buckets, out)


def datatrove_corpus(source: Path, out: Path, language: str) -> None:
    """datatrove from text to tokens: Gopher's filters, MinHash, its tokenizer's writer.

    Chinese goes through the same filters with its word tokenizer and FineWeb2's bounds that a Chinese text can meet:
    the stop words are Chinese ones, and no share of words with letters is asked for.
    """
    from datatrove.pipeline.filters import GopherQualityFilter, GopherRepetitionFilter
    from datatrove.pipeline.tokens import DocumentTokenizer
    from datatrove.pipeline.writers import JsonlWriter

    code = _code(language)
    chinese = {
        "min_avg_word_length": 1,
        "stop_words": ["的", "是", "在", "了", "和", "不", "一", "有"],
        "max_non_alpha_words_ratio": None,
    }
    filtered = out / "filtered"
    reader, _, _ = _datatrove_steps(source, out, language)
    first = [
        reader(),
        GopherRepetitionFilter(language=code),
        GopherQualityFilter(language=code, **(chinese if language == "zh" else {})),
        JsonlWriter(str(filtered), compression=None),
    ]
    _, steps, buckets = _datatrove_steps(filtered / "00000.jsonl", out, language)
    steps[-1].append(
        DocumentTokenizer(str(out / "tokens"), tokenizer_name_or_path=str(source.parent / "tokenizer.json"))
    )
    _execute([first, *steps], buckets, out)


def datasketch(source: Path, out: Path, num_perm: int) -> None:
    """datasketch's MinHash and MinHashLSH: what its index finds and estimates to be similar enough."""
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(threshold=THRESHOLD, num_perm=num_perm)
    sketches: dict[str, Any] = {}
    with (out / "kept.jsonl").open("w", encoding="utf-8") as kept:
        for record in records(source):
            sketch = MinHash(num_perm)
            sketch.update_batch([shingle.encode() for shingle in shingles(record["text"])])
            if any(sketch.jaccard(sketches[name]) >= THRESHOLD for name in index.query(sketch)):
                continue
            sketches[record["id"]] = sketch
            index.insert(record["id"], sketch, check_duplication=False)
            kept.write(json.dumps(record, ensure_ascii=False) + "\n")


def rensa(source: Path, out: Path, language: str) -> None:
    """rensa's RMinHashDeduplicator with its index, 256 values in 32 bands, documents in batches."""
    from rensa import RMinHashDeduplicator

    judge = RMinHashDeduplicator(threshold=THRESHOLD, num_perm=256, use_lsh=True, num_bands=32)
    found = records(source)
    with (out / "kept.jsonl").open("w", encoding="utf-8") as kept:
        while batch := list(itertools.islice(found, 500)):
            fresh = judge.add_pairs([(record["id"], list(shingles(record["text"]))) for record in batch])
            for record, is_new in zip(batch, fresh, strict=True):
                if is_new:
                    kept.write(json.dumps(record, ensure_ascii=False) + "\n")


def daft(source: Path, out: Path, language: str) -> None:
    """Daft's `minhash` (256 values) and a join over 32 bands; groups that share a band are one cluster.

    Its n-grams are of words between spaces: characters become words by a space after each.
    """
    import daft as engine
    from daft import col

    engine.set_runner_native()
    texts = engine.read_json(str(source)).select("id", "text")
    folded = col("text").lower().regexp_replace(r"\s+", "_").regexp_replace("(.)", "$1 ")
    sketched = texts.select(
        "id",
        folded.minhash(num_hashes=256, ngram_size=NGRAM)
        .cast(engine.DataType.list(engine.DataType.uint32()))
        .alias("sketch"),
    )
    sketched = (
        sketched.select("id", col("sketch").list_chunk(8).alias("bands"))
        if hasattr(engine.Expression, "list_chunk")
        else sketched.select("id", col("sketch").chunk(8).alias("bands"))
    )
    numbered = sketched.with_column("band", engine.lit(list(range(32)))).explode("bands", "band")
    groups = (
        numbered.with_column("key", col("bands").hash())
        .groupby("band", "key")
        .agg(col("id").list_agg() if hasattr(engine.Expression, "list_agg") else col("id").agg_list())
    )
    parent: dict[str, str] = {}

    def find(name: str) -> str:
        while (above := parent.setdefault(name, name)) != name:
            parent[name] = parent[above]
            name = above
        return name

    for group in groups.to_pydict()["id"]:
        first, *others = sorted(map(find, group))
        for name in others:
            parent[find(name)] = find(first)
    gone = [name for name in parent if find(name) != name]
    texts.join(engine.from_pydict({"id": gone or [""]}), on="id", how="anti").write_parquet(str(out / "kept"))


def text_dedup(source: Path, out: Path, language: str) -> None:
    """text-dedup's MinHash script as its README calls it, at our threshold and with one process."""
    subprocess.run(
        [
            sys.executable,
            "-m",
            "text_dedup.minhash",
            "--path",
            "json",
            "--data_files",
            str(source),
            "--split",
            "train",
            "--cache_dir",
            str(out / "cache"),
            "--output",
            str(out / "kept"),
            "--column",
            "text",
            "--batch_size",
            "10000",
            "--threshold",
            str(THRESHOLD),
            "--num_proc",
            "1",
            "--use_auth_token",
            "false",
        ],
        check=True,
    )


SIDES = {
    "datatrove": datatrove,
    "datatrove-corpus": datatrove_corpus,
    "text-dedup": text_dedup,
    "datasketch-256": lambda source, out, _: datasketch(source, out, 256),
    "datasketch-128": lambda source, out, _: datasketch(source, out, 128),
    "rensa": rensa,
    "daft": daft,
}

if __name__ == "__main__":
    side, source_, out_, language_ = sys.argv[1:]
    Path(out_).mkdir(parents=True, exist_ok=True)
    SIDES[side](Path(source_), Path(out_), language_)
