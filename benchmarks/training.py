"""Measure training: tokens a second against Hugging Face's Trainer, share of the matmul peak, memory over an hour.

    python -m benchmarks.training [--cache FOLDER] [--workspace W] [--steps 10] [--turns 3] [--only NAME...]

Parts that the cache holds for this commit are not run again, and `--list` prints their names:

- `small`, `base`, `small-compile`: ours by the real loop on one thread, with the peak of matmuls beside it; with
  10 steps about 1, 2 and 2 minutes of processor time a turn;
- `gpt2-...`, `bart-...`: Trainer in an environment of its own (1 GB, installed where it is missing), with its defaults,
  bf16 + compile and fp32 + compile; 1 to 2 minutes a turn. Where the processor has no bfloat16 instructions, bf16
  takes minutes a step: one turn of two steps;
- `base-memory`: `base` trained in a process of its own for `--minutes`, an hour by default.

Turns of the parts alternate; each turn is kept when it ends, and `--turns 0` writes the page alone.
Writes docs/benchmarks/training.md from all that is kept.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.dedup import peer_python
from benchmarks.machine import DOCS, commit, conditions, measure, table
from benchmarks.memory import Watch
from benchmarks.model import parser_of, training_data, workspace_of
from slimpajama.core.config import Config, ModelConfig, RunConfig, TrainConfig
from slimpajama.core.logs import step_log
from slimpajama.model.device import has_fast_bf16

PEERS = ["transformers==5.24.0", "accelerate==1.15.0", "torch==2.13.0", "numpy"]
WARM_UP = 2  # steps
# Steps of what takes long.
FEW = 2
STEP_TOKENS = TrainConfig().batch_tokens
MEMORY = "base-memory"
OURS = {
    "small": ModelConfig(preset="small"),
    "small-compile": ModelConfig(preset="small"),
    "base": ModelConfig(preset="base"),
}
THEIRS = {f"{kind}-{variant}" for kind in ("gpt2", "bart") for variant in ("default", "bf16-compile", "fp32-compile")}
PARTS = [*OURS, *sorted(THEIRS), MEMORY]
SIZES = [
    *((n, n, n) for n in (512, 1024, 2048)),
    (2048, 192, 768),
    (2048, 768, 192),
    (512, 192, 8192),
    (512, 8192, 192),
    (4096, 512, 2048),
]
"""Matrix products (rows, inner, columns) that the peak is the best of: square, and as they occur in the models."""

SIDES_NOTE = """\
`small` is slimpajama's preset by its own loop; `gpt2` and `bart` are configurations of its width, heads, vocabulary and
size, without dropout. All train the same rows of 256 tokens, 16 a step: Trainer's batch is its default of 8 rows, two
of them a step, as ours is two parts of 8 rows. A row counts as 256 tokens on every side, although `bart` reads it and
writes it: so does `small`. Dataloader, clipping and optimiser are in a step on every side.
"""
RATIO_NOTE = """\
Ours without compiling stands against Trainer's defaults; the faster one of ours, compiled or not, against its compiled
ones. The mark of 2 is for bf16 + compile; where bf16 is emulated, fp32 + compile is Trainer's best and the honest
yardstick. `at the peak`: the ratio if ours did its arithmetic at the measured peak and nothing else.
"""
SHARE_NOTE = """\
Peak: the best median over products of square and of the models' sizes, in the training's precision, in the same
process. Operations of the real loss, forward and backward, and of the optimiser are counted by torch's FlopCounterMode.
"""
MEMORY_NOTE = """\
`base` trained by the step in a process of its own, with checkpoints and four validations: the most memory of its own
(without mapped files), in MB, in each tenth of the time, sampled 20 times a second. The first holds the start, the last
the publication of the model.
"""
SHORT = """\
Short of their marks: a step of `small` is half matrix products, a tenth are casts between the precisions, and the rest
passes over the residual stream, softmax and norms; what `at the peak` leaves above the mark would have to come from
those. Tried: a residual stream in bfloat16, so that no layer casts it; one kernel for softmax, loss and gradient of
the head; micro-batches of 2,048 tokens, which stay in the cache; and compiling, which fuses those passes and comes
nearer, but takes two minutes that a night of some minutes does not earn back. Against its bf16 + compile both sides
run the same products by the same kernels: what is left is that the backbone reads a quarter of the positions.

