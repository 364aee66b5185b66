"""Measure the applications: summaries, translations and answers against BART and against what is not trained at all.

    python -m benchmarks.applications [--pairs CONFIG.toml] [--about TEXT] [--cache FOLDER] [--workspace W]
        [--base-minutes 10] [--minutes 20] [--tests 200] [--only NAME...] [--list]

Parts, each in a process of its own on one thread; those that the cache holds for this commit are not run again:

- `ours`: the preset `small` is trained on the workspace's text for `--base-minutes` of processor time, then tuned on
  the pairs for `--minutes`; what it writes for test pairs, and its bits per byte before and after;
- `bart`: Hugging Face's BART of as many parameters, in an environment of its own (1 GB, installed where it is
  missing), trained on the same pairs for the minutes of both;
- `baselines`: lead, TextRank, copying, a dictionary and BM25, some minutes.

Writing for all test pairs comes on top of the minutes. `--pairs` is a configuration whose `pairs.sources` are used, by
default the demo's, out of packages; the workspace is any prepared one, by default the benchmark corpus.
Writes docs/benchmarks/applications.md, and examples into the cache.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from benchmarks.applications_page import BART, DICTIONARY_MINUTES, OURS, PARTS, UNTRAINED, write_examples, write_page
from benchmarks.baselines import write_baselines
from benchmarks.dedup import peer_python
from benchmarks.machine import DOCS, commit, measure
from benchmarks.model import parser_of, train_anew, training_data, workspace_of
from benchmarks.training import PEERS
from slimpajama.apps.tune.choose import choose_tests
from slimpajama.core.config import (
    ApplyConfig,
    Config,
    EvaluateConfig,
    ModelConfig,
    TrainConfig,
    TuneConfig,
    load_config,
)
from slimpajama.core.logs import step_log
from slimpajama.corpus.pairs.stage import make_pairs, read_split
from slimpajama.text.tokenizer import SEPARATOR, Tokenizer
from slimpajama.workspace.open import Workspace, open_workspace

ENDLESS = 10**12
# Validation pairs of each task and language that choose how ours writes.
WAYS = 100
# Tokens a processor second that BART is given batches for; it goes round again if it is faster.
FASTEST = 8000
BART_LR = 1e-3
# Texts that it writes at once.
BART_BATCH = 16
# Pairs a task, for its loss.
VALIDATION = 100
BART_BF16 = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What is measured, and on which pairs."""

    cfg: Config
    workspace: str
    """Of the text."""
    cache: Path
    base_minutes: float
    minutes: float

    def pairs(self) -> tuple[str, dict[str, Any], dict[str, pl.DataFrame]]:
        """Return the name of the set of pairs, its counts, and its splits; made where they are missing."""
        workspace = open_workspace(str(self.cache / "applications" / "workspace"))
        store = workspace.store
        name, manifest = make_pairs(workspace, self.cfg)
        splits = ("train", "validation", "test")
        return name, manifest.counts, {split: read_split(store, manifest, name, split) for split in splits}


def task_of(args: argparse.Namespace, workspace: str) -> Task:
    """Return what the options ask for: the sources of pairs from the configuration, else the defaults."""
    given = load_config(args.pairs)
    tune = TuneConfig(tokens=ENDLESS, max_seconds=60 * args.minutes, max_test_pairs=args.tests)
    cfg = replace(
        given,
        tune=tune,
        apply=ApplyConfig(),
        evaluate=EvaluateConfig(),
        model=ModelConfig(preset="small"),
        train=TrainConfig(),
        run=replace(given.run, workers=1),
    )
    return Task(cfg=cfg, workspace=workspace, cache=args.cache, base_minutes=args.base_minutes, minutes=args.minutes)


def demo_pairs(folder: Path) -> Path:
    """Return the configuration of the demo's pairs, built where they are missing."""
    from slimpajama.corpus.demo.build import build_demo_corpus

    if not (folder / "demo.toml").exists():
        step_log("bench").info("building the demo's pairs ...")
        build_demo_corpus(folder)
    return folder / "demo.toml"


