"""Everything known of one document: where it came from, why it was kept or removed, and where it went.

A document may have several records: when a raw file grows, its old lines are read again and removed as exact duplicates
of themselves; and what a night refused may be tried again in a later one. The records are listed in the order of the
nights. Of a forgotten document only that fact is left.
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from itertools import chain, pairwise
from typing import Any

import numpy as np

from slimpajama.core.config import CleanConfig
from slimpajama.core.errors import InputError, printable
from slimpajama.core.format import excerpt
from slimpajama.core.schema import DOCUMENTS, REMOVED
from slimpajama.corpus.again import BOTH, READING
from slimpajama.corpus.clean.rules import Verdict, judge
from slimpajama.corpus.refused import file_of
from slimpajama.workspace import layout
from slimpajama.workspace.lineage import readings, with_heirs
from slimpajama.workspace.lookup import Hit, Match, find_rows, one_of, starts_with
from slimpajama.workspace.manifest import Manifest, json_bytes, load_manifest
from slimpajama.workspace.open import Workspace
from slimpajama.workspace.store import Store
from slimpajama.workspace.tombstones import forgotten_list

RECORDS = ("documents", "removed")
PASSAGE = ["begin", "end", "documents", "cut", "other", "other_night", "text"]
PREFIX = re.compile(r"^[0-9a-f]{6,64}$")
# How many of the documents that were removed for this one a terminal shows: a licence may have a million copies.
MOST_LISTED = 20
Record = dict[str, Any]
Nights = dict[str, Manifest]


def explain(workspace: Workspace, doc_id: str) -> dict[str, Any]:
    """Return everything known of a document, by its id or at least six hex digits that only this id begins with.

    Returns:
        `id`, `forgotten` (what the list of forgotten documents says of it, or None) and `records`, one for each night
        that met it: `night`, `status` (kept or removed), `source`, `uri`, `licence`, `raw_file`, `lang`, `sha256`,
        `n_chars`, `notes` (`rule`, `value`, `threshold`), `rules` (the same and `passed`), `passages` that stand in
        many documents (columns `PASSAGE`), `tries` (of a record that reading refused and a later night tried again:
        `night`, `outcome`, and `id` and `value` where they are known) and `superseded_by` (the night whose record holds
        in its place, or None). Removed ones have `stage`, `rule`, `value`, `threshold`, `duplicate_of`, too; kept ones
        `quality`, `n_bytes`, `removed_for_it`, `shards` (`path`, `split`, `row` from 0, `tokens`), `models` that have
        seen it (`model`, `night`, `saw`, which says how that is known, and the `share` of the night's documents that
        the training read, or None), and `remembered_by`, those that look it up.

    Errors are those of `find_document`.
    """
    nights = workspace.nights.manifests()
    found, hits = find_document(workspace.store, nights, doc_id)
    order = list(nights)
    hits.sort(key=lambda hit: order.index(hit.values["night"]))
    records = [_record(workspace, nights, hit.values) for hit in hits]
    for record, later in pairwise(records):
        record["superseded_by"] = later["night"] if record.get("stage") in BOTH else None
    return {"id": found, "forgotten": _forgotten(workspace.store, found), "records": records}


def find_document(store: Store, nights: Nights, doc_id: str) -> tuple[str, list[Hit]]:
    """Return the id that begins like this, of a forgotten document too, and its rows in `documents` and `removed`.

    Raises:
        InputError: If there is no such document, or several ids begin like this.
    """
    wanted = doc_id.strip().lower()
    if not PREFIX.match(wanted):
        raise InputError("not a document's id", found=doc_id, expected="at least 6 hex digits of an id")
    match = starts_with(wanted)
    hits = [
        *find_records(store, nights, "documents", "id", match, DOCUMENTS.names),
        *find_records(store, nights, "removed", "id", match, REMOVED.names),
    ]
    forgotten = {doc_id for doc_id in forgotten_list(store).ids() if doc_id.startswith(wanted)}
    ids = sorted({hit.values["id"] for hit in hits} | forgotten)
    if not ids:
        raise InputError(
            "no such document",
            where=store.uri,
            found=doc_id,
            hint="Ids stand in the report and in nights/*/documents and nights/*/removed.",
        )
    if len(ids) > 1:
        more = f", {len(ids) - 5} more" if len(ids) > 5 else ""
        raise InputError(
            "several documents' ids begin like this",
            found=f"{doc_id}: {', '.join(ids[:5])}{more}",
            hint="Give more digits.",
        )
    return ids[0], hits


def find_records(
    store: Store, nights: Nights, kind: str, column: str, match: Match, columns: list[str]
) -> Iterator[Hit]:
    """Yield the rows of some nights' `documents` or `removed` (that is the kind) whose `column` matches."""
    for night, manifest in nights.items():
        yield from find_rows(store, manifest.entries(layout.night(night).within(kind)), column, match, columns)


