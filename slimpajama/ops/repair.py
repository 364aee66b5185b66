"""Damaged files of nights and reports, made again by the steps that made them.

A night is prepared again below `repair/`, with the settings and from the raw files that its manifest lists. It sees the
workspace as it was then: the list of nights ends before it. Only a file whose sha256 is the listed one replaces the
damaged file, so a repair never makes anything worse. After a kill the steps go on where they stopped, and what was
replaced is no longer damaged.
"""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from slimpajama import __version__
from slimpajama.core.config import Config, validate
from slimpajama.core.errors import SlimpajamaError, StorageError, printable
from slimpajama.core.logs import step_log
from slimpajama.corpus.index import index_nights
from slimpajama.corpus.pipeline import prepare
from slimpajama.corpus.sources.discover import plan_again
from slimpajama.ops.report.stage import write_report
from slimpajama.ops.verify import Problems, verify
from slimpajama.workspace import catalogue, layout
from slimpajama.workspace.manifest import FileEntry, Manifest, json_bytes, load_manifest
from slimpajama.workspace.open import Workspace, scratch_workspace
from slimpajama.workspace.parquet import read_verified
from slimpajama.workspace.step import Context
from slimpajama.workspace.store import Store

# Kinds of files that later nights read.
COMPARED = (layout.MANIFEST, "minhash", "bands", "texts", "windows", "tokenizer", "shards")


def repair(workspace: Workspace, cfg: Config) -> tuple[int, list[str], Problems]:
    """Check everything that is published and make damaged files of nights and reports again.

    Args:
        cfg: `run` and `dedup.memory_mb` are used: where raw files lie, how many threads and how much memory may be
            used. All other settings are in the nights' manifests.

    Returns:
        How many files the manifests list; paths of files that were replaced; what is still wrong, and why.

    Raises:
        LockedError: If a run holds the workspace.
    """
    repaired: list[str] = []
    with workspace.store.lock("repair"):
        files, bad = verify(workspace, cfg.run.threads())
        catalogue.note_all(workspace.store)
        repaired += [path for path in bad if path.startswith(layout.noted(""))]
        bad = {path: problem for path, problem in bad.items() if path not in repaired}
        for folder, manifest, wanted in _damaged(workspace.store, bad):
            step_log("repair").info(f"{printable(folder.path)}: {len(wanted)} damaged")
            remaining = {entry.path: entry for entry in wanted}
            why = _rebuild(workspace, cfg, folder, manifest, remaining, bad)
            repaired += (entry.path for entry in wanted if entry.path not in remaining)
            for entry in wanted:
                del bad[entry.path]
                if entry.path in remaining:
                    hint = "It was left as it is: restore it from a backup."
                    bad[entry.path] = StorageError(f"cannot be made again: {why}", where=entry.path, hint=hint)
        workspace.store.delete_tree(layout.SCRATCH)
        repaired += _index_again(workspace, cfg, bad)
    return files, repaired, dict(sorted(bad.items()))


def _index_again(workspace: Workspace, cfg: Config, bad: Problems) -> list[str]:
    """Make damaged indexes again from their nights' shards; return the paths, which are taken out of `bad`."""
    places = {path: place for path in bad if (place := layout.place(path))[::2] == ("nights", "index")}
    repaired = []
    for night in sorted({place.owner for place in places.values()}):
        own = [path for path, place in places.items() if place.owner == night]
        folder = layout.night(night)
        train = folder.split("train")
        if any(path.startswith(train) or path == folder.manifest for path in bad):
            continue
        if all(path.startswith(folder.merged_index.within("")) for path in own):
            catalogue.forget(workspace.store, folder.merged_index.path)
        else:
            catalogue.forget(workspace.store, folder.index.path)
        index_nights(workspace, cfg, only=[night])
        repaired += own
        for path in own:
            del bad[path]
    return repaired


def _damaged(store: Store, bad: Problems) -> list[tuple[layout.Folder, Manifest, list[FileEntry]]]:
    """Return folder, manifest and damaged files of nights, each after those it was compared with, then of reports."""
    places = {place[:2]: place for path in bad if (place := layout.place(path)).root in ("nights", "reports")}
    found = []
    for _, place in sorted(places.items()):
        path = place.folder.manifest
        manifest = load_manifest(store, path) if place.kind and path not in bad else None
        wanted = [entry for entry in manifest.files if entry.path in bad] if manifest else []
        if manifest and wanted:
            order = place.root == "reports", len(manifest.depends_on.get("earlier", ()))
            found.append((order, (place.folder, manifest, wanted)))
    return [one for _, one in sorted(found, key=lambda one: one[0])]