def run_ours(task: Task) -> dict[str, Any]:
    """Train, tune and write in this process."""
    from slimpajama.apps.tune.choose import choose_strategies
    from slimpajama.apps.tune.learn import learn
    from slimpajama.model.loading import Loaded

    _, _, splits = task.pairs()
    data, tokenizer, endless = training_data(task.workspace)
    cfg = replace(task.cfg, train=replace(endless, max_seconds=60 * task.base_minutes))
    base, rows, history = train_anew(data, tokenizer, cfg.train, cfg.model)
    loaded = Loaded("base", base, tokenizer, {"model": asdict(cfg.model)})
    tuned, training = learn(cfg, loaded, splits["train"])
    workspace = open_workspace(task.workspace)
    before, after = held_out_bits(workspace, cfg, (base, tuned.model.base), tokenizer)
    fewer = replace(cfg, tune=replace(cfg.tune, max_test_pairs=WAYS))
    tuned.strategies = choose_strategies(tuned, splits["validation"], fewer)
    began = time.process_time()
    outputs = [
        tuned.apply(row["task"], row["source"], row["question"], row["target_lang"], cfg.apply)
        for row in choose_tests(splits["test"], cfg.tune.max_test_pairs).iter_rows(named=True)
    ]
    text: dict[str, list[int]] = {}
    for source in data.sources():
        sums = text.setdefault(source["lang"], [0, 0])
        sums[0], sums[1] = sums[0] + source["documents"], sums[1] + source["n_bytes"]
    return {
        "outputs": {OURS: outputs},
        "write_s": time.process_time() - began,
        "parameters": sum(parameter.numel() for parameter in tuned.model.parameters()),
        "ways": tuned.strategies,
        "base_tokens": history.step * rows.batch_rows * rows.row_tokens,
        "tokens": training["tokens"],
        "bits": {lang: [before[lang], after[lang]] for lang in before},
        "text": text,
        "precision": cfg.train.precision,
    }


def held_out_bits(
    workspace: Workspace, cfg: Config, models: Sequence[Any], tokenizer: Tokenizer
) -> list[dict[str, float]]:
    """Return each model's bits per byte of the held-out documents by language."""
    from slimpajama.model.evaluate.documents import held_out_documents
    from slimpajama.model.evaluate.score import bits_per_byte, score_ids

    nights = workspace.nights.published()
    documents = held_out_documents(
        workspace.store, {night: workspace.nights.load(night) for night in nights}, cfg.evaluate
    )
    ids = tokenizer.encode_joined([SEPARATOR.join(document.words) for document in documents])
    found = []
    for model in models:
        nats: dict[str, list[tuple[float, int]]] = {}
        nll = score_ids(model, ids, tokenizer.document_id, cfg.train.precision)
        for document, value in zip(documents, nll.tolist(), strict=True):
            nats.setdefault(document.lang, []).append((value, document.n_bytes))
        sums = {lang: [sum(column) for column in zip(*some, strict=True)] for lang, some in nats.items()}
        found.append({lang: bits_per_byte(*both) for lang, both in sums.items()})
    return found


def run_bart(task: Task) -> dict[str, Any]:
    """Train BART and let it write, in a process of its environment."""
    _, _, splits = task.pairs()
    _, tokenizer, cfg = training_data(task.workspace)
    tests = choose_tests(splits["test"], task.cfg.tune.max_test_pairs)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        order = prepare_bart(task, splits, tests, folder)
        python = peer_python(task.cache, "transformers", PEERS)
        offline = {"PYTHONPATH": "", "HF_HUB_OFFLINE": "1"}
        done = measure([python, Path(__file__).with_name("bart.py"), folder], offline)
    found: dict[str, Any] = json.loads(done.output.splitlines()[-1])
    written = [tokenizer.decode(ids).strip() for ids in found.pop("outputs")]
    outputs = [written[place] for place in np.argsort(order)]
    return found | {"outputs": {BART: outputs}, "precision": cfg.precision if BART_BF16 else "fp32"}


