"""Damaged files of nights and reports, made again by the stages that made them.

A night is prepared again with the settings and from the raw files that its manifest lists, below `repair/`, through
which the workspace shows as it was then: the list of nights ends before it. A file that comes out with the sha256 that
the manifest lists is put in its place; no other is, so nothing changes but for the better. After a kill the stages go
on where they stopped, and what was put in place is no longer damaged.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from typing import Any

import pyarrow as pa

from slimpajama import __version__
from slimpajama.core.config import Config, validate
from slimpajama.core.errors import SlimpajamaError, StorageError, printable
from slimpajama.core.logs import step_log
from slimpajama.corpus.ingest import ingest
from slimpajama.corpus.pipeline import run_stages
from slimpajama.corpus.sources.discover import plan_again
from slimpajama.ops.report.stage import write_report
from slimpajama.ops.verify import SCRATCH, Problems, verify
from slimpajama.workspace import layout
from slimpajama.workspace.manifest import FileEntry, Manifest, json_bytes, load_manifest, read_verified
from slimpajama.workspace.open import Workspace, open_store
from slimpajama.workspace.overlay import Overlay
from slimpajama.workspace.store import Store

# What later nights read of one.
COMPARED = ("manifest.json", "minhash/", "bands/", "texts/", "tokenizer/", "shards/")


def repair(workspace: Workspace, cfg: Config) -> tuple[int, list[str], Problems]:
    """Check everything that is published and make damaged files of nights and reports again.

    Args:
        workspace: The workspace.
        cfg: `run` and `dedup.memory_mb` are used: where raw files lie, and what may be used to read them. The rest is
            in the nights' manifests.

    Returns:
        How many files the manifests list; paths that were put in place; what is still wrong, and why.

    Raises:
        LockedError: If a run holds the workspace.
    """
    repaired: list[str] = []
    with workspace.store.lock("repair"):
        files, bad = verify(workspace, cfg.run.threads())
        for folder, manifest, wanted in _damaged(workspace.store, bad):
            step_log("repair").info(f"{printable(folder)}: {len(wanted)} damaged")
            left = {entry.path: entry for entry in wanted}
            why = _rebuild(workspace.store, cfg, folder, manifest, left, bad)
            repaired += (entry.path for entry in wanted if entry.path not in left)
            for entry in wanted:
                del bad[entry.path]
                if entry.path in left:
                    hint = "It was left as it is: restore it from a backup."
                    bad[entry.path] = StorageError(f"cannot be made again: {why}", where=entry.path, hint=hint)
        workspace.store.delete_tree(SCRATCH)
    return files, repaired, dict(sorted(bad.items()))


def _damaged(store: Store, bad: Problems) -> list[tuple[str, Manifest, list[FileEntry]]]:
    """Return folder, manifest and damaged files of nights, each after those it was compared with, then of reports."""
    folders = {tuple(path.split("/")[:2]) for path in bad if path.startswith(("nights/", "reports/"))}
    found = []
    for top, night in sorted(parts for parts in folders if len(parts) == 2):
        path = f"{top}/{night}/manifest.json"
        manifest = load_manifest(store, path) if path not in bad else None
        wanted = [entry for entry in manifest.files if entry.path in bad] if manifest else []
        if manifest and wanted:
            found.append((len(manifest.about.get("earlier", ())), f"{top}/{night}", manifest, wanted))
    found.sort(key=lambda one: (one[1].startswith("reports/"), one[0]))
    return [one[1:] for one in found]


def _rebuild(
    store: Store, cfg: Config, folder: str, manifest: Manifest, left: dict[str, FileEntry], bad: Problems
) -> str:
    """Put in place, and take out of `left`, what comes out as it is listed; return why the rest does not."""
    is_night = folder.startswith("nights/")
    # A report shows the samples beside it.
    hidden = f"{folder}/" if is_night else f"{folder}/manifest.json"
    made: list[Manifest] = []
    try:
        scratch = Overlay(open_store(f"{store.uri}/{SCRATCH}/{folder}"), store, (hidden,))
        for stage in (
            _prepare(store, scratch, cfg, manifest, bad) if is_night else _render(Workspace(scratch), manifest)
        ):
            made.append(stage)
            for entry in stage.files:
                if entry.path in left and entry.sha256 == left[entry.path].sha256:
                    store.write(entry.path, read_verified(scratch, entry))
                    del left[entry.path]
            if not left:
                break
    except SlimpajamaError as error:
        return str(error).removesuffix(".")
    store.delete_tree(f"{SCRATCH}/{folder}")
    return _difference(manifest, made)


def _prepare(store: Store, scratch: Store, cfg: Config, manifest: Manifest, bad: Problems) -> Iterator[Manifest]:
    """Yield the manifests of a night's stages, run again.

    Raises:
        StorageError: If what the night was made from is damaged itself, or its manifest does not tell.
        InputError: If its raw files are not what they were.
        ConfigError: If its settings are of another version.
    """
    about = manifest.about
    try:
        night, earlier, ingested = about["night"], about["earlier"], about["stages"]["ingest"]
        inputs, problems, settings = ingested["inputs"], ingested["problems"], _settings(store, cfg, manifest)
    except KeyError as error:
        raise StorageError("its manifest does not say how it was made", expected=str(error)) from None
    for path in bad:
        if path.startswith(tuple(f"nights/{name}/{kind}" for name in earlier for kind in COMPARED)):
            raise StorageError("an earlier night is damaged, which it was compared with", where=path)
    todo = plan_again(settings, inputs, problems)
    scratch.write(layout.NIGHTS_INDEX, json_bytes({"nights": earlier}))
    yield from run_stages(Workspace(scratch), settings, night, partial(ingest, todo=todo))


def _settings(store: Store, cfg: Config, manifest: Manifest) -> Config:
    """Return the settings that a night was made with."""
    settings = manifest.about["settings"]
    data = settings | {
        "workspace": cfg.workspace,
        "run": asdict(cfg.run),
        "dedup": settings["dedup"] | {"memory_mb": cfg.dedup.memory_mb},
    }
    if digest := manifest.about["stages"]["decontaminate"].get("pairs"):
        data["pairs"] = _pairs(store, digest)
    return validate(data, f"settings of night {manifest.about['night']}")


def _pairs(store: Store, digest: str) -> dict[str, Any]:
    """Return the settings of the set of pairs whose tests were kept out of a night."""
    for path in store.list("pairs"):
        manifest = load_manifest(store, path) if path.endswith("/manifest.json") and path.count("/") == 2 else None
        if manifest and manifest.digest == digest:
            return dict(manifest.about["settings"])
    raise StorageError("the pairs are gone whose tests were kept out of it", where="pairs")


def _render(workspace: Workspace, manifest: Manifest) -> Iterator[Manifest]:
    """Yield the manifest of a report, rendered again."""
    about = manifest.about
    yield write_report(workspace, about.get("night", ""), about.get("model") or None, about.get("tuned") or None)


def _difference(manifest: Manifest, made: list[Manifest]) -> str:
    """Return in what the stages differ from those that a manifest was made by, as far as it tells."""
    here = {"slimpajama": __version__, "pyarrow": pa.__version__}
    then = manifest.about.get("software", here)
    found = [
        f"{name} {here[name]} (then {printable(then.get(name), 40)})" for name in here if then.get(name) != here[name]
    ]
    if "forgotten" in manifest.counts:
        found.append("documents were forgotten since it was made")
    recorded = manifest.about.get("stages", {"report": manifest.about})
    for stage in made:
        now, before = stage.about, recorded.get(stage.name, {})
        differ = sorted(name for name in {*now, *before} if now.get(name) != before.get(name))
        if differ:
            values = (
                f"{name} {printable(now.get(name), 40)} (then {printable(before.get(name), 40)})" for name in differ
            )
            return f"other bytes come out: {'; '.join([*found, f'{stage.name} of ' + ', '.join(values)])}"
    return "; ".join(["other bytes come out", *found])
