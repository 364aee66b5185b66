"""Forgetting documents: they are removed from every night, and so from every later training; their hashes stay.

First the list of forgotten documents is written (`slimpajama.workspace.tombstones`). Then each night's files are
written anew without the documents, then its manifest (`slimpajama.ops.rewrite`), the old files are deleted, and the
index is made again where it held the documents. After a kill the next run finds the list unfinished, goes on, and ends
in the same bytes.

It cannot change weights, vocabularies, samples that a model wrote, raw files, backups and Prefect's artifacts.
"""

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import pyarrow as pa
import pyarrow.compute as pc

from slimpajama.core.config import Config
from slimpajama.core.errors import ConfigError, DamagedError, InputError, ModelError, StorageError
from slimpajama.core.logs import step_log
from slimpajama.core.progress import track
from slimpajama.core.result import Result
from slimpajama.corpus.index import index_nights
from slimpajama.ops.explain import Nights, find_document, find_records, remembering
from slimpajama.ops.report.stage import write_report
from slimpajama.ops.rewrite import RECORDS, affected, without
from slimpajama.workspace import layout
from slimpajama.workspace.lineage import readings, with_heirs
from slimpajama.workspace.lookup import Hit, Match, find_rows, one_of
from slimpajama.workspace.manifest import Manifest, load_manifest
from slimpajama.workspace.open import Workspace
from slimpajama.workspace.store import Store
from slimpajama.workspace.tombstones import RULE, Forgotten, ForgottenList, forgotten_list, write_list

# A pattern that finds a larger share of all records is likely to be wrong.
LARGE_SHARE = 0.01
KEPT = ["id", "sha256", "night"]
LOST = [*KEPT, "rule", "duplicate_of"]
# How decontamination says that a document holds text of a held-out one.
HELD_OUT = r"^\d+% of held-out document (?P<id>[0-9a-f]{32}) of night "
# Ids that a terminal shows.
SHOWN = 5


@dataclass(frozen=True, slots=True)
class ForgetReport(Result):
    """What was forgotten, or would be."""

    documents: list[Forgotten]
    dry_run: bool
    before: bool = False
    """Whether they were forgotten by an earlier run, or by an unfinished one that this run ended."""
    nights: dict[str, dict[str, int]] = field(default_factory=dict)
    """Records that go, by night: `documents` (kept ones) and `removed`."""
    files: list[str] = field(default_factory=list)
    """Files that are written anew."""
    models: list[str] = field(default_factory=list)
    """Models whose training read one of them, or may have (no record), or that began as such a model."""
    tuned: list[str] = field(default_factory=list)
    """Tuned models that began as one of `models`."""
    remembered_by: list[str] = field(default_factory=list)
    """Models that looked one of them up in their memory, which is made without it."""
    alike: list[str] = field(default_factory=list)
    """Documents that stay, although some of the forgotten ones were removed as their duplicates."""
    begun: list[str] = field(default_factory=list)
    """Unpublished nights, which begin again."""
    advice: list[str] = field(default_factory=list)
    """Commands that lead to a champion that has not seen them."""

    def text(self) -> str:
        """Return it for people."""
        ids = _some([entry.id for entry in self.documents])
        if self.before:
            return f"forgotten before: {ids}"
        verb = "would be" if self.dry_run else "are"
        lines = [f"{len(self.documents):,} documents {verb} forgotten: {ids}"]
        for night, counts in self.nights.items():
            lines.append(f"night {night}: {counts['documents']:,} kept and {counts['removed']:,} removed ones")
        lines.append(f"{len(self.files):,} files {verb} written anew")
        lines += [f"  {path}" for path in self.files if self.dry_run]
        lines += [f"night {night} {'would begin' if self.dry_run else 'begins'} again" for night in self.begun]
        if self.alike:
            lines.append(f"They were duplicates of documents that stay: {_some(self.alike)}")
        lines.append(f"models that have seen them: {', '.join([*self.models, *self.tuned]) or 'none'}")
        if self.remembered_by:
            lines.append(f"models that looked them up, and then no longer can: {', '.join(self.remembered_by)}")
        return "\n".join([*lines, *self.advice])