def prepare_bart(task: Task, splits: Mapping[str, pl.DataFrame], tests: pl.DataFrame, folder: Path) -> list[int]:
    """Write what `bart.py` reads; return the numbers of the tests in the order in which they are written there.

    Batches are those that tuning makes of the same pairs, without those of text, and with the question before the
    whole source: BART reads it at once, and needs no windows.
    """
    import torch

    from slimpajama.apps.tune.examples import Examples, directions, encode_pairs, padded
    from slimpajama.apps.tune.rows import PairRows
    from slimpajama.model.architectures import build
    from slimpajama.model.architectures.seq2seq import PairModel

    tune = task.cfg.tune
    _, tokenizer, cfg = training_data(task.workspace)
    base: Any = build(task.cfg.model, tokenizer.vocab_size, 0)
    encode = partial(
        encode_pairs,
        tokenizer=tokenizer,
        # One holds a question, and its passage.
        row_tokens=2 * tune.source_tokens,
        source_tokens=tune.source_tokens,
        target_tokens=min(tune.target_tokens, base.row_tokens),
    )
    known = splits["validation"].group_by("task", maintain_order=True).head(VALIDATION)
    learnt, guiding, asked = (
        encode(rows.with_columns(draft=pl.lit(""))) for rows in (directions(splits["train"]), directions(known), tests)
    )
    kinds = tuple(sorted(set(learnt.kinds)))
    seconds = 60 * (task.base_minutes + task.minutes + DICTIONARY_MINUTES)

    def training() -> Iterator[Sequence[NDArray[Any]]]:
        rows, tokens = (
            PairRows(
                learnt,
                kinds,
                row_tokens=base.row_tokens,
                batch_tokens=tune.batch_tokens,
                vocab_size=tokenizer.vocab_size,
                chunk_tokens=1,
                seed=tune.seed,
            ),
            0,
        )
        while tokens < FASTEST * seconds:
            batch = rows.batch()
            tokens += batch[0].size + batch[1].size
            yield batch[:3]

    def alike(some: Examples) -> Iterator[list[int]]:
        for kind in kinds:
            places = [place for place in range(len(some)) if some.kinds[place] == kind]
            places.sort(key=lambda place: len(some.sources[place]))
            yield from (places[at : at + BART_BATCH] for at in range(0, len(places), BART_BATCH))

    def batches(some: Examples) -> Iterator[Sequence[NDArray[Any]]]:
        for places in alike(some):
            sides = ([side[place] for place in places] for side in (some.sources, some.targets))
            numbers = np.array([kinds.index(some.kinds[place]) for place in places])
            yield *(padded(side, 1, tokenizer.vocab_size) for side in sides), numbers

    arrays = {
        f"{split}{number}-{part}": ids.astype(np.uint16)
        for split, found in (("train", training()), ("validation", batches(guiding)), ("test", batches(asked)))
        for number, batch in enumerate(found)
        for part, ids in zip(("source", "target", "kind"), batch, strict=True)
    }
    np.savez(folder / "ids.npz", **cast(Any, arrays))
    ours = PairModel(base, kinds, tokenizer.document_id, torch.Generator())
    said = {
        "vocabulary": tokenizer.vocab_size,
        "kinds": len(kinds),
        "end": tokenizer.document_id,
        "source_tokens": max(len(ids) for some in (learnt, guiding, asked) for ids in some.sources),
        "target_tokens": tune.target_tokens,
        "seconds": seconds,
        "seed": tune.seed,
        "parameters": sum(parameter.numel() for parameter in ours.parameters()),
        "lr": BART_LR,
        "bf16": BART_BF16 and cfg.precision == "bf16",
    }
    (folder / "settings.json").write_text(json.dumps(said), encoding="utf-8")
    return [place for places in alike(asked) for place in places]


