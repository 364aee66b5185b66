"""What a person is told where a source has no files, where all of it is refused, and where a night has nothing left."""

import contextlib
import difflib
import glob
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slimpajama.core.config import Config
from slimpajama.core.errors import EmptyInputError, printable
from slimpajama.core.logs import step_log
from slimpajama.corpus.sources.discover import LEFT_OUT, NO_FILES, Plan, matches
from slimpajama.corpus.sources.remote import MAGIC, fixed_folder, list_remote
from slimpajama.workspace import layout
from slimpajama.workspace.manifest import FileEntry, Manifest, add_counts, total
from slimpajama.workspace.parquet import read_table
from slimpajama.workspace.store import Store
from slimpajama.workspace.tombstones import RULE

# Number of records by source and rule.
Refusals = Mapping[str, Mapping[str, int]]
# Counts by rule that one line shows of a source.
MOST_LISTED = 8
# Of these a source may have any number and be read all the same.
_NO_LOSS = {RULE, NO_FILES.rule, LEFT_OUT.rule}
_KEYS = re.compile("its keys: ([^,]+)")
# What to write where a rule has refused all.
_LINES = {
    "no-text": "Write text_field = ... in the source, with the name of the field that holds the text.",
    "unknown-format": 'Write format = "jsonl" in the source, or what else the files are.',
    "invalid-utf8": 'Write encoding = "gb18030" in the source, or what else it is.',
    "too-large": "Write a larger max_document_mb = ... under [ingest].",
    "short-document": "Write smaller min_chars = ... and min_chars_han = ... under [clean].",
    "language": "Name its language in languages = [...] under [clean].",
}


def require_files(cfg: Config, found: Plan) -> None:
    """Warn of sources without files.

    Raises:
        EmptyInputError: None has any.
    """
    sources = cfg.ingest.sources
    if not sources:
        line = '[[ingest.sources]], name = "mine", uri = "raw/*.jsonl"'
        raise EmptyInputError(
            "no source is named", where="ingest.sources", hint=f"Write into the configuration: {line}."
        )
    lost = [source for source in sources if source.name not in found.readable] if cfg.ingest.require_files else []
    for source in lost:
        path, bad = next((path, bad) for name, path, bad in found.problems if name == source.name)
        where, root = f"source {source.name}", cfg.run.source_root
        if bad.rule == NO_FILES.rule:
            uri = source.uri if "://" in source.uri else os.path.join(root, source.uri)  # noqa: PTH118 - keeps the slash
            error = EmptyInputError("no file matches its uri", where=where, found=uri, hint=_line_for(source.uri, root))
        else:
            error = EmptyInputError("no file of it can be read", where=where, found=f"{path}: {bad.rule}, {bad.value}")
        if len(lost) == len(sources):
            raise error
        step_log("ingest").warning(str(error))


def _line_for(uri: str, root: str) -> str:
    """Return what to write in the place of a pattern that matches no file."""
    better = f"{fixed_folder(uri)}*.jsonl"
    with contextlib.suppress(OSError):
        if "://" in uri:
            is_folder = not MAGIC & set(uri) and any(list_remote(uri, f"{uri}/**"))
            better = f"{uri}/" if is_folder else better
        elif any(Path(root, match).is_dir() for match in glob.glob(uri, root_dir=root or None)):  # noqa: PTH207
            better = f"{uri}/*" if MAGIC & set(uri) else f"{uri}/"
        elif "[" in uri and glob.glob(uri.replace("[", "[[]"), root_dir=root or None):  # noqa: PTH207
            better = uri.replace("[", "[[]")
        else:
            better = _nearest(uri, root)
    # The folder is there, and empty.
    what = "Put files there" if better[-2:] == "//" else f'Write uri = "{printable(better)}"'
    return f"{what}, or require_files = false under [ingest] where that is as it should be."


def _nearest(uri: str, root: str) -> str:
    """Return a local pattern with the first folder that is not there replaced by the name most like it."""
    is_folder = uri[-1:] == "/"
    parts = Path(f"{uri}*" if is_folder else uri).parts
    for number, folder in enumerate(parts[:-1]):
        parent = Path(root, *parts[:number])
        if not MAGIC & set(folder) and not (parent / folder).exists():
            there = sorted(path.name for path in parent.iterdir() if path.is_dir())
            # Of a name of two ideographs one may be wrong.
            near = difflib.get_close_matches(folder, there, 1, cutoff=0.5)
            better = str(Path(*parts[:number], near[0], *parts[number + 1 :])) if near else "FOLDER/*.jsonl"
            return better.removesuffix("*") if is_folder else better
    top, name = fixed_folder(uri), uri.rpartition("/")[2]
    # As it is written elsewhere, or as it lies in a folder below.
    maybe = (uri.strip(), uri.replace("\\", "/"), f"{top}**/{name}")
    return next((better for better in maybe if matches(better, root, [])), f"{top}*")


def tell_losses(store: Store, night: str, step: Manifest, came_in: Collection[str]) -> None:
    """Say what reading or cleaning, which made `step`, has refused; warn of each source of which that is all.

    Args:
        store: Where the night is.
        night: Its name.
        step: What the step wrote.
        came_in: Sources that had something before the step.
    """
    for source, rules in step.counts.get("removed", {}).items():
        lost = {rule: count for rule, count in rules.items() if rule not in _NO_LOSS}
        if not lost or source not in came_in:
            continue
        if step.counts.get("documents", {}).get(source):
            step_log(step.name).info(f"source {source}: refused {_shown(lost)}")
        else:
            first, line = _first(store, night, [step], {source: lost})
            told = f"source {source}: nothing of it is left, refused {_shown(lost)}{first}. {line}"
            step_log(step.name).warning(told.rstrip())


