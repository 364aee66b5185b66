"""Task data as a step: the sources' pairs in, `pairs/SET/{train,validation,test}/` and `pairs/SET/removed/` out.

SET is twelve hex digits of everything the pairs depend on, so a set never changes, and the same one is never made
twice. Two passes over the files' parts. The first reads, normalises as cleaning does, and leaves out what `rules.py`
refuses. Then one decision over all pairs:

| rule | a pair is left out if |
|---|---|
| `duplicate` | source, question and targets stand in an earlier one |
| `conflicting-targets` | an earlier one has its source and question and other targets |
| `near-duplicate` | its texts together are a near-duplicate of an earlier one's, by the settings of `dedup` |
| `test-overlap` | it is no test and a target shares words in a row with a test's, by the settings of `decontaminate` |
| `evaluation-overlap` | the same, with a record of `decontaminate.evaluations` |

`earlier` is by the order of sources, files and places in them. Splits are drawn by group. Of questions it is the
question that must not stand in a test: passages serve many, and an answer is often a name that stands everywhere.
"""

import json
from collections import Counter
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from slimpajama.core.config import Config, PairSourceConfig, SourceConfig
from slimpajama.core.errors import InputError, printable
from slimpajama.core.progress import track
from slimpajama.core.schema import PAIRS, REMOVED, refusals, removed_table
from slimpajama.core.split import SPLITS, assign
from slimpajama.corpus.clean.normalise import mask_versions, rewrite, table_versions
from slimpajama.corpus.dedup.decide import decide_texts
from slimpajama.corpus.dedup.kernel import VERSION as SKETCH_VERSION
from slimpajama.corpus.overlap import VERSION as OVERLAP_VERSION
from slimpajama.corpus.overlap import find, make_index
from slimpajama.corpus.pairs.records import Pair, read_pairs
from slimpajama.corpus.pairs.rules import language, refuse
from slimpajama.corpus.sources.discover import InputFile, Problem, check_unchanged, list_source, open_input
from slimpajama.corpus.sources.evaluations import RECORDS, list_evaluations, read_evaluations
from slimpajama.corpus.sources.records import RejectedRecord, document_id, rejected_row
from slimpajama.corpus.sources.remote import fixed_folder
from slimpajama.corpus.windows import cut
from slimpajama.workspace import layout
from slimpajama.workspace.manifest import Manifest, add_counts
from slimpajama.workspace.open import Workspace
from slimpajama.workspace.parquet import read_verified_table
from slimpajama.workspace.step import Context, Part, Run, Step, run_step
from slimpajama.workspace.store import Store

# Raise it when the same files give other pairs.
VERSION = 2
PART_ROWS = 20_000
Rows = list[dict[str, Any]]


def _files(run: Run) -> list[InputFile | Problem]:
    """Return the sources' files in order, or what is wrong with one."""
    sources = (SourceConfig(name=source.name, uri=source.uri) for source in run.cfg.pairs.sources)
    return [item for source in sources for item in list_source(source, run.cfg)]


def _inputs(run: Run) -> dict[str, Any]:
    cfg, files = run.cfg, run.once(_files)
    return {
        "settings": cfg.pairs,
        "clean": {name: getattr(cfg.clean, name) for name in ("simplify", "mask_pii", "fold_width")}
        | mask_versions(cfg.clean),
        "dedup": {"version": SKETCH_VERSION, "settings": cfg.dedup.comparison()},
        "decontaminate": {"version": OVERLAP_VERSION, "settings": cfg.decontaminate},
        "inputs": [file.entry() for file in files if isinstance(file, InputFile)],
        "problems": [[item[0], item[1], item[2].rule] for item in files if not isinstance(item, InputFile)],
        "evaluations": [file.entry() for file in list_evaluations(cfg)],
    } | table_versions()


def _set(run: Run) -> layout.Pairs:
    return layout.pairs(run.fingerprint[:12])