def run_baselines(task: Task) -> dict[str, Any]:
    """Write by what is not trained; count the documents of the text that a test pair's words stand in."""
    _, _, splits = task.pairs()
    outputs, taken = write_baselines(
        splits["train"], splits["validation"], choose_tests(splits["test"], task.cfg.tune.max_test_pairs)
    )
    return {"outputs": outputs, "sentences": taken, "overlap": overlap(task)}


def overlap(task: Task) -> list[int]:
    """Return in how many of the documents that `ours` is trained on words in a row of a test pair stand, and of how
    many."""
    from slimpajama.corpus.overlap import find, make_index
    from slimpajama.corpus.pairs.stage import protected_tests
    from slimpajama.corpus.windows import cut
    from slimpajama.workspace.parquet import read_table

    settings = task.cfg.decontaminate
    workspace = open_workspace(str(task.cache / "applications" / "workspace"))
    _, records = protected_tests(workspace, task.cfg)
    index = make_index(cut(records["text"].combine_chunks(), settings), [], settings)
    data, _, _ = training_data(task.workspace)
    met = documents = 0
    for entry in data.shards("train", list(data.nights)):
        words = read_table(data.store, entry, ["words"])["words"].combine_chunks()
        texts = pc.binary_join(words.cast(pa.list_(pa.string())), "").cast(pa.large_string())
        met += int((find(texts, np.zeros(len(texts), np.bool_), index).item >= 0).sum())
        documents += len(texts)
    return [met, documents]


RUN: dict[str, Callable[[Task], dict[str, Any]]] = {OURS: run_ours, BART: run_bart, UNTRAINED: run_baselines}


def main() -> None:
    """Run what is missing and write the pages."""
    parser = parser_of(__doc__, PARTS)
    parser.add_argument("--pairs", type=Path, help="configuration whose sources of pairs are used; default: the demo's")
    parser.add_argument("--about", default="", help="where these pairs are from, for the page")
    parser.add_argument("--base-minutes", type=float, default=10.0)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--tests", type=int, default=200, help="test pairs of each task and language")
    args = parser.parse_args()
    if args.list:
        print("\n".join(PARTS))
        return
    args.pairs = args.pairs or demo_pairs(args.cache / "demo")
    task = task_of(args, args.workspace or workspace_of(args.cache))
    if args.here:
        print(json.dumps(RUN[args.here](task)))
        return
    name, counts, splits = task.pairs()
    results = args.cache / "applications" / "results"
    results.mkdir(parents=True, exist_ok=True)
    length = f"{args.base_minutes:g}-{args.minutes:g}"
    files = {
        part: results / f"{part}-{name}-{args.tests}{'' if part == UNTRAINED else f'-{length}'}.json" for part in PARTS
    }
    for part in args.only:
        kept = json.loads(files[part].read_text(encoding="utf-8")) if files[part].exists() else {}
        if kept.get("commit") != commit():
            step_log("bench").info(f"{part} ...")
            again = [sys.executable, "-m", "benchmarks.applications", "--here", part, "--workspace", task.workspace]
            again += ["--cache", args.cache, "--pairs", args.pairs, "--tests", args.tests]
            done = measure([*again, "--base-minutes", args.base_minutes, "--minutes", args.minutes])
            found = json.loads(done.output.splitlines()[-1])
            found |= {"commit": commit(), "peak_mb": done.peak_mb, "cpu_s": done.cpu_s}
            files[part].write_text(json.dumps(found), encoding="utf-8")
    found = {part: json.loads(file.read_text(encoding="utf-8")) for part, file in files.items() if file.exists()}
    tests = choose_tests(splits["test"], args.tests)
    page = write_page(
        (task.base_minutes, task.minutes), counts, tests, found, args.depends_on or "The demo's pairs, out of packages."
    )
    (DOCS / "applications.md").write_text(page, encoding="utf-8")
    # Texts of others: not for the repository.
    examples = args.cache / "applications" / "examples.md"
    examples.write_text(write_examples(tests, found), encoding="utf-8")
    print(page)
    step_log("bench").info(f"examples are in {examples}")


if __name__ == "__main__":
    main()
