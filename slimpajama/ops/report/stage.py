"""The last stage of a night: manifests in, `reports/NIGHT/report.html` and `report.json` out.

reports/NIGHT/manifest.json    written last: only then the night is finished
"""

from __future__ import annotations

import importlib.metadata

from slimpajama.core.page import html
from slimpajama.core.progress import track
from slimpajama.ops.report.collect import collect
from slimpajama.ops.report.inputs import gather
from slimpajama.ops.report.page import night_page
from slimpajama.workspace.manifest import Manifest, json_bytes
from slimpajama.workspace.open import Workspace
from slimpajama.workspace.stage import Part, Stage

# Raise it when the same night gives another report.
VERSION = 3
LIBRARIES = ("jinja2", "matplotlib", "pyarrow")


def write_report(
    workspace: Workspace, night: str, model_id: str | None = None, tuned_id: str | None = None
) -> Manifest:
    """Write the report of a published night; it shows the settings that the night was made with.

    Args:
        workspace: The workspace.
        night: A published night.
        model_id: The night's model; None where nothing was trained.
        tuned_id: What a champion was tuned to in this night; None where none was.

    Raises:
        InputError: If the night is not published.
        ModelError: If a model is not.
    """
    folder = f"reports/{night}"
    about = {
        "version": VERSION,
        "night": night,
        "model": model_id or "",
        "tuned": tuned_id or "",
        "inputs": gather(workspace, night, model_id, tuned_id).digests(),
        "libraries": {name: importlib.metadata.version(name) for name in LIBRARIES},
    }
    stage = Stage(
        workspace.store, "report", work=f"{folder}/work/report", about=about, manifest=f"{folder}/manifest.json"
    )
    if stage.finished:
        return stage.result
    with track("report", total=1, unit="pages") as bar:
        report = collect(workspace, night, model_id, tuned_id)
        page = html(night_page(report)).encode()
        stage.commit("report", Part({f"{folder}/report.html": page, f"{folder}/report.json": json_bytes(report)}))
        bar.advance()
    return stage.finish()
