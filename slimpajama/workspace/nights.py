"""Nights: which there are, how one is chosen and published, and what earlier ones left behind.

Steps work under `nights/NIGHT/work` and write their outcome beside it. `publish` writes `manifest.json`, adds the night
to the index, sweeps away what the manifest does not list and drops the work folder. Only nights in the index exist for
anyone else.
"""

import contextlib
import datetime as dt
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from slimpajama import __version__
from slimpajama.core.config import Config, fingerprint, without_defaults
from slimpajama.core.errors import ConfigError, InputError, LockedError, StorageError
from slimpajama.core.logs import step_log
from slimpajama.workspace import layout
from slimpajama.workspace.catalogue import delete_unlisted, note, read_pointer, swap_pointer, write_manifest
from slimpajama.workspace.manifest import Manifest, json_bytes, load_manifest
from slimpajama.workspace.store import CHECK, Store

# A model's name begins with its night's.
MAX_NAME = 64
# What a night's files depend on.
CORPUS_SETTINGS = ("ingest", "clean", "dedup", "decontaminate", "text", "tokenizer", "shards")


@dataclass(frozen=True, slots=True)
class Nights:
    """The nights of a workspace."""

    store: Store

    def published(self) -> list[str]:
        """Return the published nights, oldest first."""
        return self._index()[0]

    def load(self, night: str) -> Manifest:
        """Return a published night's manifest.

        Raises:
            InputError: If it is not published.
        """
        manifest = load_manifest(self.store, layout.night(night).manifest)
        if manifest is None:
            raise InputError(
                "no such night",
                where=f"{self.store.uri}/{layout.night(night).path}",
                hint="`slimpajama nights` lists what there is.",
            )
        return manifest

    def manifests(self) -> dict[str, Manifest]:
        """Return the manifests of the published nights, oldest first."""
        return {name: self.load(name) for name in self.published()}

    def earlier(self, night: str) -> dict[str, Manifest]:
        """Return the manifests of the published nights but this one, oldest first."""
        return {name: self.load(name) for name in self.published() if name != night}

    def begun(self) -> list[str]:
        """Return nights that were begun and not published, in order of their names."""
        places = (layout.place(path) for path in self.store.list("nights"))
        return sorted({place.owner for place in places if place.kind} - set(self.published()))

    def choose(self, wanted: str = "", today: dt.date | None = None) -> str:
        """Return the night of a lifecycle: the one asked for, one that was begun and not finished, or today's in UTC.

        A night is finished when its report is. Today's name gets a suffix where it is taken: `2026-11-23.2`.
        """
        return self._choose(wanted, today, lambda newest: not self.store.exists(layout.report(newest).manifest))

    def choose_preparation(self, wanted: str = "", today: dt.date | None = None) -> str:
        """Return the night that a preparation alone works on: as `choose`, but a published night is finished.

        So nights can be prepared one after the other without a model; a publication that was broken off is completed.
        """
        return self._choose(wanted, today, lambda newest: bool(self.store.list(layout.night(newest).work())))

    def _choose(self, wanted: str, today: dt.date | None, is_unfinished: Callable[[str], bool]) -> str:
        published = self.published()
        if wanted:
            if not layout.is_name(wanted) or len(wanted) > MAX_NAME:
                expected = f"at most {MAX_NAME} of letters, digits, . _ -, and none of {', '.join(layout.RESERVED)}"
                raise ConfigError("not a night's name", where="--night", found=wanted, expected=expected)
            return wanted
        if begun := self.begun():
            return begun[0]
        if published and is_unfinished(published[-1]):
            return published[-1]
        day = (today or dt.datetime.now(dt.UTC).date()).isoformat()
        names = (day if number == 1 else f"{day}.{number}" for number in range(1, len(published) + 2))
        return next(name for name in names if name not in published)

    def choose_published(self, wanted: str = "") -> str:
        """Return the published night asked for, or the newest.

        Raises:
            InputError: If there is none.
        """
        published = self.published()
        if not published or (wanted and wanted not in published):
            raise InputError(
                "no such night" if published else "nothing is published yet",
                where=f"{self.store.uri}/nights",
                found=wanted,
                hint="`slimpajama nights` lists what there is." if published else "Run `slimpajama prepare` first.",
            )
        return wanted or published[-1]

    def begin_at(self, night: str, step: str, steps: Sequence[str]) -> None:
        """Forget what an unpublished night has made from a step on, so that it is made again.

        A changed setting needs no such word: what depends on it is made again by itself.

        Args:
            steps: Names of a preparation's steps, in order.

        Raises:
            ConfigError: If there is no such step.
            InputError: If the night is published.
        """
        if step not in steps:
            raise ConfigError("no such step", where="--from", expected=", ".join(steps), found=step)
        if load_manifest(self.store, layout.night(night).manifest):
            raise InputError(
                "the night is published and never changes",
                where=f"night {night}",
                found=f"--from {step}",
                hint="A night that is not published yet can be begun at a step; name a new one with --night.",
            )
        for name in steps[steps.index(step) :]:
            self.store.give_up(layout.night(night).work(name))

    def publish(self, night: str, steps: list[Manifest], cfg: Config) -> Manifest:
        """Write the night's manifest over those of its steps, add the night to the index, drop its work folder.

        Each of these may be repeated: after a kill in between, `finish_publication` does the rest.
        """
        place = layout.night(night)
        files = [e for step in steps for e in step.files if not e.path.startswith(f"{place.work()}/")]
        files.sort(key=lambda entry: entry.path)
        depends_on = json.loads(json_bytes(self._depends_on(night, steps, cfg)))
        counts = {step.name: step.counts for step in steps}
        manifest = Manifest("night", fingerprint([step.digest for step in steps]), tuple(files), counts, depends_on)
        write_manifest(self.store, place.manifest, manifest)
        self._append_to_index(night)
        # It is published; whoever has taken the workspace over meanwhile does the rest.
        with contextlib.suppress(LockedError):
            self.drop_unlisted(night)
        return manifest

    def drop_unlisted(self, night: str) -> None:
        """Delete what a published night's manifest does not list: written by runs that did not finish, or replaced.

        Its index stays, which has a manifest of its own.
        """
        place = layout.night(night)
        foreign = f"{place.work()}/", place.index.within("")
        delete_unlisted(self.store, place, lambda: self.load(night), lambda path: path.startswith(foreign))
        self.store.delete_tree(place.work())

    def finish_publication(self, night: str, cfg: Config) -> Manifest | None:
        """Return the manifest of a night that was written before, its publication completed, or None.

        Raises:
            InputError: If the night was made with other settings: what is published never changes.
        """
        place = layout.night(night)
        manifest = load_manifest(self.store, place.manifest)
        if manifest is None:
            return None
        before = without_defaults(manifest.depends_on["settings"])
        now = without_defaults(corpus_settings(cfg))
        changed = [name for name in CORPUS_SETTINGS if name in manifest.depends_on["settings"]]
        changed = [name for name in changed if now.get(name) != before.get(name)]
        if changed:
            raise InputError(
                "the night is published and never changes",
                where=f"night {night}",
                found=f"other settings of {', '.join(changed)}",
                hint="Leave --night out, or name a new one.",
            )
        note(self.store, place.manifest)
        self._append_to_index(night)
        self.drop_unlisted(night)
        step_log("prepare").info(f"night {night} is published, skipped")
        return manifest

    def discard(self, night: str) -> None:
        """Forget a night that was begun and found nothing to read."""
        self.store.give_up(layout.night(night).path)

    def _index(self) -> tuple[list[str], str]:
        found, version = read_pointer(self.store, layout.NIGHTS_INDEX, {"nights": []})
        nights = found.get("nights") if isinstance(found, dict) else None
        if not isinstance(nights, list) or not all(
            isinstance(night, str) and layout.NAME.fullmatch(night) for night in nights
        ):
            raise StorageError("not a list of nights", where=f"{self.store.uri}/{layout.NIGHTS_INDEX}", hint=CHECK)
        return nights, version

    def _append_to_index(self, night: str) -> None:
        for _ in range(20):
            nights, version = self._index()
            content = {"nights": [*nights, night]}
            if night in nights or swap_pointer(self.store, layout.NIGHTS_INDEX, content, version):
                # A kill may have come between the two.
                note(self.store, layout.NIGHTS_INDEX)
                return
        raise LockedError(
            "the list of nights keeps changing under this run", where=layout.NIGHTS_INDEX, hint="Run again."
        )

    def _depends_on(self, night: str, steps: list[Manifest], cfg: Config) -> dict[str, Any]:
        return {
            "night": night,
            "earlier": [name for name in self.published() if name != night],
            "settings": corpus_settings(cfg),
            "stages": {step.name: step.depends_on for step in steps},
            "software": {"slimpajama": __version__, "pyarrow": pa.__version__},
        }


def corpus_settings(cfg: Config) -> dict[str, Any]:
    """Return the settings that a night's files depend on, as its manifest holds them."""
    settings = json.loads(json_bytes(cfg))
    # What these change is no byte, or stands beside the files that are read again.
    for section, name in (("dedup", "memory_mb"), ("ingest", "require_files"), ("clean", "retry")):
        del settings[section][name]
    return {name: settings[name] for name in CORPUS_SETTINGS}