def _pairs(run: Run) -> None:
    cfg, files = run.cfg, run.once(_files)
    with track("pairs", total=sum(file.bytes for file in files if isinstance(file, InputFile)), unit="B") as bar:
        read = []
        for file in files:
            read.append(_read(file, cfg))
            bar.advance(file.bytes if isinstance(file, InputFile) else 0)
    pairs = pl.concat([frame for frame, _ in read])
    removed = [row for _, rows in read for row in rows]
    pairs, refused = _decided(pairs, cfg)
    removed += refused
    if pairs.is_empty():
        rules = Counter(str(row["rule"]) for row in removed)
        raise InputError(
            "no pair is left",
            where="pairs.sources",
            found=", ".join(f"{rule} {n}" for rule, n in rules.items()),
            hint="The fields of a source are named by `fields`.",
        )
    run.commit("set", _part(_set(run), pairs, removed))


STEP = Step("pairs", VERSION, _inputs, _pairs, place=lambda run: (_set(run).work(), _set(run).manifest))
"""Read, check and split the task data of `cfg.pairs`.

Memory: all pairs stand at once, about three times their text. Files: `pairs/SET/{train,validation,test}/` (PAIRS) and
`pairs/SET/removed/` (REMOVED). Counts: `pairs` by split, task and source, `removed` by source and rule. Raises
InputError where no pair is left, or a file changed while it was read.
"""


def make_pairs(workspace: Workspace, cfg: Config) -> tuple[str, Manifest]:
    """Run the step and return the name of the set, and its manifest; raises InputError without a source, too."""
    if not cfg.pairs.sources:
        raise InputError(
            "no source of pairs", where="pairs.sources", hint="docs/applications.md shows how to bring your own data."
        )
    manifest = run_step(STEP, Context(workspace, cfg, night="")).result
    return layout.place(manifest.files[0].path).owner, manifest


def read_split(store: Store, manifest: Manifest, name: str, split: str) -> pl.DataFrame:
    """Return the pairs of a split of a set."""
    entries = manifest.entries(layout.pairs(name).split(split))
    tables = [read_verified_table(store, entry) for entry in entries]
    return pl.DataFrame(pa.concat_tables([PAIRS.empty_table(), *tables]))


def protected_tests(workspace: Workspace, cfg: Config) -> tuple[str, pa.Table]:
    """Return what no text may be trained on that holds it: digest of the pairs, and the tests' texts as RECORDS."""
    if not cfg.pairs.sources:
        return "", RECORDS.empty_table()
    name, manifest = make_pairs(workspace, cfg)
    return manifest.digest, _test_records(read_split(workspace.store, manifest, name, "test"), "test pair")


def _read(item: InputFile | Problem, cfg: Config) -> tuple[pl.DataFrame, Rows]:
    """Return the pairs of a file that no rule refuses, and rows of `removed` for the others."""
    if not isinstance(item, InputFile):
        return _frame([], cfg), [_bad(*item)]
    source = next(source for source in cfg.pairs.sources if source.name == item.source)
    place = item.path.removeprefix(fixed_folder(source.uri))
    rows: Rows = []
    removed: Rows = []
    for found in read_pairs(partial(open_input, item), item.path, source):
        if isinstance(found, RejectedRecord):
            removed.append(_bad(source.name, item.path, found))
        else:
            rows.append(_row(source, item.path, place, found))
    check_unchanged(item)
    pairs = _frame(rows, cfg)
    verdict = refuse(pairs, cfg.pairs)
    removed += _removed(pairs.hstack(verdict).filter(pl.col("rule").is_not_null()))
    return pairs.filter(verdict["rule"].is_null()), removed


def _row(source: PairSourceConfig, path: str, place: str, pair: Pair) -> dict[str, Any]:
    number = pair.place.rsplit(" ", 1)[-1]
    texts = json.dumps([pair.source, pair.question, *pair.targets], ensure_ascii=False)
    return {
        "id": document_id(source.name, f"{place}#{number}", texts),
        "task": source.task,
        "set": source.name,
        "uri": f"{path}#{number}",
        "both_ways": source.task == "translation" and source.both_ways,
        "source_lang": source.languages[0],
        "target_lang": source.languages[1],
        "group": f"{source.name}/{pair.group}" if pair.group else "",
        "source": pair.source,
        "question": pair.question if source.task == "question-answering" else "",
        "targets": list(pair.targets),
    }


