"""What a tuned model makes of held-out pairs: the strategy that does best, and the scores that the gate reads."""

from typing import Any

import polars as pl
import pyarrow as pa

from slimpajama.apps.tune.examples import directions, kind_of
from slimpajama.apps.tune.inference import Tuned, strategies_of
from slimpajama.apps.tune.metrics import MAIN, measure, score
from slimpajama.core.config import Config
from slimpajama.core.progress import track
from slimpajama.core.split import unit_hashes
from slimpajama.corpus.pairs.rules import language

# Texts of each task and language that the report shows.
SAMPLES = 2
OUTPUTS = pa.schema(
    [
        ("id", pa.string()),
        ("task", pa.string()),
        ("target_lang", pa.string()),
        ("reversed", pa.bool_()),  # from target to source
        ("output", pa.large_string()),
        ("score", pa.float64()),  # the measure that decides
    ]
)


def choose_tests(tests: pl.DataFrame, most: int) -> pl.DataFrame:
    """Return at most so many test pairs of each task and target language, both directions of them, by a hash."""
    rows = directions(tests)
    rows = rows.with_columns(order=pl.Series(unit_hashes(rows["id"].to_list(), "test-pairs", 0)))
    kinds = rows.sort("task", "target_lang", "order").group_by("task", "target_lang", maintain_order=True)
    return kinds.head(most)


def choose_strategies(tuned: Tuned, validation: pl.DataFrame, cfg: Config) -> dict[str, str]:
    """Return the strategy that does best on validation pairs, by kind and language of the source or question."""
    chosen = choose_tests(validation, cfg.tune.max_test_pairs)
    asked = pl.col("question") != ""
    chosen = chosen.with_columns(lang=pl.when(asked).then(language("question")).otherwise(language("source")))
    tried = dict[str, dict[str, list[float]]]()
    with track("choose", total=len(chosen), unit="pairs") as bar:
        for row in chosen.iter_rows(named=True):
            kind = kind_of(row["task"], row["target_lang"])
            key = f"{kind}/{row['lang']}"
            scores_of = tried.setdefault(key, {strategy: [] for strategy in strategies_of(kind)})
            for strategy, found in scores_of.items():
                tuned.strategies = {key: strategy}
                _, scores = _write(tuned, row, cfg)
                found.append(scores[MAIN[row["task"]]])
            bar.advance()
    # The first of equal ones.
    return {key: max(found, key=lambda strategy: sum(found[strategy])) for key, found in tried.items()}


def measure_outputs(
    tuned: Tuned, tests: pl.DataFrame, cfg: Config
) -> tuple[pa.Table, dict[str, Any], list[dict[str, str]]]:
    """Return what the model makes of test pairs, with scores; the measures by task and target language; samples."""
    chosen = choose_tests(tests, cfg.tune.max_test_pairs)
    outputs, samples, found = [], list[dict[str, str]](), dict[str, dict[str, list[dict[str, float]]]]()
    with track("measure", total=len(chosen), unit="pairs") as bar:
        for row in chosen.iter_rows(named=True):
            output, scores = _write(tuned, row, cfg)
            alike = found.setdefault(row["task"], {}).setdefault(row["target_lang"], [])
            alike.append(scores)
            if len(alike) <= SAMPLES:
                kept = {name: row[name] for name in ("task", "target_lang", "source", "question")}
                samples.append(kept | {"reference": row["targets"][0], "output": output})
            columns = {name: row[name] for name in ("id", "task", "target_lang", "reversed")}
            outputs.append(columns | {"output": output, "score": scores[MAIN[row["task"]]]})
            bar.advance()
    measures = {
        task: {lang: measure(some, task) for lang, some in languages.items()} for task, languages in found.items()
    }
    return pa.Table.from_pylist(outputs, schema=OUTPUTS), measures, samples


def _write(tuned: Tuned, row: dict[str, Any], cfg: Config) -> tuple[str, dict[str, float]]:
    """Return what the model makes of the source of a pair, and every measure of it."""
    task, source, lang = row["task"], row["source"], row["target_lang"]
    output = tuned.apply(task, source, row["question"], lang, cfg.apply)
    return output, score(task, lang, source, output, row["targets"])
