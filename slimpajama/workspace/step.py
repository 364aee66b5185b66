"""A step is a value, and one runner holds what all of them share: how a step runs, resumes and ends.

A step maps functions over units of work. What a unit makes is written file by file, then its marker is; a unit with
a marker is never done again. When all are there, the step's manifest is written, last. Its fingerprint covers
settings, inputs, the step's version and the libraries that change its output, so:

    same fingerprint, manifest there      -> finished, skip
    same fingerprint, only some markers   -> continue
    another fingerprint                   -> forget what was begun, start again

A kill at any moment costs the units in flight and changes no byte of the outcome.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pyarrow as pa

from slimpajama.core.config import Config, fingerprint
from slimpajama.core.errors import StorageError
from slimpajama.core.memory import configure_allocator, release_memory
from slimpajama.core.progress import current, stage, track
from slimpajama.core.result import Result
from slimpajama.core.stopping import Pool
from slimpajama.workspace import layout
from slimpajama.workspace.catalogue import note, write_manifest
from slimpajama.workspace.claims import ShareDone, assigned_keys, executor
from slimpajama.workspace.manifest import Counts, FileEntry, Manifest, add_counts, entry_of, json_bytes, load_manifest
from slimpajama.workspace.open import Workspace
from slimpajama.workspace.parquet import parquet_bytes
from slimpajama.workspace.store import if_whole, read_json, sealed

T = TypeVar("T")


@dataclass(slots=True)
class Part:
    """What one unit of work makes."""

    files: dict[str, pa.Table | bytes] = field(default_factory=dict)
    """Path in the workspace -> content; a table is written as Parquet, an empty table is left out."""
    counts: Counts = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    """Rows of those Parquet files that are given as bytes."""


@dataclass(frozen=True, slots=True)
class Context:
    """What a step runs in."""

    workspace: Workspace
    cfg: Config
    night: str


def in_night(run: "Run") -> tuple[str, str]:
    """Place a step inside the night that it prepares: its manifest stays there until the night is published."""
    work = layout.night(run.night).work(run.name)
    return work, f"{work}/{layout.MANIFEST}"


@dataclass(frozen=True, slots=True)
class OnNight:
    """How a step works on a night that is published."""

    run: Callable[[Context, str], Result]
    """Runs the step, given the model that it works on."""
    flow: str
    """The flow that it is a part of; steps of one flow stand beside each other."""
    model: str = "night"
    """Which model it works on where none is named: that of the `night`, or the `champion`; empty lets `run` choose."""
    wanted: Callable[[Config, Mapping[str, Any]], bool] = lambda cfg, reports: True
    """Says whether the nightly run has it, given what the steps before it reported, by their names."""

    def start(self, context: Context, model: str = "") -> Result:
        """Run the step on the model that is named, or else on its own.

        Raises:
            ModelError: If there is no such model.
        """
        models = context.workspace.models
        if self.model == "night":
            model = models.of_night(context.night, model)
        elif self.model == "champion":
            model = model or models.require_champion()
        return self.run(context, model)


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a night."""

    name: str
    """For people, for its folder, and for the manifest of the night."""
    version: int
    """Raise it when the same inputs give other bytes."""
    inputs: Callable[["Run"], dict[str, Any]]
    """Returns what else the bytes depend on: settings, libraries, files."""
    make: Callable[["Run"], Counts | None]
    """Does the work by `run.map` and `run.commit`; returns counts to take instead of the sum of the units'."""
    needs: Mapping[str, str] = field(default_factory=dict)
    """Key under which a digest enters the fingerprint -> the step whose manifest it is of."""
    reads: tuple[str, ...] = ()
    """Further steps whose manifests it reads; what it takes of them it names in its inputs."""
    place: Callable[["Run"], tuple[str, str]] = in_night
    """Returns the folder that it alone uses while it runs, and the path of its manifest."""
    tidy: Callable[["Run"], None] | None = None
    """Called once the manifest stands, again at each later run: removes what only a broken run would need, or says what
    the step has lost."""
    grows_with: str = "once"
    """What its cost grows with: `text`, `cleaned` or `kept` bytes, or `once` for none of them."""
    folders: str = ".*"
    """Regular expression of the folders that it reads of what it depends on: a night lists more than a step wants."""
    raw: str = ""
    """Key of its inputs that lists files from outside the workspace; empty where it reads none."""
    on_night: OnNight | None = None
    """How it works on a published night; None for a step of the preparation, which makes one."""

    def before(self) -> tuple[str, ...]:
        """Return the steps whose manifests it takes, in order."""
        return tuple(dict.fromkeys([*self.needs.values(), *self.reads]))


