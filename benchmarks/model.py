"""Measure the models: bits per byte and tokens restored at equal processor time, latents in bytes, speed, row order.

    python -m benchmarks.model [--cache FOLDER] [--workspace W] [--minutes 10] [--only NAME...]

Every part trains one model in a process of its own, on one thread, for as many minutes of processor time, and scores
it on held-out documents. Parts that the cache holds for this commit are not run again: all of them together take
hours, and may be run in several goes. `--only` names parts: `--list` prints their names. Writes
docs/benchmarks/model.md. The workspace is any prepared one; by default the benchmark corpus, prepared in the cache.

Parts called `rows-...` train on as many tokens each, with rows from all over the text or one after the other, on the
workspace and on the demo's text, which is prepared in the cache.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from benchmarks.corpus_data import CACHE
from benchmarks.corpus_data import prepare as prepare_corpus
from benchmarks.machine import DOCS, commit, conditions, measure, table
from benchmarks.night import run_night, write_config
from slimpajama.core.config import Config, ModelConfig, TrainConfig
from slimpajama.core.logs import step_log

LANGUAGES = ("zh", "en")
SEEDS = (0, 1, 2)
HELD_OUT_BYTES = 300_000  # a language
# Of the comparison of row orders: tokens of a training, and the seeds.
ROW_TOKENS, ROW_SEEDS = 600_000, (1, 2, 3, 4, 5)
# Of the measurement of generation.
PROMPT, NEW_TOKENS, TURNS = 32, 200, 9
SPEED = "generation"


@dataclass(frozen=True, slots=True)
class Part:
    """One model to train and score."""

    model: dict[str, Any]
    seed: int = 0
    longer: float = 1.0
    """Factor on the minutes."""
    tokens: int = 0
    """Budget in the place of minutes; 0 for none."""
    corpus: str = "docs"
    in_order: bool = False
    """Whether rows come one after the other, as documents stand, instead of from all over them."""


PARTS = {
    **{f"{preset}-{seed}": Part({"preset": preset}, seed) for seed in SEEDS for preset in ("small", "gpt")},
    **{f"K{k}": Part({"preset": "small", "chunk_tokens": k}, longer=1.5) for k in (4, 8, 16)},
    "quantised-24x16": Part({"preset": "small", "latent_width": 24, "latent_levels": 16}, longer=1.5),
    "quantised-16x16": Part({"preset": "small", "latent_width": 16, "latent_levels": 16}, longer=1.5),
    **{
        f"rows-{corpus}-{'in-order' if in_order else 'apart'}-{seed}": Part(
            {"preset": "small"}, seed, tokens=ROW_TOKENS, corpus=corpus, in_order=in_order
        )
        for seed in ROW_SEEDS
        for corpus in ("demo", "docs")
        for in_order in (True, False)
    },
}
SHORT = """\
Short of its mark: a token costs reading weights. `small` reads the output head (1.57 M numbers), two token blocks
(0.44 M each) and a quarter of what a chunk costs (three blocks, encoder and unpacking, 1.9 M): 2.9 M; `gpt` the head
and seven blocks, 4.7 M. That is 1.6 times as much, and the measured ratio. Half of ours is the head, which both share:
with no body at all ours would be 3 times as fast. A chunk's condition is unpacked once: 1.63 to 1.80 times, where
unpacking at each token has 1.60 to 1.63. One token block instead of two would make it about 1.8, at a price in bits
per byte.
"""
ROWS_NOTE = f"""\
Equal tokens ({ROW_TOKENS:,}), equal seeds, turns alternate: `in order` reads rows one after the other, `apart` from all
over the text. `demo` is the demo's text, `docs` the benchmark corpus. Means over seeds; `restored` is the least. Marks:
en 8 % and zh 2.5 % lower, the spread between seeds a third, restored above 99.9 %.
"""


def training_data(workspace: str) -> tuple[Any, Any, TrainConfig]:
    """Return what the newest night's training reads, its tokenizer, and settings without an end."""
    from slimpajama.model.device import with_precision
    from slimpajama.model.train.data import gather
    from slimpajama.text.tokenizer import Tokenizer
    from slimpajama.workspace.open import open_workspace

    space = open_workspace(workspace)
    nights = space.nights.published()
    data = gather(space, nights, nights[-1])
    cfg = with_precision(Config(train=TrainConfig(tokens=10**12))).train
    return data, Tokenizer.load(data.tokenizer_json), cfg


