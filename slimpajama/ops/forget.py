"""Forgetting documents: out of every night and index, and so out of every later training; on record by hashes only.

A file that a manifest lists never changes. So a night's files are written anew without the documents, under new names;
then its manifest, at once; then the old files go. Before all that the list of what is forgotten is written, which the
next run finds unfinished where this one was killed (`slimpajama.workspace.tombstones`); it ends in the same bytes.

What it cannot take back: weights, vocabularies, samples that a model wrote, raw files, backups, Prefect's artifacts.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from slimpajama.core.errors import ConfigError, InputError, ModelError, StorageError
from slimpajama.core.logs import step_log
from slimpajama.core.progress import track
from slimpajama.corpus.dedup.columns import content_array, key_file, read_keys, read_texts, text_file
from slimpajama.corpus.shards.card import with_files, with_note
from slimpajama.corpus.shards.columns import shard_bytes
from slimpajama.ops.explain import documents, find_document, removed
from slimpajama.ops.report.stage import write_report
from slimpajama.ops.verify import SCRATCH
from slimpajama.workspace import layout
from slimpajama.workspace.lookup import Hit, Match, find_rows, one_of
from slimpajama.workspace.manifest import FileEntry, Manifest, add_counts, json_bytes, load_manifest
from slimpajama.workspace.open import Workspace
from slimpajama.workspace.parquet import parquet_bytes, read_table
from slimpajama.workspace.store import Store, sha256
from slimpajama.workspace.tombstones import RULE, Forgotten, ForgottenList, forgotten_list, write_list

# Of all records: a pattern that finds more is likely to be wrong.
LARGE_SHARE = 0.01
KEPT = ["id", "sha256", "night"]
LOST = [*KEPT, "rule", "duplicate_of"]
HELD_OUT = r"^\d+% of held-out document (?P<id>[0-9a-f]{32}) of night "  # as decontamination words it
# Ids that a terminal shows.
SHOWN = 5
Nights = dict[str, Manifest]


@dataclass(frozen=True, slots=True)
class ForgetReport:
    """What is forgotten, or would be."""

    documents: list[Forgotten]
    dry_run: bool
    before: bool = False
    """Whether they were forgotten before this run, or by what it finished."""
    nights: dict[str, dict[str, int]] = field(default_factory=dict)
    """Records that go by night: `documents` (kept ones) and `removed`."""
    files: list[str] = field(default_factory=list)
    """Files that are written anew."""
    models: list[str] = field(default_factory=list)
    """Models that were trained on them, or started from one that was."""
    tuned: list[str] = field(default_factory=list)
    alike: list[str] = field(default_factory=list)
    """Documents that stay, although some of these were removed as their duplicates."""
    begun: list[str] = field(default_factory=list)
    """Unpublished nights, which begin again."""
    advice: list[str] = field(default_factory=list)
    """Commands that lead to a champion that has not seen them."""

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain JSON."""
        return asdict(self)

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
        lines.append(f"models that were trained on them: {', '.join([*self.models, *self.tuned]) or 'none'}")
        return "\n".join([*lines, *self.advice])


def _some(ids: list[str]) -> str:
    more = f", {len(ids) - SHOWN:,} more; --json lists them all" if len(ids) > SHOWN else ""
    return ", ".join(ids[:SHOWN]) + more


