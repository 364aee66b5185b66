"""The step between the decision on duplicates and the documents: names what a test knows and training must not.

Tests are the records of evaluation files, the test pairs of `[pairs]`, and the held-out documents.

It reads the survivors of deduplication and writes only what it refuses, `removed/decontaminate-PART`; the step behind
it leaves those out. Held out is what `shards` will hold out tonight, by the same keyed hash of the duplicate cluster,
and what earlier nights' shards did. With nothing to look for it reads nothing.

Not seen to: tonight's held-out documents against text that earlier nights have trained on. An index of that would grow
with the corpus; near-duplicates among them share a cluster, and so a split.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from slimpajama.core.config import Config
from slimpajama.core.errors import printable
from slimpajama.core.logs import step_log
from slimpajama.core.schema import refusals, removed_table
from slimpajama.core.split import assign
from slimpajama.core.stopping import Pool
from slimpajama.corpus.clean.normalise import table_versions
from slimpajama.corpus.overlap import VERSION, Index, Match, find, make_index
from slimpajama.corpus.pairs.stage import protected_tests
from slimpajama.corpus.sources.discover import InputFile
from slimpajama.corpus.sources.evaluations import list_evaluations, read_evaluations
from slimpajama.corpus.windows import Windows, cut, sample, sampling
from slimpajama.workspace import layout
from slimpajama.workspace.manifest import Counts, FileEntry, Manifest, add_counts
from slimpajama.workspace.parquet import read_table
from slimpajama.workspace.step import Part, Run, Step

COLUMNS = ["id", "source", "uri", "lang", "sha256", "n_chars", "text", "n_bytes"]
EXCERPT = 160  # characters
Names = list[str]


class _Tests(NamedTuple):
    """What is looked for, if there is any: evaluation files, test pairs, held-out documents of earlier nights."""

    any: bool
    files: list[InputFile]
    pairs: str
    """Digest of their set; empty where there is none."""
    texts: pa.Table
    """Of the pairs, as RECORDS."""
    earlier: dict[str, Manifest]


def _tests(run: Run) -> _Tests:
    pairs, texts = protected_tests(run.workspace, run.cfg)
    held_out, files = run.cfg.decontaminate.held_out_share > 0, list_evaluations(run.cfg)
    earlier = run.workspace.nights.earlier(run.night) if held_out else {}
    return _Tests(bool(files or pairs or held_out), files, pairs, texts, earlier)


def _inputs(run: Run) -> dict[str, Any]:
    settings, tests = run.cfg.decontaminate, run.once(_tests)
    inputs: dict[str, Any] = {"settings": settings, "evaluations": [file.entry() for file in tests.files]}
    inputs |= {"pairs": tests.pairs} if tests.pairs else {}
    if tests.any:
        inputs |= {
            "split": {name: getattr(run.cfg.shards, name) for name in ("seed", "test_share", "validation_share")},
            **table_versions(),
            "compared": run.made["compare"].digest,
            "earlier": {name: manifest.digest for name, manifest in tests.earlier.items()},
        }
    return inputs


def _decontaminate(run: Run) -> Counts | None:
    cfg, settings, tests = run.cfg, run.cfg.decontaminate, run.once(_tests)
    if not tests.any:
        return None
    records = pa.concat_tables([read_evaluations(tests.files, cfg), tests.texts])
    looked_for = cut(records["text"].combine_chunks(), settings)
    too_short = int((looked_for.weights < 2 * settings.short_words).sum())
    if too_short:
        step_log(run.name).info(f"{too_short:,} of {len(records):,} records of tests are too short to be looked for")
    cleaned = run.made["clean"].entries(f"{layout.night(run.night).work('clean')}/")
    names: Names = records["name"].to_pylist()
    rate = sampling(_held_out_bytes(cfg, run.made["clean"], tests.earlier))

    def held_out() -> Iterator[Windows]:
        for ids, texts in _held_out(run, cleaned, tests.earlier):
            names.extend(ids)
            yield sample(texts, settings, rate)

    index = make_index(looked_for, held_out(), settings, rate)

    def make(entry: FileEntry) -> Part:
        rows = _survivors(run, entry, COLUMNS)
        texts = rows["text"].combine_chunks()
        match = find(texts, _is_held_out(rows, cfg), index)
        refused = _rows(rows, match, index, names, cfg, run.night)
        removed, size = removed_table(refused), sum(row["n_bytes"] for row in refused)
        target = f"{layout.night(run.night).removed}decontaminate-{layout.name_of(entry.path)}"
        return Part({target: removed}, {"removed": refusals(removed), "bytes": size})

    counts = run.map([(layout.stem(entry.path), entry) for entry in cleaned], make, unit="parts")
    found = add_counts([{"removed": {}, "bytes": 0}, *counts])
    return found | {"records": len(records), "too_short": too_short}


DECONTAMINATE = Step(
    "decontaminate",
    VERSION,
    _inputs,
    _decontaminate,
    reads=("clean", "compare"),
    grows_with="cleaned",
    folders="work/(clean|compare)|shards/(validation|test)",
    raw="evaluations",
)
"""Name the documents that overlap with evaluation files, or are trained on and overlap with held-out documents.