class Run:
    """One run of one step.

    Args:
        made: Manifests of the steps before, by their names.
        options: What else the caller decides, such as the model that is measured.
    """

    def __init__(
        self, step: Step, context: Context, made: Mapping[str, Manifest] | None = None, **options: Any
    ) -> None:
        self.step, self.context, self.made, self.options = step, context, made or {}, options
        self.name, self.cfg, self.night = step.name, context.cfg, context.night
        self.workspace, self.store = context.workspace, context.workspace.store
        self._computed: dict[Callable[[Run], Any], Any] = {}
        self._parts: dict[str, dict[str, Any]] = {}
        self._manifest: Manifest | None = None
        self.replaced: Manifest | None = None
        """What an earlier run made of other inputs, or of these; known when the step has begun."""
        self.skipped = False
        """Whether an earlier run finished it."""
        digests = {key: self.made[name].digest for key, name in step.needs.items()}
        self.depends_on: dict[str, Any] = json.loads(
            json_bytes({"version": step.version} | step.inputs(self) | digests)
        )
        self.fingerprint = fingerprint(step.name, self.depends_on)
        self.work, self.manifest_path = step.place(self)

    def once(self, compute: Callable[["Run"], T]) -> T:
        """Return what `compute` makes of this run; it is asked once, however often its answer is."""
        if compute not in self._computed:
            self._computed[compute] = compute(self)
        found: T = self._computed[compute]
        return found

    @property
    def finished(self) -> bool:
        """Whether everything was written by an earlier run, or by this one."""
        return self._manifest is not None

    @property
    def resumed(self) -> bool:
        """Whether units are committed; asked when the step begins: by an earlier run."""
        return bool(self._parts)

    @property
    def result(self) -> Manifest:
        """The manifest of the finished step."""
        if self._manifest is None:
            raise RuntimeError(f"step {self.name} is not finished")
        return self._manifest

    def begin(self) -> None:
        """Find what earlier runs have made: all of it, some units, or nothing that counts.

        Raises:
            StorageError: If this process makes some keys of a step that another one runs, and would make other bytes.
        """
        published = layout.is_published_manifest(self.manifest_path)
        found = (load_manifest if published else if_whole(load_manifest))(self.store, self.manifest_path)
        self.replaced = found
        if found and found.fingerprint == self.fingerprint:
            self._manifest, self.skipped = found, True
            if published:
                # A kill may have come between the two.
                note(self.store, self.manifest_path)
            self._drop_work()
            return
        state = f"{self.work}/state.json"
        begun = (
            (if_whole(read_json)(self.store, state) or {}).get("fingerprint", "") if self.store.exists(state) else ""
        )
        if begun == self.fingerprint:
            self._read_parts()
        elif assigned_keys() is not None:
            raise StorageError(
                f"this worker would not make the same {self.name}",
                where=f"{self.store.uri}/{state}",
                expected=f"fingerprint {begun or 'of a step that runs'}",
                found=self.fingerprint,
                hint="Give every worker the same code, libraries and files: the requirements.lock of one commit.",
            )
        else:
            # A run that stood still may be here although another one holds the lease.
            if not self.store.is_fenced:
                self.store.delete_tree(self.work)
            self.store.write(state, sealed(json_bytes({"fingerprint": self.fingerprint})))
        current().step_begun(self)

    def _read_parts(self) -> None:
        for path in self.store.list(f"{self.work}/parts/"):
            key = layout.stem(path)
            if key in self._parts:
                continue
            # Of units that are not assigned to this process it is enough to know that they are there, and their names.
            if self.store.is_fenced or key in (assigned_keys() or {key}):
                self._read_part(key)
            else:
                self._parts[key] = {}

    def _read_part(self, key: str) -> None:
        path = f"{self.work}/parts/{key}.json"
        part = if_whole(read_json)(self.store, path)
        # Versions before 0.2 wrote no fingerprint.
        if part is not None and part.get("fingerprint", self.fingerprint) == self.fingerprint:
            self._parts[key] = part
            self.store.learn(path, ((entry["path"], entry["sha256"]) for entry in part.get("files", ())))

    def map(
        self,
        units: Sequence[tuple[str, T]],
        make: Callable[[T], Part],
        *,
        total: float = 0.0,
        unit: str = "",
        amount: Callable[[T], float] | None = None,
        done: Callable[[T], None] | None = None,
        workers: int = 0,
    ) -> list[Counts]:
        """Run `make` for each unit that has no marker yet and commit what it returns; others may help.

        Args:
            units: Key (a file name without extension) and argument of each unit, in output order.
            make: Pure in the workspace's eyes: reads, computes, returns a `Part`. Called from threads.
            total: Amount of all units, for the progress that is shown; 0 counts the units.
            unit: What is counted; empty shows no progress.
            amount: Of one unit; None where all have the same.
            done: Called with each unit's argument as soon as it is committed or found committed.
            workers: Threads; 0 takes those of the configuration. The outcome does not depend on it.

        Returns:
            Counts of each unit, in the order of `units`.
        """
        workers = workers or self.cfg.run.threads()
        if not unit:
            return self._map(units, make, workers, done or (lambda _: None))
        total = total or len(units)
        with track(self.name, total=total, unit=unit) as bar:

            def advance(argument: T) -> None:
                bar.advance(amount(argument) if amount else total / len(units))
                if done:
                    done(argument)

            return self._map(units, make, workers, advance)

    def _map(
        self, units: Sequence[tuple[str, T]], make: Callable[[T], Part], workers: int, done: Callable[[T], None]
    ) -> list[Counts]:
        if (keys := assigned_keys()) is not None:
            # A worker's slot is one thread.
            units, workers = [(key, argument) for key, argument in units if key in keys], 1
        notified = set() if keys is not None else self._let_help(dict(units), done)

        def run(item: tuple[str, T]) -> Counts:
            key, argument = item
            if key not in self._parts:
                self.commit(key, make(argument))
            if key not in notified:
                done(argument)
            return dict(self._parts[key]["counts"])

        with Pool(workers, self.name) as pool:
            futures = [pool.submit(run, item) for item in units]
            try:
                # The first error ends the step; committed units stay.
                counts = [future.result() for future in futures]
            finally:
                release_memory()
        if keys is not None and units:
            raise ShareDone
        return counts

    def _let_help(self, units: dict[str, T], done: Callable[[T], None]) -> set[str]:
        """Let others make what they can of the units without a marker; return the keys that `done` was called for."""
        notified: set[str] = set()
        remaining = [key for key in units if key not in self._parts]
        others = executor()
        if others is None or len(remaining) < 2:
            return notified
        for keys in others(self.name, remaining):
            notified.update(keys)
            for key in keys:
                done(units[key])
        self._read_parts()
        return notified

    def commit(self, key: str, part: Part) -> None:
        """Write a unit's files, then its marker."""
        entries = []
        for path, content in part.files.items():
            rows = content.num_rows if isinstance(content, pa.Table) else part.rows.get(path, 0)
            if isinstance(content, pa.Table) and rows == 0:
                continue
            intermediate = path.startswith(f"{self.work}/")
            data = parquet_bytes(content, intermediate=intermediate) if isinstance(content, pa.Table) else content
            entries.append(entry_of(path, data, rows))
            self.store.write_listed(path, data, entries[-1].sha256)
        self.keep(key, entries, part.counts)

    def keep(self, key: str, entries: Sequence[FileEntry], counts: Counts) -> None:
        """Write the marker of a unit whose files are there; so are those that the `replaced` manifest lists."""
        record = json.loads(json_bytes({"fingerprint": self.fingerprint, "files": entries, "counts": counts}))
        self.store.write(f"{self.work}/parts/{key}.json", sealed(json_bytes(record)))
        self._parts[key] = record

    def has(self, key: str) -> bool:
        """Whether a unit is committed."""
        return key in self._parts

    def part_files(self, key: str) -> list[FileEntry]:
        """Return the files of a committed unit."""
        if not self._parts[key]:
            self._read_part(key)
        return [FileEntry(**entry) for entry in self._parts[key]["files"]]

    def finish(self, counts: Counts | None = None) -> Manifest:
        """Write the manifest over all committed units: from here on the step is finished.

        Args:
            counts: Taken instead of the sum of the units' counts.
        """
        keys = sorted(self._parts)
        files = sorted((entry for key in keys for entry in self.part_files(key)), key=lambda entry: entry.path)
        total = add_counts(self._parts[key]["counts"] for key in keys) if counts is None else counts
        manifest = Manifest(self.name, self.fingerprint, tuple(files), json.loads(json_bytes(total)), self.depends_on)
        write_manifest(self.store, self.manifest_path, manifest)
        self._manifest = manifest
        self._drop_replaced()
        self._drop_work()
        release_memory()
        current().step_finished(self)
        return manifest

    def _drop_replaced(self) -> None:
        """Delete what the manifest before listed and none lists now: on a disk nothing, for it was written over."""
        if self.replaced and self.store.is_fenced and layout.is_published_manifest(self.manifest_path):
            now = load_manifest(self.store, self.manifest_path)
            before, listed = (
                {self.store.name(entry.path, entry.sha256) for entry in manifest.files} if manifest else set()
                for manifest in (self.replaced, now)
            )
            for name in before - listed:
                self.store.delete(name)

    def _drop_work(self) -> None:
        if not self.manifest_path.startswith(f"{self.work}/"):
            # The manifest has taken over.
            self.store.delete_tree(self.work)


def run_step(step: Step, context: Context, made: Mapping[str, Manifest] | None = None, **options: Any) -> Run:
    """Run a step to its end: skip it where it is finished, go on where it was broken off.

    Args: As of `Run`.

    Returns:
        The finished run; `result` is the step's manifest.
    """
    configure_allocator()
    run = Run(step, context, made, **options)
    with stage(step.name) as shown:
        run.begin()
        shown.skipped |= run.finished
        if not run.finished:
            run.finish(step.make(run))
        if step.tidy:
            step.tidy(run)
    return run
