"""OpenLineage events of a run and its stages: what was made of what.

A stage's outputs are the folders that its manifest lists. Its inputs are the folders of those manifests whose digest
is in its fingerprint: every manifest that a stage depends on was read or written in this process, so the observer has
met it. A night that is run again tells the same run ids.
"""

from __future__ import annotations

import datetime as dt
import re
import uuid
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from openlineage.client import OpenLineageClient
from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState
from openlineage.client.facet_v2 import (
    error_message_run,
    output_statistics_output_dataset,
    parent_run,
    schema_dataset,
)

from slimpajama import __version__
from slimpajama.core.config import Config
from slimpajama.core.errors import printable
from slimpajama.core.progress import ManifestLike, StageLike
from slimpajama.core.schema import DOCUMENTS, REMOVED, SHARDS
from slimpajama.ops.observe.base import Observer, harmless
from slimpajama.workspace.manifest import FileEntry, json_bytes
from slimpajama.workspace.open import Workspace

PRODUCER = f"urn:slimpajama:{__version__}"
IDS = uuid.uuid5(uuid.NAMESPACE_URL, "urn:slimpajama")
SCHEMAS = {"documents": DOCUMENTS, "removed": REMOVED, "shards": SHARDS}
RETRY = {"total": 1, "connect": 1, "read": 0}
TIMEOUT_S = 5.0
# Where a stage lists files from outside the workspace.
RAW = {"ingest": "inputs", "decontaminate": "evaluations"}
DIGEST = re.compile(rb'"([0-9a-f]{64})"')
# Folders that a stage reads of what it depends on; a night's manifest lists more than any later stage wants.
READS = {
    "clean": r"work/ingest",
    "compare": r"work/clean|minhash|bands|texts",
    "decontaminate": r"work/(clean|compare)|shards/(validation|test)",
    "dedup": r"work/(clean|compare)|removed",
    "segment": r"documents",
    "shards": r"documents|work/segment|tokenizer",
    "train": r"shards/(train|validation)|tokenizer|models/[^/]+",
    "evaluate": r"shards/test|models/[^/]+",
}


def run_id(*parts: str) -> str:
    """Return the run id of a workspace, night and flow or stage: version 5, so the same every time."""
    return str(uuid.uuid5(IDS, "\n".join(parts)))


