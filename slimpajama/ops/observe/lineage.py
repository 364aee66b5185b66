"""OpenLineage events of a run and its steps: what was made of what.

A step's outputs are the folders that its manifest lists; its inputs are folders of the manifests that it depends on.
A night that is run again has the same run ids.
"""

import datetime as dt
import uuid
from collections import defaultdict
from typing import Any

from openlineage.client import OpenLineageClient
from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState
from openlineage.client.facet_v2 import error_message_run, output_statistics_output_dataset, parent_run, schema_dataset

from slimpajama import __version__
from slimpajama.core.errors import printable
from slimpajama.core.schema import DOCUMENTS, REMOVED, SHARDS
from slimpajama.ops.observe.reader import Reader, StepRun
from slimpajama.workspace import layout
from slimpajama.workspace.manifest import FileEntry, Manifest
from slimpajama.workspace.open import Workspace

PRODUCER = f"urn:slimpajama:{__version__}"
IDS = uuid.uuid5(uuid.NAMESPACE_URL, "urn:slimpajama")
SCHEMAS = {"documents": DOCUMENTS, "removed": REMOVED, "shards": SHARDS}
RETRY = {"total": 1, "connect": 1, "read": 0}
TIMEOUT_S = 5.0


def run_id(*parts: str) -> str:
    """Return the run id of a workspace, night and flow or step: version 5, so the same every time."""
    return str(uuid.uuid5(IDS, "\n".join(parts)))


class Lineage(Reader):
    """Tells an OpenLineage server, or a file, when the run and its steps begin, end or fail.

    Args:
        target: The server's address, or the file.
        source_root: Where relative sources lie.
        workspace: Its uri is the namespace of the jobs.
    """

    name = "openlineage"

    def __init__(self, target: str, source_root: str, workspace: Workspace, night: str, flow: str) -> None:
        super().__init__(workspace, night, flow)
        self.target, self.root, self.uri = target, source_root, workspace.uri
        self.client: OpenLineageClient | None = None

    def begun(self) -> None:
        self._emit(RunState.START)

    def begun_step(self, step: StepRun) -> None:
        self._emit(RunState.START, step)

    def finished_step(self, step: StepRun, manifest: Manifest) -> None:
        self._emit(RunState.COMPLETE, step, manifest)

    def failed_step(self, step: StepRun, error: BaseException | None) -> None:
        self._emit(_ended(error), step, None, error)

    def ended(self, error: BaseException | None) -> None:
        try:
            self._emit(_ended(error) if error else RunState.COMPLETE, None, None, error)
        finally:
            if self.client:
                self.client.close()

    def _emit(
        self,
        state: RunState,
        step: StepRun | None = None,
        manifest: Manifest | None = None,
        error: BaseException | None = None,
    ) -> None:
        run, job, facets = run_id(self.uri, self.night, self.flow), self.flow, dict[str, Any]()
        if step:
            parent = parent_run.Run(run), parent_run.Job(self.uri, self.flow)
            facets["parent"] = parent_run.ParentRunFacet(*parent, producer=PRODUCER)
            run, job = run_id(self.uri, self.night, step.path), step.name
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
                job=Job(self.uri, job),
                inputs=self._inputs(step) if step else [],
                outputs=self._outputs(manifest) if manifest else [],
            )
        )

    def _inputs(self, step: StepRun) -> list[InputDataset]:
        uris = {f"{self.uri}/{folder}" for folder in step.inputs}
        for entry in step.raw:
            file = entry["path"] if "://" in entry["path"] else f"{self.root}/{entry['path']}"
            uris.add(layout.folder_of(file))
        return [InputDataset(*_name(uri)) for uri in sorted(uris)]

    def _outputs(self, manifest: Manifest) -> list[OutputDataset]:
        folders: defaultdict[str, list[FileEntry]] = defaultdict(list)
        for entry in manifest.files:
            folders[layout.folder_of(entry.path)].append(entry)
        statistics = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet
        return [
            OutputDataset(
                *_name(f"{self.uri}/{folder}"),
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
            for folder, files in folders.items()
        ]


def _ended(error: BaseException | None) -> RunState:
    return RunState.FAIL if isinstance(error, Exception) else RunState.ABORT


def _transport(target: str) -> dict[str, Any]:
    if target.startswith(("http://", "https://")):
        return {"type": "http", "url": target, "timeout": TIMEOUT_S, "retry": RETRY}
    return {"type": "file", "log_file_path": target, "append": True}


def _schema(folder: str) -> dict[str, Any]:
    """Return the facet with the columns of a folder of Parquet files that users read."""
    place = layout.place(folder)
    if place.root != "nights" or place.kind not in SCHEMAS:
        return {}
    fields = [schema_dataset.SchemaDatasetFacetFields(one.name, str(one.type)) for one in SCHEMAS[place.kind]]
    return {"schema": schema_dataset.SchemaDatasetFacet(fields, producer=PRODUCER)}


def _name(uri: str) -> tuple[str, str]:
    """Return namespace and name of a dataset, as OpenLineage's naming has them for files and object stores."""
    scheme, sep, rest = uri.partition("://")
    if not sep or scheme == "file":
        return "file", rest if sep else uri
    host, _, path = rest.partition("/")
    return f"{scheme}://{host}", path
