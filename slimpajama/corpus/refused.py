"""What reading and cleaning refused, by source, file and rule."""

from collections.abc import Collection, Iterable, Iterator
from typing import Any

from slimpajama.workspace import layout
from slimpajama.workspace.manifest import Manifest
from slimpajama.workspace.parquet import read_table
from slimpajama.workspace.store import Store
from slimpajama.workspace.tombstones import RULE

# Source and path of a raw file.
Place = tuple[str, str]
Row = dict[str, Any]
ByFile = dict[str, dict[str, dict[str, int]]]


def file_of(uri: str, paths: Collection[str]) -> str:
    """Return the raw file of a record's uri, which is its path, then `#` and the record; empty if it is none of them.

    Paths and records may hold a `#` themselves: the longest path counts.
    """
    path = uri
    while path and path not in paths:
        path = path.rpartition("#")[0]
    return path


def by_file(rows: Iterable[tuple[str, str, str]]) -> ByFile:
    """Return the number of refusals by source, file and rule."""
    counts: ByFile = {}
    for source, path, rule in rows:
        rules = counts.setdefault(source, {}).setdefault(path, {})
        rules[rule] = rules.get(rule, 0) + 1
    return counts


def files_refused(store: Store, night: str, manifest: Manifest, step: str, sources: Collection[str]) -> set[Place]:
    """Return the files of some sources of which a step, `ingest` or `clean`, has refused records."""
    counts = manifest.counts.get(step, {})
    if "refused" in counts:
        listed = (
            (source, path, rules) for source in sources for path, rules in counts["refused"].get(source, {}).items()
        )
        return {(source, path) for source, path, rules in listed if set(rules) != {RULE}}
    # Earlier versions counted by source and rule only.
    sources = {source for source in sources if counts.get("removed", {}).get(source)}
    read = ((entry["source"], entry["path"]) for entry in manifest.depends_on["stages"]["ingest"]["inputs"])
    return {place for place, _ in rows_refused(store, night, manifest, step, {p for p in read if p[0] in sources})}


def rows_refused(
    store: Store, night: str, manifest: Manifest, step: str, places: Collection[Place]
) -> Iterator[tuple[Place, Row]]:
    """Yield `id`, `source`, `uri` and `rule` of the records of some files that a step refused, but forgotten ones."""
    paths: dict[str, set[str]] = {}
    for source, path in places:
        paths.setdefault(source, set()).add(path)
    for entry in manifest.entries(f"{layout.night(night).removed}{step}-") if paths else ():
        for row in read_table(store, entry, ["id", "source", "uri", "rule"]).to_pylist():
            found = file_of(row["uri"], paths.get(row["source"], ()))
            if found and row["rule"] != RULE:
                yield (row["source"], found), row