def _forgotten(store: Store, doc_id: str) -> Record | None:
    """Return what the list of forgotten documents says of one, and whether all of it is deleted."""
    listed = forgotten_list(store)
    entry = next((entry for entry in listed.documents if entry.id == doc_id), None)
    return dict(json.loads(json_bytes(entry))) | {"finished": doc_id not in listed.unfinished} if entry else None


def _record(workspace: Workspace, nights: Nights, row: Record) -> Record:
    store, manifest = workspace.store, nights[row["night"]]
    kept = "quality" in row
    sources = manifest.depends_on["settings"]["ingest"]["sources"]
    entry = _entry(manifest, row["source"], row["uri"])
    said_of = one_of([row["uri"], entry["path"]] if entry else [row["uri"]])
    own, this = {row["night"]: manifest}, one_of([row["id"]])
    notes = find_records(store, own, "notes", "uri", said_of, ["rule", "value", "threshold"])
    passages = [hit.values for hit in find_records(store, own, "passages", "id", this, PASSAGE)] if row["id"] else []
    shortened = kept and any(passage["cut"] for passage in passages)
    common = {name: row[name] for name in ("night", "source", "uri", "lang", "sha256", "n_chars")} | {
        "superseded_by": None,
        "tries": _tries(store, nights, row),
        "status": "kept" if kept else "removed",
        "licence": next((one["licence"] for one in sources if one["name"] == row["source"]), ""),
        "raw_file": {name: entry[name] for name in ("path", "bytes", "sha256")} if entry else None,
        "notes": [hit.values for hit in notes],
        "passages": passages,
        "rules": _rules(manifest.depends_on["settings"], row | _as_cleaned(store, manifest, row) if shortened else row),
    }
    if not kept:
        verdict = {name: row[name] for name in ("stage", "rule", "value", "threshold")}
        return common | verdict | {"duplicate_of": _partner(store, nights, row)}
    shards = _shards(store, manifest, row)
    trained = any(shard["split"] == "train" for shard in shards)
    columns = ["id", "night", "source", "uri", "rule", "jaccard"]
    instead = find_records(store, nights, "removed", "duplicate_of", one_of([row["id"]]), columns)
    return common | {
        "quality": row["quality"],
        "n_bytes": row["n_bytes"],
        "removed_for_it": [hit.values for hit in instead],
        "shards": shards,
        "models": _models(workspace, row["night"], row["id"]) if trained else [],
        "remembered_by": remembering(workspace, row["night"]) if trained else [],
    }


def _entry(manifest: Manifest, source: str, uri: str) -> Record | None:
    """Return what a night lists of the raw file that a record was read from; None if not listed."""
    inputs: Iterable[Record] = manifest.depends_on["stages"][READING]["inputs"]
    of_source = {entry["path"]: entry for entry in inputs if entry["source"] == source}
    return of_source.get(file_of(uri, of_source))


def _tries(store: Store, nights: Nights, row: Record) -> list[Record]:
    """Return what other nights made of the same place in a raw file.

    Of a document that is what refused it before, of something that reading refused what came of it afterwards.
    """
    source, uri, was_refused = row["source"], row["uri"], row.get("stage") == READING
    file, found = _entry(nights[row["night"]], source, uri), list[Record]()
    if file is None or not (was_refused or READING in file.get("again", ())):
        return []
    order = list(nights)
    here = order.index(row["night"])
    for night in order[here + 1 :] if was_refused else order[:here]:
        own, entry = {night: nights[night]}, _entry(nights[night], source, uri)
        if entry is None or entry["sha256"] != file["sha256"] or READING not in entry.get("again", BOTH):
            continue
        columns = ["id", "source", "stage", "rule", "value"]
        hits = find_records(store, own, "removed", "uri", one_of({uri, file["path"]}), columns)
        refused = [hit.values for hit in hits if (hit.values["source"], hit.values["stage"]) == (source, READING)]
        found += [{"night": night, "outcome": f"refused by {one['rule']}"} | one for one in refused]
        if refused:
            continue
        kinds = (find_records(store, own, kind, "uri", one_of({uri}), ["id", "source"]) for kind in RECORDS)
        ids = (hit.values["id"] for hit in chain.from_iterable(kinds) if hit.values["source"] == source)
        # A record with an id of its own has another uri than its refusal.
        outcome = "came in" if was_refused else "refused, its file is read again for that"
        found.append({"night": night, "outcome": outcome, "id": next(ids, None)})
    return found


