"""One night from raw files to published shards, stage by stage and without Prefect, in a process of its own.

    python -m benchmarks.night CONFIG.toml NIGHT [--set section.key=value ...] [--workspace W] [--cold] [--whole]

Prints one JSON line: processor and wall seconds a stage. A tiny night in a workspace of its own goes first, so that
kernels and libraries are loaded when the measured one begins; `--cold` leaves it out. `--whole` trains, evaluates,
generates, tunes and reports as well.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.machine import Measured, measure, settings
from slimpajama.core.config import Config, IngestConfig, SourceConfig, load_config
from slimpajama.workspace.open import open_workspace

Times = dict[str, dict[str, float]]
"""Seconds by stage and clock (`cpu_s`, `wall_s`)."""


def build(cfg: Config, night: str) -> Times:
    """Make and publish a night, as the flow `prepare-corpus` does; return what each stage took."""
    from slimpajama.corpus.pipeline import prepare
    from slimpajama.workspace.step import Context

    workspace, times, made = open_workspace(cfg.workspace), Times(), []
    cpu, wall = time.process_time(), time.perf_counter()

    def note(stage: str) -> None:
        nonlocal cpu, wall
        before, (cpu, wall) = (cpu, wall), (time.process_time(), time.perf_counter())
        times[stage] = {"cpu_s": cpu - before[0], "wall_s": wall - before[1]}

    for manifest in prepare(Context(workspace, cfg, night)):
        note(manifest.name)
        made.append(manifest)
    workspace.nights.publish(night, made, cfg)
    note("publish")
    return times


def go_on(cfg: Config, night: str) -> None:
    """Do with a published night what the flow `nightly` does with it."""
    from slimpajama.ops.pipeline import FLOWS, follow
    from slimpajama.ops.report.stage import write_report
    from slimpajama.workspace.step import Context

    context = Context(open_workspace(cfg.workspace), cfg, night)
    reports = follow(cfg, lambda flow, model: {step: use.start(context, model) for step, use in FLOWS[flow].items()})
    tuned = reports["tune"].model if "tune" in reports else ""
    write_report(context.workspace, night, reports["train"].model, tuned)


def warm_up(cfg: Config) -> None:
    """Run a tiny night in both languages, and a second one against it."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        source = SourceConfig(name="tiny", uri=str(folder / "*.jsonl"))
        tiny = replace(
            cfg,
            workspace=str(folder / "workspace"),
            ingest=IngestConfig(sources=(source,)),
            clean=replace(cfg.clean, preset="none"),
        )
        for night in ("1", "2"):
            words = [
                f"{n} 我们今天学习语言模型，数据很好。 the model reads new data {n * int(night)}" for n in range(400)
            ]
            texts = [" ".join(words[start::7]) for start in range(7)]
            lines = [json.dumps({"text": text}) for text in (*texts, texts[0], f"{texts[0]} again")]
            (folder / f"{night}.jsonl").write_text("\n".join(lines), encoding="utf-8")
            build(tiny, night)


def write_config(folder: Path, *patterns: str) -> Path:
    """Write a configuration for JSON lines, a source a pattern, with its workspace beside; return its path."""
    path = folder / "benchmark.toml"
    sources = (
        f'[[ingest.sources]]\nname = "s{number}"\nuri = "{pattern}"\nid_field = "id"\n'
        for number, pattern in enumerate(patterns)
    )
    path.write_text("\n".join(['workspace = "workspace"', *sources]), encoding="utf-8")
    return path


def run_night(
    config: Path, night: str, *options: str, workers: int = 1, seed: str = "0", cold: bool = False
) -> tuple[Times, Measured]:
    """Run this module in a process of its own; return what the stages took, and the process."""
    done = measure(
        [
            sys.executable,
            "-m",
            "benchmarks.night",
            config,
            night,
            *options,
            *settings(run__workers=workers),
            *(["--cold"] if cold else []),
        ],
        {"PYTHONHASHSEED": seed},
        threads=workers,
    )
    times: Times = json.loads(done.output.splitlines()[-1])
    return times, done


def total(times: Times, clock: str = "cpu_s") -> float:
    """Return the sum over stages."""
    return sum(stage[clock] for stage in times.values())


def main(arguments: Sequence[str] | None = None) -> None:
    """Build one night and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("night")
    parser.add_argument("--workspace")
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    parser.add_argument("--cold", action="store_true")
    parser.add_argument("--whole", action="store_true")
    args = parser.parse_args(arguments)
    cfg = load_config(args.config, args.overrides, args.workspace)
    if not args.cold:
        warm_up(cfg)
    times = build(cfg, args.night)
    if args.whole:
        go_on(cfg, args.night)
    print(json.dumps(times))


if __name__ == "__main__":
    main()