def _frame(rows: Rows, cfg: Config) -> pl.DataFrame:
    """Return pairs in the form that cleaning gives documents, with languages, and with their first target alone."""
    table = pa.Table.from_pylist(rows, schema=PAIRS)
    targets = table["targets"].combine_chunks()
    values, _ = rewrite(targets.flatten(), cfg.clean)
    columns = {name: rewrite(table[name].combine_chunks(), cfg.clean)[0] for name in ("source", "question")}
    columns["targets"] = pa.ListArray.from_arrays(targets.offsets, values)
    frame = pl.DataFrame(pa.table([columns.get(name, table[name]) for name in PAIRS.names], schema=PAIRS))
    frame = frame.with_columns(target=pl.col("targets").list.first().fill_null(""))
    named = pl.col("task") == "translation"
    return frame.with_columns(
        source_lang=pl.when(named).then("source_lang").otherwise(language("source")),
        target_lang=pl.when(named).then("target_lang").otherwise(language("target")),
    )


def _decided(pairs: pl.DataFrame, cfg: Config) -> tuple[pl.DataFrame, Rows]:
    """Return the pairs that stay, with their `split`, and rows of `removed` for the others."""
    asked = ("task", "source_lang", "target_lang", "source", "question")
    everything = pl.col("targets").list.join("\x1f")
    pairs = pairs.with_columns(number=pl.int_range(pl.len())).with_columns(
        twin=pl.col("number").first().over(*asked, everything), rival=pl.col("number").first().over(*asked)
    )
    ids, first = pairs["id"], pl.col("twin") == pl.col("number")
    is_rival = first & (pl.col("rival") < pl.col("number"))
    refused = [
        ("duplicate", ~first, "twin", "an equal pair"),
        ("conflicting-targets", is_rival, "rival", "other targets of one source"),
    ]
    removed: Rows = []
    for rule, is_refused, other, value in refused:
        rows = pairs.filter(is_refused)
        partners = ids.gather(rows[other])
        removed += _removed(rows.with_columns(rule=pl.lit(rule), value=pl.lit(value), duplicate_of=partners))
    pairs = pairs.filter(first & ~is_rival)
    pairs, refused_near = _without_near(pairs, cfg)
    group = pl.when(pl.col("group") == "").then("\x1f" + pl.col("source")).otherwise("group")
    places = assign(pairs.select(group).to_series().to_list(), cfg.pairs)
    pairs = pairs.with_columns(split=pl.Series([SPLITS[place] for place in places], dtype=pl.String))
    pairs, refused_overlap = _without_tests(pairs, cfg)
    return pairs, removed + refused_near + refused_overlap


def _without_near(pairs: pl.DataFrame, cfg: Config) -> tuple[pl.DataFrame, Rows]:
    """Leave out near-duplicates within each task."""
    kept, removed = [pairs.clear()], list[dict[str, Any]]()
    for (task,), rows in pairs.group_by("task", maintain_order=True):
        asked = pl.col("question") if task == "question-answering" else pl.col("source")
        texts = _arrow(rows.select(asked + "\n" + pl.col("target")).to_series())
        outcome = decide_texts(rows["id"].to_arrow().cast(pa.string()), texts, cfg.dedup, cfg.run.threads())
        partners = pl.Series("duplicate_of", outcome.duplicate_of().to_pylist(), pl.String)
        jaccard = pl.Series("jaccard", outcome.jaccard)
        refused = rows.hstack([partners, jaccard]).filter(~pl.Series(outcome.kept))
        value = pl.format("Jaccard {}", pl.col("jaccard").round(3))
        bound = pl.lit(f"less than {cfg.dedup.threshold}")
        removed += _removed(refused.with_columns(rule=pl.lit("near-duplicate"), value=value, threshold=bound))
        kept.append(rows.filter(pl.Series(outcome.kept)))
    return pl.concat(kept).sort("number"), removed