def _as_cleaned(store: Store, manifest: Manifest, row: Record) -> Record:
    """Return `quality` and `lang` of a document before passages were cut out of it: rules were asked of all of it."""
    from slimpajama.corpus.clean.quality import measure
    from slimpajama.corpus.dedup.columns import load_texts

    night = layout.night(row["night"])
    for hit in find_rows(store, manifest.entries(night.minhash), "id", one_of([row["id"]]), ["id"]):
        texts = load_texts(store, manifest.file(night.texts(layout.stem(hit.path))), np.array([hit.row]))
        langs, _, quality = measure(texts)
        return {"lang": langs[0], "quality": quality[0].as_py()}
    return {}


def _rules(settings: Record, row: Record) -> list[Record]:
    """Return each rule of that night with what it measured; none where the document could not be read."""
    if row.get("stage") == "ingest":
        return []
    if "quality" in row:
        quality = row["quality"]
    else:
        # `removed` does not hold what was measured, but it holds the text, so it is measured again.
        from slimpajama.corpus.clean.quality import measure_text

        quality = measure_text(row["text"] or "")
    verdicts = judge(quality, row["lang"], CleanConfig(**settings["clean"]))
    if row.get("stage") != "clean":
        verdicts = chain(verdicts, _later_verdicts(settings, row))
    return list(map(asdict, verdicts))


def _later_verdicts(settings: Record, row: Record) -> Iterator[Verdict]:
    """Yield what deduplication, decontamination and the search for passages said."""
    stage, bounds = row.get("stage"), settings.get("decontaminate")
    value = "no earlier or better document above the threshold"
    if stage == "dedup":
        value = row["value"] if row["jaccard"] is None else f"Jaccard {row['jaccard']:.6f}"
    name = row["rule"] if stage == "dedup" else "near-duplicate"
    yield Verdict(name, value, f"below {settings['dedup']['threshold']:g}", stage != "dedup")
    if stage == "decontaminate":
        yield Verdict(row["rule"], row["value"], row["threshold"], False)
    elif stage != "dedup" and bounds:
        # Nights of earlier versions have no such settings.
        most = f"less than {bounds['ngram_words']} words in a row, less than {bounds['held_out_share']:.0%} held out"
        yield Verdict("overlap", "with no evaluation record and no held-out document", most, True)
    if stage == "passages":
        yield Verdict(row["rule"], row["value"], row["threshold"], False)


def _partner(store: Store, nights: Nights, row: Record) -> Record | None:
    """Return the document that was kept instead, with its own night and place, and the similarity to it."""
    if not row["duplicate_of"]:
        return None
    partner = {"id": row["duplicate_of"], "jaccard": row["jaccard"]}
    columns = ["id", "night", "source", "uri", "lang", "n_chars"]
    wanted = one_of([row["duplicate_of"]])
    places = chain.from_iterable(find_records(store, nights, kind, "id", wanted, columns) for kind in RECORDS)
    # It stands in `removed` where it was contaminated itself.
    hit = next(places, None)
    return partner | (hit.values if hit else dict.fromkeys(columns[1:]))


def _shards(store: Store, manifest: Manifest, row: Record) -> list[Record]:
    """Return the rows of the night's shards that hold the document."""
    entries = manifest.entries(layout.night(row["night"]).within("shards"))
    hits = find_rows(store, entries, "id", one_of([row["id"]]), ["id", "input_ids"])
    shards = ((hit, layout.place(hit.path).inner, len(hit.values["input_ids"])) for hit in hits)
    return [{"path": hit.path, "split": split, "row": hit.row, "tokens": tokens} for hit, split, tokens in shards]


def _models(workspace: Workspace, night: str, doc_id: str) -> list[Record]:
    """Return the models that have seen a document of a night's train split, oldest first, and how that is known."""
    models = workspace.models.trained()
    read = readings(workspace.store, models, night, [doc_id])
    found = []
    for name in with_heirs(models, [name for name, reading in read.items() if reading.ids]):
        own = read.get(name)
        how = "began as one that has" if not own or not own.ids else "read it" if own.certain else "may have seen it"
        row = {"model": name, "night": models[name].depends_on["night"], "saw": how}
        found.append(row | {"share": own.share if own and own.ids else None})
    return sorted(found, key=lambda row: (row["night"], row["model"]))


def remembering(workspace: Workspace, night: str) -> list[Record]:
    """Return the models that look up what the night holds, each with the newest night of the memory that it uses."""
    found = []
    for model in workspace.models.published():
        of = workspace.models.memory_of(model)
        memory = load_manifest(workspace.store, layout.model(model).memory(of).manifest) if of else None
        if memory and night in memory.depends_on["indexes"]:
            found.append({"model": model, "night": of})
    return found