def _some(ids: list[str]) -> str:
    more = f", {len(ids) - SHOWN:,} more; --json lists them all" if len(ids) > SHOWN else ""
    return ", ".join(ids[:SHOWN]) + more


def forget(workspace: Workspace, by: str, value: str, *, dry_run: bool = False, sure: bool = False) -> ForgetReport:
    """Remove documents from all nights, and all that were removed as copies of them.

    Args:
        by: What `value` is: `id` (of a document, or its beginning), `sha256` (of a text as it was read) or `pattern`
            (a regular expression of RE2's syntax, found in the text as it was cleaned).
        value: What to look for.
        dry_run: Only say what would go.
        sure: Whether a pattern may find more than a hundredth of all records.

    Raises:
        ConfigError: If `value` is malformed, or the pattern finds too much.
        InputError: If nothing is found.
        LockedError: If a run holds the workspace.
    """
    value = value if by == "pattern" else value.strip().lower()
    _check(by, value)
    with contextlib.nullcontext() if dry_run else workspace.store.lock("forget"):
        listed = forgotten_list(workspace.store)
        unfinished = listed.remaining()
        if unfinished:
            step_log("forget").info(f"first {len(unfinished)} documents of a run that was broken off")
            listed = listed if dry_run else _carry_out(workspace, listed)
        nights = workspace.nights.manifests()
        chosen = list(_chosen(workspace.store, nights, by, value))
        if not chosen:
            return _forgotten_before(workspace.store, listed, unfinished, by, value, dry_run)
        found = _with_copies(workspace.store, nights, chosen)
        if by == "pattern" and not sure:
            _check_share(nights, len(found))
        report = _plan(workspace, nights, {hit.values["id"]: by for hit in chosen}, found, dry_run)
        if not dry_run:
            _carry_out(workspace, write_list(workspace.store, listed.having(report.documents)))
        return report


def _check(by: str, value: str) -> None:
    if by == "sha256" and not re.fullmatch("[0-9a-f]{64}", value):
        raise ConfigError("not a sha256", where="--sha256", expected="64 hex digits", found=value)
    if by == "pattern":
        try:
            pc.match_substring_regex(pa.array([""]), value)
        except pa.ArrowInvalid as error:
            raise ConfigError(f"not a regular expression of RE2's syntax: {error}", where="--pattern") from None


def _check_share(nights: Nights, found: int) -> None:
    entries = (entry for manifest in nights.values() for entry in manifest.files)
    records = sum(entry.rows for entry in entries if layout.place(entry.path).kind in RECORDS)
    if found > LARGE_SHARE * records:
        raise ConfigError(
            "the pattern finds much",
            where="--pattern",
            found=f"{found:,} of {records:,} records",
            expected=f"at most {LARGE_SHARE:.0%}",
            hint="Look at it with --dry-run --yes; --yes forgets them all.",
        )


def _forgotten_before(
    store: Store, listed: ForgottenList, finished: list[Forgotten], by: str, value: str, dry_run: bool
) -> ForgetReport:
    """Return the report where nothing is found; no pattern is kept, so it may have meant what was just `finished`."""
    known = {
        "id": [entry for entry in listed.documents if entry.id.startswith(value)],
        "sha256": [entry for entry in listed.documents if entry.sha256 == value],
        "pattern": finished,
    }[by]
    if not known:
        raise InputError("no such document", where=store.uri, found=f"none by this {by}")
    return ForgetReport(known, dry_run, before=True)


def _records(store: Store, nights: Nights, column: str, match: Match) -> Iterator[Hit]:
    """Yield the records whose `column` matches, but not that a forgotten document came in again and was refused."""
    if column in (*KEPT, "text"):
        yield from find_records(store, nights, "documents", column, match, KEPT)
    removed = find_records(store, nights, "removed", column, match, LOST)
    yield from (hit for hit in removed if hit.values["rule"] != RULE)


