"""A night: its folders, its publication, and what earlier nights left behind.

Stages work under `nights/NIGHT/work` and write their outcome beside it. `publish` sweeps away what no
manifest lists, writes `manifest.json`, adds the night to the index and drops the work folder. Only nights in
the index exist for anyone else.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from slimpajama import __version__
from slimpajama.core.config import Config, fingerprint
from slimpajama.core.errors import ConfigError, InputError, LockedError, StorageError
from slimpajama.core.progress import say
from slimpajama.workspace.manifest import FileEntry, Manifest, forget, json_bytes, load_manifest
from slimpajama.workspace.store import CHECK, Store, parsed_json

INDEX = "nights/index.json"
# What a night's files depend on.
CORPUS_SETTINGS = ("ingest", "clean", "dedup", "decontaminate", "text", "tokenizer", "shards")
STAGES = ("ingest", "clean", "compare", "decontaminate", "dedup", "segment", "tokenizer", "shards")
"""Of a preparation, in order."""

_ID = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")


def work_folder(night: str, stage: str) -> str:
    """Return the folder that a stage of an unpublished night works in."""
    return f"nights/{night}/work/{stage}"


def published_nights(store: Store) -> list[str]:
    """Return the published nights, oldest first."""
    return _index(store)[0]


def _index(store: Store) -> tuple[list[str], str]:
    data, version = store.read_versioned(INDEX)
    found = parsed_json(data, f"{store.uri}/{INDEX}") if data is not None else {"nights": []}
    nights = found.get("nights") if isinstance(found, dict) else None
    if not isinstance(nights, list) or not all(isinstance(night, str) and _ID.match(night) for night in nights):
        raise StorageError("not a list of nights", where=f"{store.uri}/{INDEX}", hint=CHECK)
    return nights, version


def load_night(store: Store, night: str) -> Manifest:
    """Return a published night's manifest."""
    manifest = load_manifest(store, f"nights/{night}/manifest.json")
    if manifest is None:
        raise InputError(
            "no such night", where=f"{store.uri}/nights/{night}", hint="`slimpajama nights` lists what there is."
        )
    return manifest


def open_nights(store: Store) -> list[str]:
    """Return nights that were begun and not published, in order of their names."""
    names = {path.split("/")[1] for path in store.list("nights/") if path.count("/") >= 2}
    return sorted(names - set(published_nights(store)))


def choose_night(store: Store, wanted: str = "", today: dt.date | None = None) -> str:
    """Return the night of a whole lifecycle: the one asked for, one that was begun and not finished, or today's in UTC.

    A night is finished when its report is. Today's name gets a suffix where it is taken: `2026-11-23.2`.
    """
    published = published_nights(store)
    unfinished = published and not store.exists(f"reports/{published[-1]}/manifest.json")
    return _choose(store, wanted, published, published[-1] if unfinished else "", today)


def choose_preparation(store: Store, wanted: str = "", today: dt.date | None = None) -> str:
    """Return the night that a preparation alone works on: as `choose_night`, but a published night is finished.

    So nights can be prepared one after the other without a model; a publication that was broken off is completed.
    """
    published = published_nights(store)
    unfinished = published and store.list(f"nights/{published[-1]}/work")
    return _choose(store, wanted, published, published[-1] if unfinished else "", today)


def _choose(store: Store, wanted: str, published: list[str], unfinished: str, today: dt.date | None) -> str:
    if wanted:
        if not _ID.match(wanted):
            raise ConfigError("not a night's name", where="--night", found=wanted, expected="letters, digits, . _ -")
        return wanted
    if begun := open_nights(store):
        return begun[0]
    if unfinished:
        return unfinished
    day = (today or dt.datetime.now(dt.UTC).date()).isoformat()
    names = (day if number == 1 else f"{day}.{number}" for number in range(1, len(published) + 2))
    return next(name for name in names if name not in published)


def choose_published(store: Store, wanted: str = "") -> str:
    """Return the published night asked for, or the newest."""
    published = published_nights(store)
    if not published or (wanted and wanted not in published):
        raise InputError(
            "no such night" if published else "nothing is published yet",
            where=f"{store.uri}/nights",
            found=wanted,
            hint="`slimpajama nights` lists what there is." if published else "Run `slimpajama prepare` first.",
        )
    return wanted or published[-1]