"""
BETTER = """\
Where Trainer is the better choice: it trains any model of its hub, from its published weights, with its callbacks,
schedules and integrations, on many GPUs. A loop around one small model does without them.
"""


def training_rows(workspace: str, row_tokens: int) -> tuple[Any, int, TrainConfig]:
    """Return the rows that a training reads, the vocabulary's size, and settings without an end."""
    data, tokenizer, cfg = training_data(workspace)
    return data.rows(cfg, row_tokens, tokenizer.document_id), tokenizer.vocab_size, cfg


def run_ours(workspace: str, name: str, steps: int) -> dict[str, Any]:
    """Train in this process; return what each step took, its arithmetic, and what matmuls reach just before."""
    import torch
    from torch.profiler import profile
    from torch.utils.flop_counter import FlopCounterMode

    from slimpajama.core.progress import Bar
    from slimpajama.model.architectures import build
    from slimpajama.model.architectures.optimiser import Optimiser
    from slimpajama.model.architectures.presets import resolve
    from slimpajama.model.train.loop import Training
    from slimpajama.model.train.parallel import ThreadPool

    torch.set_num_threads(1)
    rows, vocabulary, cfg = training_rows(workspace, resolve(OURS[name]).row_tokens)
    model = build(OURS[name], vocabulary, cfg.seed)
    optimiser = Optimiser(model, cfg.lr, cfg.precision)
    batch_tokens = rows.batch_rows * rows.row_tokens
    peak, size = matmul_peak(torch.bfloat16 if cfg.precision == "bf16" else torch.float32)
    read: list[float] = []

    def train(pool: ThreadPool, count: int, compiled: bool = False) -> None:
        bar = Bar("", 1, "", on_change=lambda _: read.append(time.process_time()))
        wanted = replace(cfg, tokens=count * batch_tokens, compile=compiled)
        Training(model, optimiser, rows, wanted, pool, warmup=True, bar=bar).run()

    with ThreadPool(1) as pool:
        train(pool, WARM_UP + steps, name.endswith("compile"))
        seconds, children = np.diff(read), resource.getrusage(resource.RUSAGE_CHILDREN)
        optimiser_s = []
        for _ in range(FEW + 1):
            began = time.process_time()
            optimiser.step(0.0, pool.map)
            optimiser_s.append(time.process_time() - began)
    # Computes in the calling thread, where counters and profilers see it.
    single = ThreadPool(1)
    with FlopCounterMode(display=False) as whole:
        train(single, 1)
    with FlopCounterMode(display=False) as update:
        optimiser.step(0.0)
    with profile() as profiled:
        train(single, 1)
    events = [event for event in profiled.key_averages() if event.self_cpu_time_total]
    total = sum(event.self_cpu_time_total for event in events)
    slowest = sorted(events, key=lambda event: -event.self_cpu_time_total)[:12]
    return {
        "seconds": seconds[WARM_UP:].tolist(),
        "first_s": seconds[0] + children.ru_utime + children.ru_stime,
        "parameters": model.describe()["parameters"],
        "batch_tokens": batch_tokens,
        "precision": cfg.precision,
        "peak": peak,
        "peak_size": size,
        "flops": whole.get_total_flops(),
        "update_flops": update.get_total_flops(),
        "update_s": statistics.median(optimiser_s),
        "profile": {event.key: event.self_cpu_time_total / total for event in slowest},
    }