def _chosen(store: Store, nights: Nights, by: str, value: str) -> Iterator[Hit]:
    """Yield the records that were asked for."""
    if by == "id":
        doc_id, _ = find_document(store, nights, value)
        yield from _records(store, nights, "id", one_of([doc_id]))
    elif by == "sha256":
        yield from _records(store, nights, "sha256", one_of([value]))
    else:

        def match(column: pa.ChunkedArray) -> pa.ChunkedArray:
            return pc.fill_null(pc.match_substring_regex(column, value), False)

        yield from _records(store, nights, "text", match)
        # What was cut out of a document stands beside it.
        cut = find_records(store, nights, "passages", "text", match, ["id"])
        yield from _records(store, nights, "id", one_of({hit.values["id"] for hit in cut}))


def _with_copies(store: Store, nights: Nights, chosen: list[Hit]) -> list[Hit]:
    """Return records, all with the same text, and all that were removed for one of them, and so on."""
    found: dict[tuple[str, int], Hit] = {}
    wave = chosen
    while new := {(hit.path, hit.row): hit for hit in wave if (hit.path, hit.row) not in found}:
        found |= new
        ids = {hit.values["id"] for hit in new.values()}
        texts = {hit.values["sha256"] for hit in new.values()} - {None}
        columns = {"id": one_of(ids), "sha256": one_of(texts), "duplicate_of": one_of(ids), "value": _held_out(ids)}
        wave = [hit for column, match in columns.items() for hit in _records(store, nights, column, match)]
    return list(found.values())


def _held_out(ids: set[str]) -> Match:
    """Match what decontamination says of documents that hold half of one of these."""
    same = one_of(ids)
    return lambda column: same(pc.struct_field(pc.extract_regex(column, pattern=HELD_OUT), "id"))


def _plan(
    workspace: Workspace, nights: Nights, chosen: dict[str, str], found: list[Hit], dry_run: bool
) -> ForgetReport:
    """Return what is to be done; `chosen` says by what each id was chosen."""
    touched = {night: some for night in nights if (some := [hit for hit in found if hit.values["night"] == night])}
    ids = {night: {hit.values["id"] for hit in hits} for night, hits in touched.items()}
    trained = {night: _trained_on(workspace.store, night, nights[night], ids[night]) for night in touched}
    models = workspace.models.trained()
    readers = _readers(workspace.store, models, trained)
    bases = {model: manifest.depends_on["base"] for model, manifest in workspace.models.tuned().items()}
    newest = list(nights)[-1]

    def entry(doc_id: str, text: str) -> Forgotten:
        saw = with_heirs(models, readers.get(doc_id, ()))
        return Forgotten(
            doc_id,
            text,
            chosen.get(doc_id, "duplicate"),
            newest,
            nights=tuple(night for night in touched if doc_id in ids[night]),
            models=tuple(saw),
            tuned=tuple(model for model, base in bases.items() if base in saw),
        )

    texts = {hit.values["id"]: hit.values["sha256"] or "" for hit in found}
    entries = [entry(*item) for item in sorted(texts.items())]
    saw = with_heirs(models, set().union(*readers.values()))
    looked_up = [row["model"] for night in touched if trained[night] for row in remembering(workspace, night)]
    partners = {hit.values["duplicate_of"] for hit in found if hit.values.get("duplicate_of")}
    return ForgetReport(
        entries,
        dry_run,
        nights={night: _counts(hits) for night, hits in touched.items()},
        files=[path for night in touched for path in affected(workspace.store, nights[night], ids[night])],
        models=saw,
        tuned=[model for model, base in bases.items() if base in saw],
        remembered_by=sorted(set(looked_up)),
        alike=sorted(partners - set(texts)),
        begun=workspace.nights.begun(),
        advice=_advice(workspace, saw, newest),
    )


def _counts(hits: list[Hit]) -> dict[str, int]:
    # Only `removed` has this column.
    kept = sum("rule" not in hit.values for hit in hits)
    return {"documents": kept, "removed": len(hits) - kept}