def _rebuild(
    workspace: Workspace,
    cfg: Config,
    folder: layout.Folder,
    manifest: Manifest,
    remaining: dict[str, FileEntry],
    bad: Problems,
) -> str:
    """Replace files by what comes out as listed, and take these out of `remaining`; return why others do not."""
    store, is_night = workspace.store, layout.place(folder.path).root == "nights"
    # A report shows the samples beside it, so only its manifest is hidden.
    hidden = folder.within("") if is_night else folder.manifest
    made: list[Manifest] = []
    try:
        scratch = scratch_workspace(f"{workspace.uri}/{layout.scratch(folder)}", workspace, (hidden,))
        for step in _prepare(store, scratch, cfg, manifest, bad) if is_night else _render(scratch, manifest):
            made.append(step)
            for entry in step.files:
                if entry.path in remaining and entry.sha256 == remaining[entry.path].sha256:
                    store.write_listed(entry.path, read_verified(scratch.store, entry), entry.sha256)
                    del remaining[entry.path]
            if not remaining:
                break
    except SlimpajamaError as error:
        return str(error).removesuffix(".")
    store.delete_tree(layout.scratch(folder))
    return _difference(manifest, made)


def _prepare(store: Store, scratch: Workspace, cfg: Config, manifest: Manifest, bad: Problems) -> Iterator[Manifest]:
    """Yield the manifests of a night's steps, run again.

    Raises:
        StorageError: If what the night was made from is damaged itself, or its manifest does not tell.
        InputError: If its raw files are not what they were.
        ConfigError: If its settings are of another version.
    """
    depends_on = manifest.depends_on
    try:
        night, earlier, ingested = depends_on["night"], depends_on["earlier"], depends_on["stages"]["ingest"]
        inputs, problems, settings = ingested["inputs"], ingested["problems"], _settings(store, cfg, manifest)
    except KeyError as error:
        raise StorageError("its manifest does not say how it was made", expected=str(error)) from None
    for path in bad:
        place = layout.place(path)
        if place.root == "nights" and place.owner in earlier and place.kind in COMPARED:
            raise StorageError("an earlier night is damaged, which it was compared with", where=path)
    todo = plan_again(settings, inputs, problems)
    scratch.store.write(layout.NIGHTS_INDEX, json_bytes({"nights": earlier}))
    yield from prepare(Context(scratch, settings, night), todo=todo)


def _settings(store: Store, cfg: Config, manifest: Manifest) -> Config:
    """Return the settings that a night was made with."""
    settings = manifest.depends_on["settings"]
    data = settings | {
        "workspace": cfg.workspace,
        "run": asdict(cfg.run) | {"retry": ()},
        "dedup": settings["dedup"] | {"memory_mb": cfg.dedup.memory_mb},
    }
    if digest := manifest.depends_on["stages"]["decontaminate"].get("pairs"):
        data["pairs"] = _pairs(store, digest)
    return validate(data, f"settings of night {manifest.depends_on['night']}")


def _pairs(store: Store, digest: str) -> dict[str, Any]:
    """Return the settings of the set of pairs whose tests were kept out of a night."""
    for path in store.list("pairs"):
        manifest = load_manifest(store, path) if layout.place(path).is_manifest else None
        if manifest and manifest.digest == digest:
            return dict(manifest.depends_on["settings"])
    raise StorageError("the pairs are gone whose tests were kept out of it", where="pairs")


def _render(workspace: Workspace, manifest: Manifest) -> Iterator[Manifest]:
    """Yield the manifest of a report, rendered again."""
    depends_on = manifest.depends_on
    yield write_report(workspace, *(depends_on.get(name) or "" for name in ("night", "model", "tuned")))


def _difference(manifest: Manifest, made: list[Manifest]) -> str:
    """Return in what the steps differ from those that made the files, as far as the manifest tells."""
    here = {"slimpajama": __version__, "pyarrow": pa.__version__}
    then = manifest.depends_on.get("software", here)
    found = [
        f"{name} {here[name]} (then {printable(then.get(name), 40)})" for name in here if then.get(name) != here[name]
    ]
    if "forgotten" in manifest.counts:
        found.append("documents were forgotten since it was made")
    recorded = manifest.depends_on.get("stages", {"report": manifest.depends_on})
    for step in made:
        now, before = step.depends_on, recorded.get(step.name, {})
        differ = sorted(name for name in {*now, *before} if now.get(name) != before.get(name))
        if differ:
            values = (
                f"{name} {printable(now.get(name), 40)} (then {printable(before.get(name), 40)})" for name in differ
            )
            return f"other bytes come out: {'; '.join([*found, f'{step.name} of ' + ', '.join(values)])}"
    return "; ".join(["other bytes come out", *found])