def matmul_peak(dtype: Any) -> tuple[float, str]:
    """Return the most operations a processor second that products of matrices reach on one thread, and at which size.

    A size counts by the median of seven turns.
    """
    import torch

    rates = {}
    for m, k, n in SIZES:
        a, b, out = torch.rand(m, k, dtype=dtype), torch.rand(k, n, dtype=dtype), torch.empty(m, n, dtype=dtype)
        repeats = max(1, int(5e9 / (2 * m * k * n)))
        taken = []
        for _ in range(7):
            began = time.process_time()
            for _ in range(repeats):
                torch.mm(a, b, out=out)
            taken.append((time.process_time() - began) / repeats)
        rates[f"{m} x {k} x {n}"] = 2 * m * k * n / statistics.median(taken)
    best = max(rates, key=lambda size: rates[size])
    return rates[best], best


def run_peer(cache: Path, name: str, folder: Path, rows: Path, vocabulary: int, steps: int) -> dict[str, Any]:
    """Train by Trainer on the same rows, one thread."""
    python = peer_python(cache, "transformers", PEERS)
    kind, _, variant = name.partition("-")
    command = [python, Path(__file__).with_name("trainer.py"), kind, variant, rows, vocabulary, WARM_UP + steps]
    done = measure([*command, folder / "out"], {"PYTHONPATH": "", "HF_HUB_OFFLINE": "1", **compiler(folder)})
    found: dict[str, Any] = json.loads(done.output.splitlines()[-1])
    return found | {"seconds": found["seconds"][WARM_UP - 1 :]}


def run_memory(workspace: str, minutes: float, tokens: int) -> dict[str, Any]:
    """Train `base` in this process, with its checkpoints and validations, in a copy of the workspace's nights."""
    from slimpajama.model.train.stage import train
    from slimpajama.workspace.open import open_workspace

    cfg = Config(
        model=OURS["base"], run=RunConfig(workers=1), train=TrainConfig(tokens=tokens, max_seconds=60 * minutes)
    )
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(Path(workspace, "nights"), Path(folder, "nights"))
        space = open_workspace(folder)
        nights = space.nights.published()
        report = train(space, cfg, nights, nights[-1])
    return {"tokens": report.tokens, "steps": report.steps}


def measure_memory(workspace: str, minutes: float) -> dict[str, Any]:
    """Return the peaks of a training's tenths; a short one before tells how many tokens fill the time.

    With a budget of tokens the loop validates four times, as a night's training does, and not at its end alone.
    """
    tokens = 10**12
    for length in (min(0.5, minutes / 4), minutes):
        step_log("bench").info(f"{MEMORY}: {length:g} minutes ...")
        again = [sys.executable, "-m", "benchmarks.training", "--here", MEMORY, "--workspace", workspace]
        watch = Watch()
        watch.start()
        done = measure([*again, "--minutes", length, "--tokens", tokens])
        watch.stop()
        found: dict[str, Any] = json.loads(done.output.splitlines()[-1])
        tokens = int(found["tokens"] * minutes / length)
    tenths = [float(part.max()) for part in np.array_split(np.array(watch.own_mb), 10)]
    return found | {"minutes": minutes, "tenths": tenths, "peak_mb": done.peak_mb, "cpu_s": done.cpu_s}