def _trained_on(store: Store, night: str, manifest: Manifest, ids: set[str]) -> set[str]:
    """Return which of some documents are in the night's training shards."""
    hits = find_rows(store, manifest.entries(layout.night(night).split("train")), "id", one_of(ids), ["id"])
    return {hit.values["id"] for hit in hits}


def _readers(store: Store, models: dict[str, Manifest], trained: dict[str, set[str]]) -> dict[str, set[str]]:
    """Return by document the models whose training read it, or may have; `trained` holds the documents by night."""
    readers: dict[str, set[str]] = {}
    for night, ids in trained.items():
        for model, reading in readings(store, models, night, sorted(ids)).items():
            for doc_id in reading.ids:
                readers.setdefault(doc_id, set()).add(model)
    return readers


def _advice(workspace: Workspace, saw: list[str], newest: str) -> list[str]:
    """Return how to get to a champion that has not seen what is forgotten."""
    champions = workspace.models.rollback_targets()
    if not champions or champions[0] not in saw:
        return []
    back = next((number for number, model in enumerate(champions) if model not in saw), None)
    if back is None:
        return [
            "Every champion saw them. A fresh start, without them:",
            f"  slimpajama train --night {newest} --set train.warm_start=false",
            "  slimpajama models promote ID   # what train printed",
        ]
    return [
        f"The champion saw them; {champions[back]} did not. Back to it, and on from there:",
        *["  slimpajama models rollback"] * back,
        f"  slimpajama train --night {newest}",
        f"  slimpajama evaluate --night {newest} --model ID   # what train printed",
    ]


def _carry_out(workspace: Workspace, listed: ForgottenList) -> ForgottenList:
    """Remove all that is unfinished, and return the list without it."""
    remaining, nights = listed.remaining(), workspace.nights.published()
    ids = {night: [entry.id for entry in remaining if night in entry.nights] for night in nights}
    touched = [night for night in nights if ids[night]]
    for night in workspace.nights.begun():
        # It would begin again anyway, since the list has changed.
        workspace.nights.discard(night)
    # A repair makes nights again from raw files, which still hold the documents.
    workspace.store.delete_tree(layout.SCRATCH)
    with track("forget", total=len(touched), unit="nights") as bar:
        for night in touched:
            without(workspace, night, ids[night])
            workspace.nights.drop_unlisted(night)
            bar.advance()
    indexed = [night for night in touched if workspace.store.exists(layout.night(night).index.manifest)]
    index_nights(workspace, Config(), only=indexed)
    # The reports of later nights show texts of earlier ones.
    after = nights[nights.index(touched[0]) :] if touched else []
    damaged = [error for night in after if (error := _report_again(workspace, night))]
    listed = write_list(workspace.store, replace(listed, unfinished=()))
    if damaged:
        raise DamagedError(f"forgotten, but a report had to be written without its model: {damaged[0]}")
    return listed


def _report_again(workspace: Workspace, night: str) -> DamagedError | None:
    """Write a finished night's report again; where its model is gone or damaged, without it. Return the damage."""
    place = layout.report(night)
    present = [path for path in workspace.store.list(place.path) if path.startswith(place.file("report."))]
    found = load_manifest(workspace.store, place.manifest)
    if found is None:
        # The night is not finished yet: its report is written when it is.
        for path in present:
            workspace.store.delete(path)
        return None
    damaged: Exception | None = None
    try:
        written = write_report(workspace, night, found.depends_on["model"], found.depends_on.get("tuned", ""))
    except (ModelError, StorageError) as error:
        step_log("report").info(f"night {night}: without its model, for {error}")
        written, damaged = write_report(workspace, night), error
    # On S3 pages of runs that stood still lie under other names.
    for path in {*present} - {workspace.store.name(entry.path, entry.sha256) for entry in written.files}:
        if path not in written.paths(""):
            workspace.store.delete(path)
    return damaged if isinstance(damaged, DamagedError) else None