def render(story: dict[str, Any]) -> str:
    """Return what `explain` returns as lines for a terminal, safe to print whatever the corpus holds."""
    lines = [f"document {story['id']}"]
    forgetting = [_forgetting(story["forgotten"])] if story["forgotten"] else []
    for section in [*forgetting, *map(_lines, story["records"])]:
        lines += ["", *(f"{name:<12} {printable(text, 2000)}" for name, text in section)]
    return "\n".join(lines)


def _forgetting(entry: Record) -> Iterator[tuple[str, str]]:
    left = "no text is kept" if entry["finished"] else "not finished: run `slimpajama forget` with this id again"
    yield "forgotten", f"after night {entry['after']}, chosen by {entry['by']}; {left}"
    yield "it was in", ", ".join(entry["nights"])
    if entry["sha256"]:
        yield "text", f"sha256 of the raw text {entry['sha256']}"
    yield "models", ", ".join([*entry["models"], *entry["tuned"]]) or "none was trained on it"


def _lines(record: Record) -> Iterator[tuple[str, str]]:
    outcome = "kept" if record["status"] == "kept" else f"removed by {record['stage']}, rule {record['rule']}"
    yield "night", f"{record['night']}: {outcome}"
    yield "source", f"{record['source']}, licence {record['licence'] or 'not stated'}"
    yield "uri", record["uri"]
    if file := record["raw_file"]:
        yield "raw file", f"{file['path']}, {file['bytes']:,} bytes, sha256 {file['sha256']}"
    for note in record["notes"]:
        yield "note", f"{note['rule']}: {note['value']} ({note['threshold']})"
    if record["sha256"]:
        yield "text", f"{record['lang']}, {record['n_chars']:,} characters, sha256 of the raw text {record['sha256']}"
    if quality := record.get("quality"):
        yield "quality", ", ".join(f"{name} {_figure(value)}" for name, value in quality.items() if value is not None)
    for rule in record["rules"]:
        verdict = "passed" if rule["passed"] else "FAILED"
        yield "rule", f"{verdict} {rule['rule']}: {rule['value']} ({rule['threshold']})"
    for passage in record["passages"]:
        place = f"characters {passage['begin']:,} to {passage['end']:,}, {'cut out' if passage['cut'] else 'not cut'}"
        others = f"in {passage['documents']:,} documents, one is {passage['other']} of {passage['other_night']}"
        yield "passage", f"{place}, {others}: {excerpt(passage['text'])}"
    for one in record["tries"]:
        what = ", ".join(str(one[name]) for name in ("id", "value") if one.get(name))
        yield "tried", f"{one['night']}: {one['outcome']}{f': {what}' if what else ''}"
    if record["superseded_by"]:
        yield "superseded", f"by the record of night {record['superseded_by']}"
    yield from _removal(record)


def _figure(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _removal(record: Record) -> Iterator[tuple[str, str]]:
    if record["status"] == "removed":
        if partner := record["duplicate_of"]:
            place = (
                f"{partner['night']}, {partner['source']}, {partner['uri']}" if partner["uri"] else "no longer there"
            )
            yield "duplicate of", f"{partner['id']}, Jaccard {partner['jaccard']:.6f}: {place}"
        elif not record["rules"]:
            yield "reason", f"{record['value']} ({record['threshold'] or 'no threshold'})"
        return
    for other in record["removed_for_it"][:MOST_LISTED]:
        jaccard = f"Jaccard {other['jaccard']:.6f}"
        yield "instead of", f"{other['id']}, {jaccard}, {other['rule']}: {other['night']}, {other['uri']}"
    if (more := len(record["removed_for_it"]) - MOST_LISTED) > 0:
        yield "instead of", f"{more:,} more; --json lists them all"
    for shard in record["shards"]:
        yield "shard", f"{shard['path']}, row {shard['row']}, {shard['tokens']:,} tokens, split {shard['split']}"
    if not record["shards"]:
        yield "shard", "none: the night has no shards"
    for model in record["models"][:MOST_LISTED]:
        share = "" if model["share"] is None else f", with {100 * model['share']:.3g} % of the night's documents"
        yield "model", f"{model['model']} {model['saw']}{share}"
    if (more := len(record["models"]) - MOST_LISTED) > 0:
        yield "model", f"{more:,} more; --json lists them all"
    if not record["models"]:
        held_out = any(shard["split"] != "train" for shard in record["shards"])
        yield "models", "none has read it" + (": it is held out" if held_out else "")
    if record["remembered_by"]:
        yield "memories", ", ".join(model["model"] for model in record["remembered_by"])