def main() -> None:
    """Run what is missing and write the page."""
    parser = parser_of(__doc__, PARTS)
    parser.add_argument("--steps", type=int, default=10, help="measured steps a turn")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=60.0, help=f"length of {MEMORY}")
    parser.add_argument("--tokens", type=int, default=10**12, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.list:
        print("\n".join(PARTS))
        return
    workspace = args.workspace or workspace_of(args.cache)
    if args.here:
        if args.here == MEMORY:
            print(json.dumps(run_memory(workspace, args.minutes, args.tokens)))
        else:
            print(json.dumps(run_ours(workspace, args.here, args.steps)))
        return
    results = args.cache / "training"
    results.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        take_turns(args, workspace, results, Path(temporary))
    files = {name: results / f"{name}.json" for name in PARTS}
    page = write_page(
        {name: json.loads(file.read_text(encoding="utf-8")) for name, file in files.items() if file.exists()}
    )
    (DOCS / "training.md").write_text(page, encoding="utf-8")
    print(page)


def take_turns(args: argparse.Namespace, workspace: str, results: Path, folder: Path) -> None:
    """Run the parts that are missing, one after the other and again, and keep each turn when it ends."""
    ids = folder / "rows.npy"
    rows, vocabulary, _ = training_rows(workspace, 256)
    np.save(ids, np.concatenate([rows.batch()[0] for _ in range(WARM_UP + args.steps)]).astype(np.uint16))
    for turn in range(args.turns):
        for name in args.only:
            emulated = "bf16" in name and not has_fast_bf16()
            steps = FEW if emulated else max(FEW, args.steps // 3) if name == "base" else args.steps
            setup = {"commit": commit(), "length": args.minutes if name == MEMORY else steps}
            file = results / f"{name}.json"
            kept = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
            turns = kept["turns"] if {key: kept.get(key) for key in setup} == setup else []
            if len(turns) > turn or (turn and (emulated or name == MEMORY)):
                continue
            if name == MEMORY:
                turns.append(measure_memory(workspace, args.minutes))
            elif name in THEIRS:
                step_log("bench").info(f"turn {turn + 1}: {name} ...")
                turns.append(run_peer(args.cache, name, folder, ids, vocabulary, steps))
            else:
                step_log("bench").info(f"turn {turn + 1}: {name} ...")
                again = [sys.executable, "-m", "benchmarks.training", "--here", name, "--workspace", workspace]
                turns.append(json.loads(measure([*again, "--steps", steps], compiler(folder)).output.splitlines()[-1]))
            file.write_text(json.dumps(setup | {"turns": turns}), encoding="utf-8")


def compiler(folder: Path) -> dict[str, str]:
    """Return the environment of torch.compile: kept in `folder`, so that it is paid for once, and in one thread."""
    return {"TORCHINDUCTOR_COMPILE_THREADS": "1", "TORCHINDUCTOR_CACHE_DIR": str(folder / "compiled")}


def median(part: dict[str, Any], figure: Callable[[dict[str, Any]], float]) -> float:
    """Return the middle of a part's turns."""
    return statistics.median(map(figure, part["turns"]))


def step_s(part: dict[str, Any]) -> float:
    """Return processor seconds a step: the middle of the turns' middles."""
    return median(part, lambda turn: statistics.median(turn["seconds"]))


def write_page(kept: dict[str, dict[str, Any]]) -> str:
    """Return the page over all parts that were run."""
    ours = {name: kept[name] for name in OURS if name in kept}
    sides = {name: part for name, part in kept.items() if name not in (MEMORY, "base")}
    lines = [
        "# Training, measured\n",
        "`python -m benchmarks.training`: one thread, processor time, steps of 4,096 tokens of the benchmark corpus.\n",
        conditions("torch", "numpy"),
        f"- others, in an environment of their own: {', '.join(PEERS[:3])}",
        f"- bfloat16 instructions: {'yes' if has_fast_bf16() else 'none, so torch emulates bfloat16'}",
        "- each row names the commit it was measured at; turns of all rows alternate, figures are medians\n",
    ]
    if missing := [name for name in PARTS if name not in kept]:
        lines += [f"Not measured here yet: {', '.join(missing)}.\n"]
    if sides:
        lines += [
            "## Against Hugging Face's Trainer\n",
            SIDES_NOTE,
            table([_side(*side) for side in sides.items()]),
            "",
        ]
    if "small" in ours and THEIRS & sides.keys():
        lines += [RATIO_NOTE, table(_ratios(sides)), "", SHORT, BETTER]
    if ours:
        lines += ["## Share of the matmul peak\n", SHARE_NOTE, table([_share(*part) for part in ours.items()]), ""]
        for name in (name for name in ours if name != "small-compile"):
            lines += [
                f"Where a step of `{name}` goes (torch.profiler, processor time by operation):\n",
                _profile(ours[name]),
                "",
            ]
    if MEMORY in kept:
        lines += ["## Memory over time\n", MEMORY_NOTE, table([_memory(kept[MEMORY])]), ""]
    return "\n".join(lines)


def _side(name: str, part: dict[str, Any]) -> dict[str, object]:
    first, seconds = part["turns"][0], [s for turn in part["turns"] for s in turn["seconds"]]
    return {
        "": name,
        "parameters": f"{first['parameters']:,}",
        "precision": first.get("precision", _precision(name)),
        "tokens a processor second": f"{STEP_TOKENS / step_s(part):,.0f}",
        "s a step": f"{step_s(part):.2f}",
        "least to most": f"{min(seconds):.2f} to {max(seconds):.2f}",
        "first step, with compiling": f"{first['first_s']:.0f} s",
        "turns x steps": f"{len(part['turns'])} x {part['length']}",
        "commit": part["commit"],
    }


def _precision(name: str) -> str:
    return "bf16" if "bf16" in name else "fp32"


def _ratios(sides: dict[str, dict[str, Any]]) -> list[dict[str, object]]:
    best = min((sides[name] for name in ("small", "small-compile") if name in sides), key=step_s)
    at_peak = STEP_TOKENS / median(sides["small"], lambda turn: turn["flops"] / turn["peak"])
    rows: list[dict[str, object]] = []
    for name in sorted(THEIRS & sides.keys()):
        default = name.endswith("default")
        rate, theirs = (STEP_TOKENS / step_s(part) for part in (sides["small"] if default else best, sides[name]))
        rows.append(
            {
                "": name,
                "its tokens a processor second": f"{theirs:,.0f}",
                "ours": f"{rate:,.0f}",
                "ratio": f"{rate / theirs:.2f}",
                "at the peak": f"{at_peak / theirs:.2f}",
                "mark": "3" if default else "2",
            }
        )
    return rows


def _share(name: str, part: dict[str, Any]) -> dict[str, object]:
    def share(turn: dict[str, Any], update: bool) -> float:
        seconds = statistics.median(turn["seconds"]) - (0 if update else turn["update_s"])
        return float((turn["flops"] - (0 if update else turn["update_flops"])) / seconds / turn["peak"])

    first = part["turns"][0]
    return {
        "": name,
        "precision": first["precision"],
        "peak, GFLOP/s": f"{median(part, lambda turn: turn['peak']) / 1e9:.1f}",
        "reached at": first["peak_size"],
        "GFLOP a step": f"{first['flops'] / 1e9:.1f}",
        "of them Newton-Schulz": f"{first['update_flops'] / 1e9:.1f}",
        "s a step": f"{step_s(part):.2f}",
        "of it the optimiser": f"{median(part, lambda turn: turn['update_s']):.2f}",
        "share of the peak": f"{median(part, lambda turn: share(turn, True)):.0%}",
        "without the optimiser": f"{median(part, lambda turn: share(turn, False)):.0%}",
        "mark": "25%",
        "commit": part["commit"],
    }


def _profile(part: dict[str, Any]) -> str:
    return table(
        [{"operation": f"`{key}`", "share": f"{value:.1%}"} for key, value in part["turns"][0]["profile"].items()]
    )


def _memory(part: dict[str, Any]) -> dict[str, object]:
    run = part["turns"][0]
    return {
        "minutes": f"{run['minutes']:g}",
        "steps": f"{run['steps']:,}",
        "CPU-s": f"{run['cpu_s']:,.0f}",
        **{f"{n}/10": f"{mb:.0f}" for n, mb in enumerate(run["tenths"], 1)},
        "last to first": f"{run['tenths'][-1] / run['tenths'][0]:.3f}",
        "peak with mapped files, MB": f"{run['peak_mb']:.0f}",
        "commit": part["commit"],
    }


if __name__ == "__main__":
    main()
