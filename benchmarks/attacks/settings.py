"""Every number of the settings at its extremes: beyond its range it is refused when read, at its ends a night holds.

The schema of the configuration says which numbers there are, so that a new setting is tried, too. A night holds if it
is published or ends in one sentence, within 400 s on a busy machine; a few settings that ask for long work may still be
at it then.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import random
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from benchmarks.attacks import Row
from benchmarks.machine import ROOT
from benchmarks.night import build, go_on
from slimpajama.core.config import Config, validate
from slimpajama.core.errors import ConfigError, SlimpajamaError
from slimpajama.core.progress import Sink, report_to
from slimpajama.workspace.open import open_workspace

sys.path.append(str(ROOT / "tests" / "e2e"))
import small_corpus

SECONDS = 400
NUMBERS = ("integer", "number")
TRACEBACK = 70
# They ask for work that takes longer, and get it: a training of so many tokens, for one.
LONG = {"train.batch_tokens", "generate.max_tokens", "model.row_tokens"}
# Sources of pairs and texts, whose fields are numbers of a list.
LISTS = {"ingest.sources", "decontaminate.evaluations", "pairs.sources"}
HUGE = 10**24
CONFIG: dict[str, Any] = {
    "workspace": "workspace",
    "ingest": {"sources": [{"name": "a", "uri": "raw/*.jsonl"}]},
    "tokenizer": {"vocab_size": 600},
    "shards": {"validation_share": 0.1, "test_share": 0.1},
    "model": {"preset": "tiny"},
    "train": {"tokens": 4096, "batch_tokens": 2048, "max_seconds": 5.0},
    "evaluate": {"bootstrap": 100},
    "generate": {"max_tokens": 4, "prompts": ["The "]},
    "pairs": {"sources": [{"name": "p", "uri": "pairs/*.jsonl", "task": "translation"}], "test_share": 0.3},
    "tune": {
        "nightly": True,
        "tokens": 2048,
        "batch_tokens": 512,
        "max_seconds": 5.0,
        "max_test_pairs": 2,
        "target_tokens": 16,
    },
    "apply": {"beams": 2},
}
CHILDREN = multiprocessing.get_context("forkserver")


def numbers() -> dict[str, dict[str, Any]]:
    """Return the schema of every number, and of every table of numbers, by its dotted key."""
    schema = TypeAdapter(Config).json_schema()

    def walk(part: dict[str, Any], key: str) -> Iterator[tuple[str, dict[str, Any]]]:
        if "$ref" in part:
            part = schema["$defs"][part["$ref"].rpartition("/")[2]]
        if part.get("type") in NUMBERS:
            yield key, part
        for name, inner in part.get("properties", {}).items():
            yield from walk(inner, f"{key}.{name}" if key else name)
        for inner in (
            part.get("items"),
            part.get("additionalProperties"),
            *part.get("anyOf", ()),
            *part.get("prefixItems", ()),
        ):
            if isinstance(inner, dict):
                yield from walk(inner, key)

    return dict(walk(schema, ""))


def beyond(schema: dict[str, Any]) -> list[float]:
    """Return numbers that a setting must refuse: all of them, where its schema gives it no range."""
    ends = [-1, HUGE, -HUGE, 1e308, -1e308, 5e-324, math.inf, -math.inf, math.nan]
    low, above, most = (schema.get(name) for name in ("minimum", "exclusiveMinimum", "maximum"))
    step = 1 if schema["type"] == "integer" else 0
    ends += [end - step if step else math.nextafter(end, -math.inf) for end in (low,) if end is not None]
    ends += [end + step if step else math.nextafter(end, math.inf) for end in (most,) if end is not None]
    ends += [] if above is None else [above]

    def inside(value: float) -> bool:
        whole = schema["type"] == "number" or value == value // 1
        bounded = most is not None and (low is not None or above is not None)
        return bounded and whole and (value >= low if above is None else value > above) and value <= most

    return [value for value in ends if not inside(value)]


def ends(schema: dict[str, Any]) -> tuple[float, float]:
    """Return the least and the largest number that a setting allows."""
    low = schema.get("minimum")
    return (math.nextafter(schema["exclusiveMinimum"], math.inf) if low is None else low), schema["maximum"]


def changed(settings: dict[str, Any], key: str, value: float) -> dict[str, Any]:
    """Return settings with one number put in its place."""
    data = json.loads(json.dumps(settings))
    *parents, last = key.split(".")
    node, path = data, ""
    for name in parents:
        path = f"{path}.{name}".lstrip(".")
        node = node.setdefault(name, [{"name": "e", "uri": "none"}] if path in LISTS else {})
        node = node[0] if isinstance(node, list) else node
    # A table's numbers have names of their own.
    node[last] = {"gopher-dup-5gram": value} if last == "thresholds" else value
    return data


def refused() -> Row:
    """Send numbers beyond its range to every setting."""
    broken, tries = [], 0
    for key, schema in numbers().items():
        for value in beyond(schema):
            tries += 1
            try:
                validate(changed(CONFIG, key, value))
            except ConfigError as error:
                if key.rpartition(".")[2] in str(error):
                    continue
                broken.append(f"{key} = {value}: refused as {error}")
            except Exception as error:
                broken.append(f"{key} = {value}: {type(error).__name__}")
            else:
                broken.append(f"{key} = {value} is taken")
    return Row("settings beyond their range, refused when they are read", tries, broken)


def write_raw(folder: Path) -> None:
    """Write texts in both languages and pairs of them."""
    texts = [*(small_corpus.chinese(seed) for seed in range(40)), *small_corpus.english()[:25]]
    pairs = [{"source": f"The weather is fine {n}.", "target": f"今天天气很好{n}。"} for n in range(40)]
    for name, rows in (("raw/a", [{"text": text} for text in texts]), ("pairs/p", pairs)):
        path = folder / f"{name}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def night(data: dict[str, Any], folder: str, said: str) -> None:
    """Run a whole night in this process; end it with the exit code of the command line, and 70 for a traceback."""
    try:
        cfg = validate(data)
        cfg = replace(cfg, workspace=f"{folder}/workspace", run=replace(cfg.run, source_root=folder))
        from slimpajama.ops.retention import clean_up

        with report_to(Sink()):
            build(cfg, "n1")
            go_on(cfg, "n1")
            clean_up(open_workspace(cfg.workspace), cfg.retention)
    except SlimpajamaError as error:
        Path(said).write_text(str(error), encoding="utf-8")
        raise SystemExit(error.exit_code) from None
    except BaseException:
        Path(said).write_text(traceback.format_exc(), encoding="utf-8")
        raise SystemExit(TRACEBACK) from None


def outcome(folder: Path, key: str, value: float) -> str:
    """Return what is wrong with a night at one end of a setting; empty where it holds."""
    said = folder / "said"
    write_raw(folder)
    child = CHILDREN.Process(target=night, args=(changed(CONFIG, key, value), str(folder), str(said)))
    child.start()
    child.join(SECONDS)
    text = said.read_text(encoding="utf-8") if said.exists() else ""
    if child.exitcode is None:
        child.kill()
        child.join()
        return "" if key in LONG else f"{key} = {value} was not through within {SECONDS} s"
    if child.exitcode in (0, 1, 2) and "Traceback" not in text:
        return ""
    return f"{key} = {value}: exit code {child.exitcode}, {(text.strip().splitlines() or [''])[-1]}"


def held(folder: Path, tries: int, seed: int) -> Row:
    """Run nights at both ends of settings, `tries` of them drawn by the seed."""
    CHILDREN.set_forkserver_preload(["benchmarks.night", "torch", "polars", "slimpajama.model.train.stage"])
    cases = [(key, value) for key, schema in numbers().items() for value in ends(schema)]
    random.Random(seed).shuffle(cases)
    broken, longest = [], 0.0
    for number, (key, value) in enumerate(cases[: tries or None]):
        began = time.monotonic()
        place = folder / str(number)
        place.mkdir()
        wrong = outcome(place, key, value)
        longest = max(longest, time.monotonic() - began)
        broken += [wrong] if wrong else []
        print(f"{key} = {value}: {wrong or 'holds'}, {time.monotonic() - began:.0f} s", file=sys.stderr)
    return Row(
        "settings at both ends of their range, a night each",
        len(cases[: tries or None]),
        broken,
        f"longest {longest:.0f} s",
    )


def attack(folder: Path, tries: int, seed: int) -> list[Row]:
    """Send extremes to every setting; `tries` of the ends, or all where that is 0, have a night of their own."""
    return [refused(), held(folder, tries, seed)]