class Lineage(Observer):
    """Tells an OpenLineage server, or a file, when the run and its stages begin, end or fail.

    Args:
        cfg: `observe.openlineage` says where to; `run.source_root` where relative sources lie.
        workspace: The workspace; its uri is the namespace of the jobs.
        night: The night that the run works on.
        flow: What runs; the job that the stages' runs have as parent.
    """

    name = "openlineage"

    def __init__(self, cfg: Config, workspace: Workspace, night: str, flow: str) -> None:
        self.workspace, self.night, self.flow, self.root = workspace, night, flow, cfg.run.source_root
        self.target = cfg.observe.openlineage
        self.client: OpenLineageClient | None = None
        self.known: dict[str, set[str]] = {}
        self.begun: dict[str, tuple[StageLike, list[InputDataset]]] = {}

    def open(self) -> None:
        self._tell(RunState.START)

    @harmless
    def manifest_read(self, manifest: ManifestLike) -> None:
        self.known[manifest.digest] = set(_folders(manifest.files))
        # Which stages name by its own hash, the same in many nights.
        own = f"nights/{self.night}/tokenizer/"
        self.known |= {entry.sha256: {_folder(entry)} for entry in manifest.files if entry.path.startswith(own)}

    @harmless
    def stage_begun(self, stage: StageLike) -> None:
        self.begun[stage.manifest_path] = stage, self._inputs(stage)
        self._tell(RunState.START, stage)

    @harmless
    def stage_finished(self, stage: StageLike) -> None:
        self._tell(RunState.COMPLETE, stage)
        self.begun.pop(stage.manifest_path, None)
        self.manifest_read(stage.result)

    @harmless
    def close(self, error: BaseException | None) -> None:
        ended = RunState.FAIL if isinstance(error, Exception) else RunState.ABORT
        for stage, _ in self.begun.values():
            self._tell(ended, stage, error)
        self._tell(ended if error else RunState.COMPLETE, None, error)
        if self.client:
            self.client.close()

    @harmless
    def _tell(self, state: RunState, stage: StageLike | None = None, error: BaseException | None = None) -> None:
        run, job, facets = run_id(self.workspace.uri, self.night, self.flow), self.flow, dict[str, Any]()
        inputs: list[InputDataset] = []
        if stage:
            parent = parent_run.Run(run), parent_run.Job(self.workspace.uri, self.flow)
            facets["parent"] = parent_run.ParentRunFacet(*parent, producer=PRODUCER)
            run, job = run_id(self.workspace.uri, self.night, stage.manifest_path), stage.name
            _, inputs = self.begun[stage.manifest_path]
        if error:
            message = error_message_run.ErrorMessageRunFacet(printable(error, 2000), "PYTHON", producer=PRODUCER)
            facets["errorMessage"] = message
        if self.client is None:
            self.client = OpenLineageClient(config={"transport": _transport(self.target)})
        self.client.emit(
            RunEvent(
                eventTime=dt.datetime.now(dt.UTC).isoformat(),
                eventType=state,
                producer=PRODUCER,
                run=Run(run, facets),
                job=Job(self.workspace.uri, job),
                inputs=inputs,
                outputs=self._outputs(stage) if stage and stage.finished else [],
            )
        )

    def _inputs(self, stage: StageLike) -> list[InputDataset]:
        digests = {match.decode() for match in DIGEST.findall(json_bytes(stage.about))}
        wanted = re.compile(rf"(.*/)?({READS.get(stage.name, '.*')})")
        folders = {folder for digest in digests for folder in self.known.get(digest, ()) if wanted.fullmatch(folder)}
        raw = stage.about[RAW[stage.name]] if stage.name in RAW else []
        files = {entry["path"] if "://" in entry["path"] else f"{self.root}/{entry['path']}" for entry in raw}
        uris = {f"{self.workspace.uri}/{folder}" for folder in folders} | {file.rpartition("/")[0] for file in files}
        return [InputDataset(*_name(uri)) for uri in sorted(uris)]

    def _outputs(self, stage: StageLike) -> list[OutputDataset]:
        statistics = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet
        return [
            OutputDataset(
                *_name(f"{self.workspace.uri}/{folder}"),
                facets=_schema(folder),
                outputFacets={
                    "outputStatistics": statistics(
                        rowCount=sum(e.rows for e in files),
                        size=sum(e.bytes for e in files),
                        fileCount=len(files),
                        producer=PRODUCER,
                    )
                },
            )
            for folder, files in _folders(stage.result.files).items()
        ]


def _transport(target: str) -> dict[str, Any]:
    if target.startswith(("http://", "https://")):
        return {"type": "http", "url": target, "timeout": TIMEOUT_S, "retry": RETRY}
    return {"type": "file", "log_file_path": target, "append": True}


def _folder(entry: FileEntry) -> str:
    return entry.path.rpartition("/")[0]


def _folders(files: Iterable[FileEntry]) -> dict[str, list[FileEntry]]:
    found: defaultdict[str, list[FileEntry]] = defaultdict(list)
    for entry in files:
        found[_folder(entry)].append(entry)
    return found


def _schema(folder: str) -> dict[str, Any]:
    """Return the facet with the columns of a folder of Parquet files that users read."""
    kind = folder.split("/")[2] if folder.startswith("nights/") and folder.count("/") > 1 else ""
    if kind not in SCHEMAS:
        return {}
    fields = [schema_dataset.SchemaDatasetFacetFields(one.name, str(one.type)) for one in SCHEMAS[kind]]
    return {"schema": schema_dataset.SchemaDatasetFacet(fields, producer=PRODUCER)}


def _name(uri: str) -> tuple[str, str]:
    """Return namespace and name of a dataset, as OpenLineage's naming has them for files and object stores."""
    scheme, sep, rest = uri.rpartition("::")[2].partition("://")
    if not sep or scheme == "file":
        return "file", rest if sep else uri
    host, _, path = rest.partition("/")
    return f"{scheme}://{host}", path