Files: `removed/decontaminate-PART` (REMOVED). Counts: `removed` by source and rule, `bytes` of them, `records` (of
evaluation files) and `too_short` (of them, not looked for). Raises InputError where an evaluation file is missing, or a
record of it cannot be read.
"""


def _survivors(run: Run, cleaned: FileEntry, columns: list[str]) -> pa.Table:
    """Return columns of a cleaned part's documents that are no duplicates, with their `cluster`."""
    name = layout.name_of(cleaned.path)
    decided = run.made["compare"].file(f"{layout.night(run.night).work('compare')}/decision-{name}")
    decision = read_table(run.store, decided, ["kept", "cluster"])
    rows = read_table(run.store, cleaned, columns).append_column("cluster", decision["cluster"])
    return rows.filter(decision["kept"])


def _is_held_out(rows: pa.Table, cfg: Config) -> npt.NDArray[np.bool_]:
    held_out: npt.NDArray[np.bool_] = assign(rows["cluster"].to_pylist(), cfg.shards) > 0
    return held_out


def _held_out_bytes(cfg: Config, cleaned: Manifest, earlier: dict[str, Manifest]) -> int:
    """Return about how much text is held out, as the manifests tell; tonight's duplicates count."""
    share = cfg.shards.test_share + cfg.shards.validation_share
    nights = [manifest.counts.get("shards", {}).get("bytes", {}) for manifest in earlier.values()]
    before = sum(sum(night.get(split, {}).values()) for night in nights for split in ("validation", "test"))
    return int(share * sum(cleaned.counts.get("bytes", {}).values())) + before


def _held_out(
    run: Run, cleaned: list[FileEntry], earlier: dict[str, Manifest]
) -> Iterator[tuple[Names, pa.LargeStringArray]]:
    """Yield names and texts of this night's held-out documents, then of earlier nights'."""
    cfg, night = run.cfg, run.night

    def of_part(entry: FileEntry) -> tuple[Names, pa.LargeStringArray]:
        rows = _survivors(run, entry, ["id", "text"])
        rows = rows.filter(pa.array(_is_held_out(rows, cfg)))
        return [f"{id_} of night {night}" for id_ in rows["id"].to_pylist()], rows["text"].combine_chunks()

    if cfg.decontaminate.held_out_share:
        with Pool(cfg.run.threads(), "decontaminate") as pool:
            yield from pool.map(of_part, cleaned)
    for name, manifest in earlier.items():
        for split in ("validation", "test"):
            for entry in manifest.entries(layout.night(name).split(split)):
                rows = read_table(run.store, entry, ["id", "words"])
                texts = _joined(rows["words"].combine_chunks())
                yield [f"{id_} of night {name}" for id_ in rows["id"].to_pylist()], texts


def _joined(words: pa.ListArray) -> pa.LargeStringArray:
    """Return the texts that lists of words are, without a copy: a text's words lie one behind the other."""
    flat = words.values.cast(pa.large_string())
    ends = np.frombuffer(flat.buffers()[1], np.int64)[flat.offset :][words.offsets.to_numpy()]
    return pa.LargeStringArray.from_buffers(len(words), pa.py_buffer(ends), flat.buffers()[2])


def _rows(rows: pa.Table, match: Match, index: Index, names: Names, cfg: Config, night: str) -> list[dict[str, Any]]:
    """Return what was found as rows of `removed`."""
    refused = []
    places = np.flatnonzero(match.item >= 0)
    for place, row in zip(places.tolist(), rows.take(pa.array(places)).to_pylist(), strict=True):
        item, amount = int(match.item[place]), int(match.amount[place])
        data = row["text"].encode()
        begin = len(data[: match.begin[place]].decode())
        stretch = data[match.begin[place] : match.end[place]].decode()
        where = f"characters {begin} to {begin + len(stretch)}: {printable(stretch, EXCERPT)}"
        if item < len(index.unit_ends) - 1:
            rule, threshold = "evaluation-overlap", f"less than {index.need[item] / 2:g} words in a row"
            value = f"{amount / 2:g} words of {printable(names[item])}, {where}"
        else:
            rule, threshold = "held-out-overlap", f"less than {cfg.decontaminate.held_out_share:.0%}"
            share = amount / int(index.windows[item])
            value = f"{share:.0%} of held-out document {names[item]}, {where}"
        said = {"night": night, "stage": "decontaminate", "rule": rule, "value": value, "threshold": threshold}
        refused.append(row | said)
    return refused
