"""Refused records that are tried again: a file that an earlier night has read is read once more, for those alone.

What reading refuses depends on the settings of reading and on the reader's version; what cleaning refuses, on
`[clean]`. A night's manifest holds both, and its `removed` says which records were refused. So:

- where a setting of reading or the reader's version has changed, or `--retry` names the source, the records that
  reading refused are tried again;
- with `clean.retry`, where `[clean]` or its version has changed, so are those that cleaning refused.

A record that was accepted is not taken a second time, whatever it reads like by the new settings. What a night has
tried again, the file's entry in its manifest says under `again`; of several nights the newest that tried it counts.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from slimpajama.core.config import Config, without_defaults
from slimpajama.core.config.whole import SOURCE
from slimpajama.corpus.refused import Place, file_of, files_refused, rows_refused
from slimpajama.corpus.sources.archives import NUMBERS
from slimpajama.corpus.sources.discover import InputFile, Key
from slimpajama.corpus.sources.records import RejectedRecord
from slimpajama.workspace import layout
from slimpajama.workspace.manifest import Manifest
from slimpajama.workspace.nights import corpus_settings
from slimpajama.workspace.parquet import read_table
from slimpajama.workspace.store import Store

# What is tried again: records that this step has refused.
READING, CLEANING = "ingest", "clean"
BOTH = (READING, CLEANING)
# Settings of a source, and of all sources, that the reading of a record does not depend on.
_OTHER = {"name", "uri", "priority", "licence", "weight", "epochs"}
_OTHER_OF_ALL = {"sources", "protocols", "part_mb"}
# One refusal by these rules may stand for all records from its place on.
_OPEN = {"unreadable", "truncated", "damaged", "too-large"}
Nights = Mapping[str, Manifest]
Row = dict[str, Any]


def known_inputs(nights: Nights) -> list[Row]:
    """Return the raw files that published nights have read, as `plan` takes them."""
    return [entry for manifest in nights.values() for entry in manifest.depends_on["stages"][READING]["inputs"]]


def to_try_again(store: Store, nights: Nights, cfg: Config, versions: Mapping[str, int]) -> dict[Key, tuple[str, ...]]:
    """Return the known files of which records are tried again, and whether those that `READING` or `CLEANING` refused.

    Args:
        store: Where the nights are.
        nights: Published nights, oldest first.
        cfg: The settings of now.
        versions: Of reading and of cleaning.
    """
    names = {source.name for source in cfg.ingest.sources}
    settings = corpus_settings(cfg)
    now = {step: {"settings": settings[step], "version": versions[step]} for step in BOTH}
    found: dict[Key, set[str]] = {}
    for night, manifest in nights.items():
        then, asked = manifest.depends_on["stages"], set(cfg.run.retry)
        changed = {READING: {name for name in names if _reading(then[READING], name) != _reading(now[READING], name)}}
        if cfg.clean.retry:
            changed[CLEANING] = names if _cleaning(then[CLEANING]) != _cleaning(now[CLEANING]) else set()
        refused = {step: files_refused(store, night, manifest, step, some | asked) for step, some in changed.items()}
        for entry in then[READING]["inputs"]:
            key = _key(entry)
            left = found.pop(key, set()) - set(entry.get("again", BOTH))
            if left := left | {step for step, places in refused.items() if key[:2] in places}:
                found[key] = left
    return {key: tuple(sorted(steps)) for key, steps in found.items()}


def _key(entry: Row) -> Key:
    return entry["source"], entry["path"], entry["sha256"]


def _reading(made: Row, name: str) -> Any:
    """Return what the reading of a source depends on; a setting that a manifest lacks is at its default."""
    of_all = {key: value for key, value in made["settings"].items() if key not in _OTHER_OF_ALL}
    source: Row = next((source for source in made["settings"]["sources"] if source["name"] == name), {})
    own = without_defaults({key: value for key, value in source.items() if key not in _OTHER}, SOURCE)
    return without_defaults({"ingest": of_all}) | {"source": own, "version": made["version"]}


def _cleaning(made: Row) -> Any:
    return without_defaults({"clean": made["settings"]}) | {"version": made["version"]}


@dataclass(slots=True)
class _File:
    """What earlier nights have made of the records of a file that is read again."""

    again: tuple[str, ...]
    """What is tried."""
    refused: set[int] = field(default_factory=set)
    """Numbers of the records that reading refused."""
    is_open: bool = False
    """Whether it may have refused others, too, whose numbers are not known."""
    cleaned: set[str] = field(default_factory=set)
    """Ids and uris of those that cleaning refused."""
    met: set[str] = field(default_factory=set)
    """Ids and uris of those that came in and are not tried again; filled where the others do not suffice."""

    def takes(self, number: int, doc_id: str, uri: str) -> bool:
        """Return whether a record comes in."""
        if READING in self.again and number in self.refused:
            return True
        is_new = (self.is_open and uri not in self.met) or doc_id in self.cleaned or uri in self.cleaned
        return is_new and doc_id not in self.met

    def tells(self, path: str, number: str) -> bool:
        """Return whether a refusal, of one record or without a number of the rest of the file, goes on record."""
        if READING not in self.again:
            return False
        if not number or int(number) in self.refused or (self.is_open and f"{path}#{number}" not in self.met):
            return True
        block, within = divmod(int(number), NUMBERS)
        return not within and any(other // NUMBERS == block for other in self.refused)


class Earlier:
    """What earlier nights have made of the files that are read again; it says which of their records come in.

    Args:
        store: Where the nights are.
        nights: Published nights, oldest first.
        files: What is read; those with nothing to try again play no part.
    """

    def __init__(self, store: Store, nights: Nights, files: Iterable[InputFile]) -> None:
        again = {file.key: file.again for file in files if file.again}
        self._files = {key[:2]: _File(steps) for key, steps in again.items()}
        having: list[tuple[str, Manifest, dict[Place, Iterable[str]]]] = []
        for night, manifest in nights.items() if again else ():
            listed = ((_key(entry), entry) for entry in manifest.depends_on["stages"][READING]["inputs"])
            here = {key[:2]: entry.get("again", BOTH) for key, entry in listed if key in again}
            having += [(night, manifest, here)] if here else []
        for night, manifest, here in having:
            self._learn_refused(store, night, manifest, here)
        for night, manifest, here in having:
            self._learn_met(store, night, manifest, here)

    def _learn_refused(self, store: Store, night: str, manifest: Manifest, here: Mapping[Place, Iterable[str]]) -> None:
        """Take note of what a night has refused; it replaces what the nights before did where the night tried that."""
        came_in = manifest.counts[READING].get("documents", {})
        for place, steps in here.items():
            file = self._files[place]
            if READING in steps:
                # Where nothing came in of the whole source, no list of numbers is needed.
                file.refused, file.is_open = set(), READING in file.again and not came_in.get(place[0])
            if CLEANING in steps:
                file.cleaned = set()
        numbered = {place for place in here if READING in self._files[place].again and not self._files[place].is_open}
        for place, row in rows_refused(store, night, manifest, READING, numbered):
            file, number = self._files[place], row["uri"][len(place[1]) + 1 :]
            file.refused |= {int(number)} if number else set()
            # The first number of a block stands for a whole file in an archive.
            file.is_open |= not int(number or 0) % NUMBERS or row["rule"] in _OPEN
        cleaned = {place for place in here if CLEANING in self._files[place].again}
        for place, row in rows_refused(store, night, manifest, CLEANING, cleaned):
            self._files[place].cleaned |= {row["id"], row["uri"]}

    def _learn_met(self, store: Store, night: str, manifest: Manifest, here: Iterable[Place]) -> None:
        """Take note of the records that came in, where it is not known by number which did not."""
        came_in, paths = manifest.counts[READING].get("documents", {}), dict[str, set[str]]()
        for place in here:
            if came_in.get(place[0]) and (self._files[place].is_open or self._files[place].cleaned):
                paths.setdefault(place[0], set()).add(place[1])
        folder = layout.night(night)
        for entry in [*manifest.entries(folder.documents), *manifest.entries(folder.removed)] if paths else ():
            if entry.path.startswith(f"{folder.removed}{READING}-"):
                continue
            for row in read_table(store, entry, ["id", "source", "uri"]).to_pylist():
                if path := file_of(row["uri"], paths.get(row["source"], ())):
                    file = self._files[row["source"], path]
                    file.met |= {row["id"], row["uri"]} - file.cleaned

    def admit(
        self, file: InputFile, numbers: pa.Array, records: pa.Table, rejected: list[RejectedRecord]
    ) -> tuple[pa.Table, list[RejectedRecord]]:
        """Return what comes in of a batch: of the records, a table of schema RAW, and of the refusals."""
        if not file.again:
            return records, rejected
        known = self._files[file.key[:2]]
        rows = zip(numbers.to_pylist(), records["id"].to_pylist(), records["uri"].to_pylist(), strict=True)
        comes_in = pa.array([known.takes(*row) for row in rows], pa.bool_())
        numbered = ((bad, bad.place.rpartition(" ")[2]) for bad in rejected)
        return records.filter(comes_in), [bad for bad, number in numbered if known.tells(file.path, number)]