def train_anew(
    data: Any, tokenizer: Any, cfg: TrainConfig, model_cfg: ModelConfig, in_order: bool = False
) -> tuple[Any, Any, Any]:
    """Train a new model on one thread; return it, the rows it read and the history.

    From here on the clock of this process' training loop is the processor's: what else runs on the machine must not
    shorten a training.
    """
    import torch

    from slimpajama.model.architectures import build
    from slimpajama.model.architectures.optimiser import Optimiser
    from slimpajama.model.train import loop
    from slimpajama.model.train.parallel import ThreadPool

    torch.set_num_threads(1)
    cast(Any, loop).time = SimpleNamespace(perf_counter=time.process_time, monotonic=time.monotonic)
    model = build(model_cfg, tokenizer.vocab_size, cfg.seed)
    rows = data.rows(cfg, model.row_tokens, tokenizer.document_id)
    if in_order:
        _, order = rows.newest.open_lot()
        # Those that are put together, which are below 0, come last.
        order.begins = order.begins[np.argsort(order.begins.view(np.uint64))]
    with ThreadPool(1) as pool:
        history = loop.Training(model, Optimiser(model, cfg.lr, cfg.precision), rows, cfg, pool, warmup=True).run()
    return model, rows, history


def run_part(workspace: str, part: Part, minutes: float) -> dict[str, Any]:
    """Train and score one model in this process."""
    from slimpajama.model.evaluate.score import reconstruct_ids, score_ids

    data, tokenizer, endless = training_data(workspace)
    budget = {"tokens": part.tokens} if part.tokens else {"max_seconds": 60 * minutes * part.longer}
    cfg = replace(endless, seed=part.seed, **budget)
    model, rows, history = train_anew(data, tokenizer, cfg, ModelConfig(**part.model), part.in_order)
    tokens = history.step * rows.batch_rows * rows.row_tokens
    latent = model.describe().get("latent")
    result: dict[str, Any] = {
        "parameters": model.describe()["parameters"],
        "tokens": tokens,
        "precision": cfg.precision,
        "tokens_per_s": tokens / history.seconds,
        "latent": latent,
        "languages": {},
    }
    for lang, documents in data.held_out().items():
        if lang not in LANGUAGES:
            continue
        chosen, size = [], 0
        for ids in documents:
            if size < HELD_OUT_BYTES:
                chosen.append(ids)
                size += int(tokenizer.token_bytes[ids].sum())
        nll = float(score_ids(model, chosen, tokenizer.document_id).sum())
        figures = {"bits_per_byte": nll / size / math.log(2), "bytes": size}
        if latent:
            back = reconstruct_ids(model, chosen, tokenizer.document_id)
            figures["restored"] = float(back.correct.sum() / back.tokens.sum())
            figures["latent_bytes_per_byte"] = float(back.latents.sum()) * latent["bytes"] / size
        result["languages"][lang] = figures
    return result


def generation(vocab_size: int = 8192) -> dict[str, Any]:
    """Return tokens a processor second of `small` and `gpt`, a value a turn; turns alternate, on one thread.

    Weights are those of a new model: arithmetic does not depend on what they learn.
    """
    import torch

    from slimpajama.model.architectures import build

    torch.set_num_threads(1)
    models = {preset: build(ModelConfig(preset=preset), vocab_size, 0).eval() for preset in ("small", "gpt")}
    found: dict[str, list[float]] = {preset: [] for preset in models}
    for _ in range(TURNS):
        for preset, model in models.items():
            began = time.process_time()
            with torch.inference_mode():
                state, logits_1V = model.start(torch.zeros((1, PROMPT), dtype=torch.long))
                for _ in range(NEW_TOKENS):
                    logits_1V = model.step(state, logits_1V.argmax(dim=1))
            found[preset].append(NEW_TOKENS / (time.process_time() - began))
    return found