def forget(workspace: Workspace, by: str, value: str, *, dry_run: bool = False, sure: bool = False) -> ForgetReport:
    """Remove documents from all nights, and whatever was removed as a copy of one.

    Args:
        workspace: The workspace.
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
        unfinished = listed.left()
        if unfinished:
            step_log("forget").info(f"{len(unfinished)} documents of a run that was broken off come first")
            listed = listed if dry_run else _carry_out(workspace, listed)
        nights = {night: workspace.nights.load(night) for night in workspace.nights.published()}
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
    records = sum(
        entry.rows
        for manifest in nights.values()
        for entry in manifest.files
        if entry.path.split("/")[2] in ("documents", "removed")
    )
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
    """Return the report of a choice of which nothing is there; no pattern is kept, so it may be what was `finished`."""
    known = {
        "id": [entry for entry in listed.documents if entry.id.startswith(value)],
        "sha256": [entry for entry in listed.documents if entry.sha256 == value],
        "pattern": finished,
    }[by]
    if not known:
        raise InputError("no such document", where=store.uri, found=f"none by this {by}")
    return ForgetReport(known, dry_run, before=True)


def _records(store: Store, nights: Nights, column: str, match: Match) -> Iterator[Hit]:
    """Yield the records whose `column` matches; that something forgotten came in again is none."""
    if column in (*KEPT, "text"):
        yield from documents(store, nights, column, match, KEPT)
    yield from (hit for hit in removed(store, nights, column, match, LOST) if hit.values["rule"] != RULE)


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
    """Return what is to be done; `chosen` says of ids how they were."""
    touched = {night: some for night in nights if (some := [hit for hit in found if hit.values["night"] == night])}
    ids = {night: {hit.values["id"] for hit in hits} for night, hits in touched.items()}
    trained = {night: _trained_on(workspace.store, night, nights[night], ids[night]) for night in touched}
    models = {model: workspace.models.manifest(model).about for model in workspace.models.published()}
    bases = {model: manifest.about["base"] for model, manifest in workspace.models.tuned().items()}
    newest = list(nights)[-1]

    def entry(doc_id: str, text: str) -> Forgotten:
        saw = _saw(models, {night for night in touched if doc_id in trained[night]})
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
    saw = _saw(models, {night for night in touched if trained[night]})
    partners = {hit.values["duplicate_of"] for hit in found if hit.values.get("duplicate_of")}
    return ForgetReport(
        entries,
        dry_run,
        nights={night: _by_fate(hits) for night, hits in touched.items()},
        files=[path for night in touched for path in _affected(workspace.store, nights[night], ids[night])],
        models=saw,
        tuned=[model for model, base in bases.items() if base in saw],
        alike=sorted(partners - set(texts)),
        begun=workspace.nights.begun(),
        advice=_advice(workspace, saw, newest),
    )


def _by_fate(hits: list[Hit]) -> dict[str, int]:
    # A column of `removed` alone.
    kept = sum("rule" not in hit.values for hit in hits)
    return {"documents": kept, "removed": len(hits) - kept}


def _trained_on(store: Store, night: str, manifest: Manifest, ids: set[str]) -> set[str]:
    """Return which of some documents are in the night's training shards."""
    hits = find_rows(store, manifest.paths(f"nights/{night}/shards/train/"), "id", one_of(ids), ["id"])
    return {hit.values["id"] for hit in hits}


def _saw(models: dict[str, dict[str, Any]], nights: set[str]) -> list[str]:
    """Return the models that were trained on one of the nights, or started from one that was."""
    saw = {model for model, about in models.items() if nights & set(about["nights"])}
    while more := {model for model, about in models.items() if about.get("started_from") in saw} - saw:
        saw |= more
    return [model for model in models if model in saw]


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


def _affected(store: Store, manifest: Manifest, ids: Iterable[str]) -> list[str]:
    """Return the night's files that hold rows of some documents."""
    gone = pa.array(sorted(ids), pa.string())
    own = {path for path in manifest.paths("") if _stays(store, path, gone) is not None}
    beside = {other for path in own if "/minhash/" in path for other in _beside(path)}
    return [path for path in manifest.paths("") if path in own | beside]


def _carry_out(workspace: Workspace, listed: ForgottenList) -> ForgottenList:
    """Remove all that is unfinished, and return the list without it."""
    left, nights = listed.left(), workspace.nights.published()
    ids = {night: [entry.id for entry in left if night in entry.nights] for night in nights}
    touched = [night for night in nights if ids[night]]
    for night in workspace.nights.begun():
        # The list has changed, so it would begin again anyway.
        workspace.nights.discard(night)
    # Where nights are made again from raw files.
    workspace.store.delete_tree(SCRATCH)
    with track("forget", total=len(touched), unit="nights") as bar:
        for night in touched:
            files = _without(workspace, night, ids[night]).files
            workspace.nights.drop_unlisted(night, files, besides=layout.night(night).manifest)
            bar.advance()
    # Later ones show earlier nights' texts.
    for night in nights[nights.index(touched[0]) :] if touched else ():
        _report_again(workspace, night)
    return write_list(workspace.store, replace(listed, unfinished=()))


def _report_again(workspace: Workspace, night: str) -> None:
    folder = f"reports/{night}"
    found = load_manifest(workspace.store, f"{folder}/manifest.json")
    # What is there of it is made when the night is finished.
    if found is None:
        for path in (f"{folder}/report.html", f"{folder}/report.json"):
            workspace.store.delete(path)
        return
    try:
        write_report(workspace, night, found.about["model"] or None, found.about.get("tuned") or None)
    except (ModelError, StorageError) as error:
        step_log("report").info(f"night {night}: without its model, for {error}")
        write_report(workspace, night)


class _File(NamedTuple):
    """A file in the place of another one."""

    path: str
    data: bytes
    rows: int = 0