def _without_tests(pairs: pl.DataFrame, cfg: Config) -> tuple[pl.DataFrame, Rows]:
    """Leave out what is trained on and stands in a test, of these pairs or of the evaluation files."""
    tests = pairs.filter(pl.col("split") == "test")
    records = read_evaluations(list_evaluations(cfg), cfg)
    looked_for = pa.concat_tables([records, _test_records(tests, "test")])
    names = looked_for["name"].to_pylist()
    index = make_index(cut(looked_for["text"].combine_chunks(), cfg.decontaminate), [], cfg.decontaminate)
    own = pl.when(pl.col("task") == "question-answering").then("question").otherwise(pl.col("targets").list.join("\n"))
    both = pl.when("both_ways").then(own + "\n" + pl.col("source")).otherwise(own)
    learnt = pairs.filter(pl.col("split") != "test")
    match = find(_arrow(learnt.select(both).to_series()), np.zeros(len(learnt), np.bool_), index)
    overlaps = pl.Series(match.item >= 0)
    items, amounts = match.item[match.item >= 0].tolist(), match.amount[match.item >= 0].tolist()
    rules = ["evaluation-overlap" if item < len(records) else "test-overlap" for item in items]
    values = [f"{amount / 2:g} words of {printable(names[item])}" for item, amount in zip(items, amounts, strict=True)]
    thresholds = [f"less than {index.need[item] / 2:g} words in a row" for item in items]
    refused = learnt.filter(overlaps).with_columns(
        rule=pl.Series(rules, dtype=pl.String),
        value=pl.Series(values, dtype=pl.String),
        threshold=pl.Series(thresholds, dtype=pl.String),
    )
    return pl.concat([tests, learnt.filter(~overlaps)]).sort("number"), _removed(refused)


def _test_records(tests: pl.DataFrame, called: str) -> pa.Table:
    """Return the texts of test pairs that nothing may be trained on, of schema RECORDS."""
    questions = tests.filter(pl.col("task") == "question-answering")
    others = tests.filter(pl.col("task") != "question-answering").explode("targets")
    both = tests.filter(pl.col("both_ways"))
    sides = ((questions, "question"), (others, "targets"), (both, "source"))
    name = pl.format("{} {}", pl.lit(called), "id")
    return pl.concat([rows.select(name=name, text=own) for rows, own in sides]).to_arrow().cast(RECORDS)


def _arrow(column: pl.Series) -> pa.LargeStringArray:
    return column.to_arrow().cast(pa.large_string())


def _bad(name: str, path: str, bad: RejectedRecord) -> dict[str, Any]:
    return rejected_row(name, path, path, bad) | {"stage": "pairs"}


def _removed(pairs: pl.DataFrame) -> Rows:
    """Return pairs with columns of `removed` as its rows; their texts stand in `text`, a blank line between."""
    text = pl.concat_list("source", "question", "target").list.eval(pl.element().filter(pl.element() != ""))
    rows = pairs.with_columns(
        text=text.list.join("\n\n"), lang=pl.col("target_lang"), stage=pl.lit("pairs"), source=pl.col("set")
    )
    rows = rows.with_columns(n_chars=pl.col("text").str.len_chars().cast(pl.Int64))
    return rows.select([name for name in REMOVED.names if name in rows.columns]).to_dicts()


def _part(place: layout.Pairs, pairs: pl.DataFrame, removed: Rows) -> Part:
    """Return the set's files and counts."""
    left_out = removed_table(removed)
    files: dict[str, pa.Table | bytes] = {f"{place.within('removed')}part-00000.parquet": left_out}
    for split in SPLITS:
        rows = pairs.filter(pl.col("split") == split).select(PAIRS.names)
        for number, start in enumerate(range(0, len(rows), PART_ROWS)):
            table = rows.slice(start, PART_ROWS).to_arrow().cast(PAIRS)
            files[f"{place.split(split)}part-{number:05d}.parquet"] = table
    kept = pairs.group_by("split", "task", "set").len().to_dicts()
    counts = add_counts({row["split"]: {row["task"]: {row["set"]: row["len"]}}} for row in kept)
    return Part(files, {"pairs": counts, "removed": refusals(left_out)})


def render(folder: str, counts: Mapping[str, Any]) -> str:
    """Return what stayed and what was left out, for people."""
    lines = [folder]
    for split in SPLITS:
        for task, sources in counts["pairs"].get(split, {}).items():
            lines.append(f"  {split:10} {task:18} {sum(sources.values()):9,}")
    for source, rules in counts["removed"].items():
        shown = ", ".join(f"{rule} {n:,}" for rule, n in rules.items())
        lines.append(f"  left out   {source:18} {sum(rules.values()):9,}: {shown}")
    return "\n".join(lines)