def workspace_of(cache: Path) -> str:
    """Return the workspace that holds the benchmark corpus; prepared where it is missing."""
    folder = cache / "model"
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "workspace" / "nights" / "index.json").exists():
        step_log("bench").info("preparing the corpus ...")
        corpus = prepare_corpus(cache / "corpus")
        run_night(write_config(folder, *(str(corpus / f"{lang}.jsonl") for lang in LANGUAGES)), "2026-01-01")
    return str(folder / "workspace")


def demo_workspace(cache: Path) -> str:
    """Return the workspace that holds the demo's text; prepared where it is missing."""
    folder = cache / "demo"
    if not (folder / "workspace" / "nights" / "index.json").exists():
        step_log("bench").info("preparing the demo's text ...")
        measure([sys.executable, "-m", "slimpajama", "demo-corpus", folder])
        run_night(folder / "demo.toml", "2026-01-01")
    return str(folder / "workspace")


def parser_of(description: str | None, parts: Sequence[str]) -> argparse.ArgumentParser:
    """Return the options of a benchmark whose parts run in processes of their own and are kept."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=CACHE.parent)
    parser.add_argument("--workspace", default="")
    parser.add_argument("--only", nargs="+", choices=parts, default=parts)
    parser.add_argument("--list", action="store_true", help="print the parts' names")
    # One part, in this process.
    parser.add_argument("--here", help=argparse.SUPPRESS)
    return parser


def run_anew(module: str, name: str, file: Path, *options: object) -> None:
    """Run a part in a process of its own, unless `file` holds what it gave at this commit."""
    file.parent.mkdir(parents=True, exist_ok=True)
    kept = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    if kept.get("commit") != commit():
        done = measure([sys.executable, "-m", module, "--here", name, *options])
        found = json.loads(done.output.splitlines()[-1])
        file.write_text(json.dumps(found | {"commit": commit(), "peak_mb": done.peak_mb}), encoding="utf-8")


def main() -> None:
    """Run what is missing and write the page."""
    parser = parser_of(__doc__, [*PARTS, SPEED])
    parser.add_argument("--minutes", type=float, default=10.0)
    args = parser.parse_args()
    if args.list:
        print("\n".join([*PARTS, SPEED]))
        return
    workspace = args.workspace or workspace_of(args.cache)
    if args.here:
        print(json.dumps(generation() if args.here == SPEED else run_part(workspace, PARTS[args.here], args.minutes)))
        return
    results = args.cache / "model" / "results"
    for name in args.only:
        minutes = 0.5 if name == SPEED else args.minutes * PARTS[name].longer
        where = demo_workspace(args.cache) if name in PARTS and PARTS[name].corpus == "demo" else workspace
        step_log("bench").info(f"{name}: {minutes:g} minutes ...")
        file = results / f"{name}-{args.minutes:g}.json"
        run_anew("benchmarks.model", name, file, "--workspace", where, "--minutes", args.minutes)
    page = write_page({name: results / f"{name}-{args.minutes:g}.json" for name in [*PARTS, SPEED]}, args.minutes)
    (DOCS / "model.md").write_text(page, encoding="utf-8")
    print(page)


def write_page(files: dict[str, Path], minutes: float) -> str:
    """Return the page over all parts that were run."""
    found = {name: json.loads(file.read_text(encoding="utf-8")) for name, file in files.items() if file.exists()}
    lines = [
        "# Models, measured\n",
        f"`python -m benchmarks.model --minutes {minutes:g}`: one thread, equal processor time, the same text.\n",
        conditions("torch", "numba"),
        "- each row names the commit it was measured at, and ran beside other work of its own time, which its tokens a"
        " second\n  show; bits per byte and tokens restored are of held-out documents\n",
        "## Bits per byte against a decoder-only model of the same size\n",
        f"{minutes:g} minutes each; medians over seeds. The mark: not above `gpt` in either language.\n",
        table([_bits(preset, [found[n] for n in found if n.startswith(f"{preset}-")]) for preset in ("small", "gpt")])
        if any(name.startswith(("small-", "gpt-")) for name in found)
        else "",
        "\n## Tokens restored, and the size of latents\n",
        f"{1.5 * minutes:g} minutes each. Marks: 99.9, 99 and 95 % for K = 4, 8 and 16; 99 % with fewer bytes than the"
        " text has.\n",
        table([_restored(name, row) for name, row in found.items() if name.startswith(("K", "quantised"))] or [{}]),
        f"\n## Rows from all over the corpus\n\n{ROWS_NOTE}",
        table(_orders(found)) if any(name.startswith("rows-") for name in found) else "",
        "\n## Generation\n",
        f"{NEW_TOKENS} tokens after a prompt of {PROMPT}, both with caches, {TURNS} turns that alternate. Mark: twice"
        " `gpt`.\n",
        table(_speeds(found[SPEED])) if SPEED in found else "",
        "",
        SHORT,
    ]
    return "\n".join(lines)


def _bits(preset: str, rows: list[dict[str, Any]]) -> dict[str, object]:
    def median(value: Any) -> float:
        return statistics.median(map(value, rows)) if rows else float("nan")

    return {
        "model": preset,
        "seeds": len(rows),
        "parameters": f"{rows[0]['parameters']:,}" if rows else "",
        **{lang: f"{median(lambda row, lang=lang: row['languages'][lang]['bits_per_byte']):.3f}" for lang in LANGUAGES},
        "tokens a processor second": f"{median(lambda row: row['tokens_per_s']):,.0f}",
        "precision": rows[0]["precision"] if rows else "",
        "commit": rows[0]["commit"] if rows else "",
    }


def _orders(found: dict[str, Any]) -> list[dict[str, object]]:
    """Return a row for each corpus and order, the second of a corpus with its difference from the first."""
    lines: list[dict[str, object]] = []
    for corpus in ("demo", "docs"):
        before: dict[str, float] = {}
        for order in ("in-order", "apart"):
            rows = [row for name, row in found.items() if name.startswith(f"rows-{corpus}-{order}-")]
            if not rows:
                continue
            line: dict[str, object] = {"text": corpus, "rows": order.replace("-", " "), "seeds": len(rows)}
            for lang in LANGUAGES:
                bits = [row["languages"][lang]["bits_per_byte"] for row in rows]
                mean = statistics.fmean(bits)
                less = f" ({mean / before[lang] - 1:+.1%})" if lang in before else ""
                line |= {lang: f"{mean:.3f}{less}", f"{lang}, least to most": f"{min(bits):.3f} to {max(bits):.3f}"}
                before[lang] = mean
            for lang in LANGUAGES:
                line[f"restored {lang}"] = f"{min(row['languages'][lang]['restored'] for row in rows):.3%}"
            lines.append(line | {"precision": rows[0]["precision"], "commit": rows[0]["commit"]})
    return lines


def _speeds(found: dict[str, Any]) -> list[dict[str, object]]:
    middle = {preset: statistics.median(found[preset]) for preset in ("small", "gpt")}
    return [
        {
            "model": preset,
            "tokens a processor second": f"{middle[preset]:.0f}",
            "least to most": f"{min(found[preset]):.0f} to {max(found[preset]):.0f}",
            "of gpt": f"{middle[preset] / middle['gpt']:.2f}",
            "commit": found["commit"],
        }
        for preset in middle
    ]


def _restored(name: str, row: dict[str, Any]) -> dict[str, object]:
    languages, latent = row["languages"], row["latent"]
    return {
        "model": name,
        "tokens a latent": latent["tokens"],
        "bytes a latent": f"{latent['bytes']:g}",
        **{f"restored {lang}": f"{languages[lang]['restored']:.3%}" for lang in LANGUAGES},
        **{f"latents / text {lang}": f"{languages[lang]['latent_bytes_per_byte']:.2f}" for lang in LANGUAGES},
        **{f"bits per byte {lang}": f"{languages[lang]['bits_per_byte']:.3f}" for lang in LANGUAGES},
        "commit": row["commit"],
    }


if __name__ == "__main__":
    main()