def _without(workspace: Workspace, night: str, ids: list[str]) -> Manifest:
    """Write a night's files and manifest without some documents, and return the manifest."""
    manifest = workspace.nights.load(night)
    gone = pa.array(sorted(ids), pa.string())
    files = {entry.path: entry for entry in manifest.files}
    lost = {"documents": 0, "removed": 0}
    for path in list(files):
        stays = _stays(workspace.store, path, gone)
        if stays is None:
            continue
        folder = path.split("/")[2]
        if folder in lost:
            lost[folder] += int((~stays).sum())
        for old, new in _rewritten(workspace.store, path, stays, set(files)).items():
            del files[old]
            if new:
                workspace.store.write(new.path, new.data)
                files[new.path] = _entry(new)
    if all(entry.path in files for entry in manifest.files):
        return manifest
    counts = manifest.counts | {"forgotten": add_counts([manifest.counts.get("forgotten", {}), lost])}
    for card in _cards(workspace.store, night, files, counts["forgotten"]["documents"]):
        workspace.store.write(card.path, card.data)
        files[card.path] = _entry(card)
    manifest = replace(manifest, files=tuple(files[path] for path in sorted(files)), counts=counts)
    workspace.store.write(f"nights/{night}/manifest.json", json_bytes(manifest))
    return manifest


def _entry(file: _File) -> FileEntry:
    return FileEntry(file.path, sha256(file.data), len(file.data), file.rows)


def _stays(store: Store, path: str, gone: pa.Array) -> np.ndarray | None:
    """Return of each row of a file whether it stays; None where all do, or where rows have no ids of documents."""
    if path.split("/")[2] not in ("documents", "removed", "minhash", "shards"):
        return None
    stays: np.ndarray = pc.invert(pc.is_in(read_table(store, path, ["id"])["id"], value_set=gone)).to_numpy()
    return None if stays.all() else stays


def _rewritten(store: Store, path: str, stays: np.ndarray, listed: set[str]) -> dict[str, _File | None]:
    """Return what takes the place of a file, and of those that hold its rows without ids; None where no row is left."""
    folder, name = path.split("/")[2], path.rsplit("/", 1)[1]
    beside = [other for other in _beside(path) if other in listed] if folder == "minhash" else []
    if not stays.any():
        return dict.fromkeys([path, *beside])
    table = read_table(store, path).filter(pa.array(stays)).combine_chunks()
    if folder == "shards":
        data = shard_bytes(table)
        return {path: _File(f"{path.removesuffix(name)}{sha256(data)[:16]}.parquet", data, len(table))}
    data = parquet_bytes(table)
    # The part's own, so files keep their order.
    stem = re.sub(r"-[0-9a-f]{16}$", "", name.removesuffix(".parquet"))
    new = f"{stem}-{sha256(data)[:16]}.parquet"
    made: dict[str, _File | None] = {path: _File(path.replace(name, new), data, len(table))}
    # Found by the minhash file's name and the number of the row.
    for other in beside:
        suffix = other.rsplit(".", 1)[1]
        renamed = f"{other.rsplit('/', 1)[0]}/{new.removesuffix('.parquet')}.{suffix}"
        with store.open(other) as file:
            rows = _texts(file, stays) if suffix == "arrow" else _keys(file, table, stays)
        made[other] = _File(renamed, rows)
    return made


def _beside(minhash: str) -> tuple[str, str]:
    """Return the key file and the text file of a minhash file."""
    keys = minhash.replace("/minhash/", "/bands/")
    return keys, minhash.replace("/minhash/", "/texts/").replace(".parquet", ".arrow")


def _texts(file: BinaryIO, stays: np.ndarray) -> bytes:
    return text_file(read_texts(file, np.flatnonzero(stays)))


def _keys(file: BinaryIO, minhash: pa.Table, stays: np.ndarray) -> bytes:
    keys = read_keys(file, range(pq.ParquetFile(file).num_row_groups))
    return key_file(content_array(minhash["content"]), np.ascontiguousarray(keys[1:, stays].T))


def _cards(store: Store, night: str, files: dict[str, FileEntry], forgotten: int) -> Iterator[_File]:
    """Yield the night's data card and description, which keep their names; no stage reads them."""
    folder = f"nights/{night}"
    shards = [files[path] for path in sorted(files) if path.startswith(f"{folder}/shards/")]
    if forgotten and (path := f"{folder}/README.md") in files:
        yield _File(path, with_note(store.read(path), forgotten))
    if (path := f"{folder}/croissant.json") in files:
        yield _File(path, with_files(store.read(path), night, shards))