def require_documents(store: Store, night: str, made: Collection[Manifest], *, is_first: bool) -> bool:
    """Return whether the steps up to deduplication have left documents to go on with.

    None is normal for a later night: all that came in was known or too poor.

    Raises:
        EmptyInputError: This is the workspace's first night: then something is wrong with the sources.
    """
    place = layout.night(night)
    kept = any(step.entries(place.documents) for step in made)
    if not kept and is_first:
        removed = add_counts(step.counts.get("removed", {}) for step in made)
        shown = "; ".join(f"{total(rules):,} of {source} ({_shown(rules)})" for source, rules in removed.items())
        first, line = _first(store, night, made, removed)
        raise EmptyInputError(
            f"no document is left; refused: {shown}{first}",
            where=f"{store.uri}/{place.path}",
            hint=f"{line} Nothing was published.".lstrip(),
        )
    return kept


def _shown(rules: Mapping[str, int]) -> str:
    counts = sorted(rules.items(), key=lambda one: (-one[1], one[0]))
    more = f", {len(counts) - MOST_LISTED} more rules" if len(counts) > MOST_LISTED else ""
    return ", ".join(f"{count:,} by {rule}" for rule, count in counts[:MOST_LISTED]) + more


def _first(store: Store, night: str, made: Iterable[Manifest], removed: Refusals) -> tuple[str, str]:
    """Return the first record that the busiest rule refused, in words, and the line to write."""
    counts = [(count, source, rule) for source, rules in removed.items() for rule, count in rules.items()]
    (_, source, rule), folder = max(counts), layout.night(night).removed
    entries = (entry for step in made for entry in step.entries(f"{folder}{step.name}-"))
    row = _firsts(store, entries, {(source, rule)}).get((source, rule))
    said = f"; the first by {rule} is {printable(row[0])}: {printable(row[1])}" if row else ""
    return said, _line(rule, row[1] if row else "")


def _line(rule: str, value: str) -> str:
    """Return what to write where a rule has refused a record for its `value`."""
    if value.endswith(": a list"):
        return "Write [] behind the name in text_field: it takes the texts of a list."
    key = _KEYS.search(value)
    return f'Write text_field = "{printable(key[1])}" in the source.' if key else _LINES.get(rule, "")


@dataclass(frozen=True, slots=True)
class Finding:
    """What went wrong with a source in a night: one rule that refused records of it."""

    source: str
    rule: str
    records: int
    files: int
    """Files that hold them; 0 where a night of an earlier version does not tell."""
    first: str
    """The first of them, by its uri."""
    value: str
    """Why it was refused."""
    hint: str
    """The line to write, or nothing."""

    def text(self) -> str:
        """Return one line for people."""
        more = f" and {self.files - 1:,} more file{'s' * (self.files > 2)}" if self.files > 1 else ""
        where = f"{printable(self.first)}{more}, source {self.source}"
        what = "no file" if self.rule == NO_FILES.rule else f"{self.records:,} refused by {self.rule}"
        why = f", the first for: {printable(self.value)}" if self.value and self.rule != NO_FILES.rule else ""
        return f"{where}: {what}{why}. {self.hint}".rstrip()


def findings(
    store: Store, night: str, manifest: Manifest, counts: Mapping[str, Mapping[str, Any]] | None = None
) -> list[Finding]:
    """Return what went wrong in a night, by source and rule, the most records first.

    That is what reading refused, and what cleaning did where it left nothing of a source.

    Args:
        manifest: Of the night, or of a step of it.
        counts: Of its steps by their names, where the manifest is none of a published night.
    """
    counts, found = counts or manifest.counts, []
    lost = list(_lost(counts))
    for step in ("ingest", "clean"):
        own = {(source, rule): records for of, source, rule, records in lost if of == step}
        firsts = _firsts(store, manifest.entries(f"{layout.night(night).removed}{step}-"), set(own))
        refused = counts.get(step, {}).get("refused", {})
        for (source, rule), records in own.items():
            files = sum(rule in of for of in refused.get(source, {}).values())
            uri, value = firsts.get((source, rule), ("", ""))
            found.append(Finding(source, rule, records, files, uri, value, _line(rule, value)))
    return sorted(found, key=lambda one: (-one.records, one.source, one.rule))


def losses_of(counts: Mapping[str, Mapping[str, Any]]) -> str:
    """Return what went wrong in a night in few words, by the counts of its manifest; nothing where all was well."""
    return "; ".join(f"{source}: {records:,} by {rule}" for _, source, rule, records in _lost(counts))


def _lost(counts: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, str, str, int]]:
    """Yield step, source, rule and number of the records that `findings` tells of."""
    read, cleaned = counts.get("ingest", {}), counts.get("clean", {})
    came_in, left = read.get("documents", {}), cleaned.get("documents", {})
    for step, own in ("ingest", read), ("clean", cleaned):
        for source, rules in own.get("removed", {}).items():
            for rule, records in rules.items():
                told = step == "ingest" or (came_in.get(source) and not left.get(source))
                if told and rule not in (RULE, LEFT_OUT.rule):
                    yield step, source, rule, records


def _firsts(
    store: Store, entries: Iterable[FileEntry], wanted: set[tuple[str, str]]
) -> dict[tuple[str, str], tuple[str, str]]:
    """Return uri and value of the first record by source and rule."""
    found: dict[tuple[str, str], tuple[str, str]] = {}
    for entry in entries:
        if wanted <= found.keys():
            break
        for row in read_table(store, entry, ["source", "rule", "uri", "value"]).to_pylist():
            found.setdefault((row["source"], row["rule"]), (row["uri"], row["value"] or ""))
    return found