def begin_at(store: Store, night: str, stage: str) -> None:
    """Forget what an unpublished night has made from a stage on, so that it is made again.

    A changed setting needs no such word: what depends on it is made again by itself.

    Raises:
        ConfigError: If there is no such stage.
        InputError: If the night is published.
    """
    if stage not in STAGES:
        raise ConfigError("no such stage", where="--from", expected=", ".join(STAGES), found=stage)
    if load_manifest(store, f"nights/{night}/manifest.json"):
        raise InputError(
            "the night is published and never changes",
            where=f"night {night}",
            found=f"--from {stage}",
            hint="A night that is not published yet can be begun at a stage; name a new one with --night.",
        )
    for name in STAGES[STAGES.index(stage) :]:
        forget(store, work_folder(night, name))


def require_documents(store: Store, night: str, documents: Manifest) -> bool:
    """Return whether the deduplication left documents to go on with.

    None is normal for a later night: all that came in was known or too poor.

    Raises:
        InputError: If this is the workspace's first night: then something is wrong with the sources.
    """
    left = bool(documents.paths(f"nights/{night}/documents/"))
    if not left and not published_nights(store):
        raise InputError(
            "no document is left",
            where=f"{store.uri}/nights/{night}",
            found=json.dumps(documents.counts),
            hint="See its removed/*.parquet, the sources' uri and text_field, and the rules of [clean]."
            " Nothing was published.",
        )
    return left


def publish(store: Store, night: str, stages: list[Manifest], cfg: Config) -> Manifest:
    """Write the night's manifest over those of its stages, add the night to the index, drop its work folder.

    Every step may be repeated: a kill in between leaves nothing that `finish_publication` does not mend.
    """
    folder = f"nights/{night}/"
    files = [e for stage in stages for e in stage.files if not e.path.startswith(f"{folder}work/")]
    files.sort(key=lambda entry: entry.path)
    # Written under other settings by a run that did not finish.
    drop_unlisted(store, night, files, besides="work/")
    about = json.loads(json_bytes(_about(store, night, stages, cfg)))
    counts = {stage.name: stage.counts for stage in stages}
    manifest = Manifest("night", fingerprint([stage.digest for stage in stages]), tuple(files), counts, about)
    store.write(f"{folder}manifest.json", json_bytes(manifest))
    _append_to_index(store, night)
    store.delete_tree(f"{folder}work")
    return manifest


def drop_unlisted(store: Store, night: str, files: Iterable[FileEntry], besides: str) -> None:
    """Delete what of a night's folder is neither among `files` nor begins with `besides`."""
    folder = f"nights/{night}/"
    listed = {entry.path for entry in files}
    for path in store.list(folder):
        if path not in listed and not path.startswith(f"{folder}{besides}"):
            store.delete(path)


def finish_publication(store: Store, night: str, cfg: Config) -> Manifest | None:
    """Return the manifest of a night that was written before, its publication completed, or None.

    Raises:
        InputError: If the night was made with other settings: what is published never changes.
    """
    manifest = load_manifest(store, f"nights/{night}/manifest.json")
    if manifest is None:
        return None
    changed = [name for name, value in _settings(cfg).items() if manifest.about["settings"].get(name, value) != value]
    if changed:
        raise InputError(
            "the night is published and never changes",
            where=f"night {night}",
            found=f"other settings of {', '.join(changed)}",
            hint="Leave --night out, or name a new one.",
        )
    _append_to_index(store, night)
    store.delete_tree(f"nights/{night}/work")
    say("prepare", f"night {night} is published, skipped")
    return manifest


def discard(store: Store, night: str) -> None:
    """Forget a night that was begun and found nothing to read."""
    store.delete_tree(f"nights/{night}")


def _settings(cfg: Config) -> dict[str, Any]:
    settings = json.loads(json_bytes(cfg))
    del settings["dedup"]["memory_mb"]  # changes no byte
    return {name: settings[name] for name in CORPUS_SETTINGS}


def _about(store: Store, night: str, stages: list[Manifest], cfg: Config) -> dict[str, Any]:
    return {
        "night": night,
        "earlier": [name for name in published_nights(store) if name != night],
        "settings": _settings(cfg),
        "stages": {stage.name: stage.about for stage in stages},
        "software": {"slimpajama": __version__, "pyarrow": pa.__version__},
    }


def _append_to_index(store: Store, night: str) -> None:
    for _ in range(20):
        nights, version = _index(store)
        if night in nights or store.swap(INDEX, json_bytes({"nights": [*nights, night]}), version):
            return
    raise LockedError("the list of nights keeps changing under this run", where=INDEX, hint="Run again.")
