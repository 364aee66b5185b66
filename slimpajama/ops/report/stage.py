"""The last stage of a night: manifests in, `reports/NIGHT/report.html` and `report.json` out.

reports/NIGHT/manifest.json    written last: only then the night is finished
"""

import importlib.metadata
from typing import Any

from slimpajama.core.config import Config
from slimpajama.core.page import html
from slimpajama.core.progress import track
from slimpajama.ops.report.collect import collect, gather
from slimpajama.ops.report.page import night_page
from slimpajama.workspace import layout
from slimpajama.workspace.catalogue import note_all
from slimpajama.workspace.manifest import Manifest, json_bytes
from slimpajama.workspace.open import Workspace
from slimpajama.workspace.step import Context, Part, Run, Step, run_step

# Raise it when the same night gives another report.
VERSION = 5
LIBRARIES = ("jinja2", "matplotlib", "pyarrow")


def write_report(workspace: Workspace, night: str, model_id: str = "", tuned_id: str = "") -> Manifest:
    """Write the report of a published night; it shows the settings that the night was made with.

    Arguments and errors are those of `gather`.
    """
    return run_step(REPORT, Context(workspace, Config(), night), model=model_id, tuned=tuned_id).result


def _inputs(run: Run) -> dict[str, Any]:
    model, tuned = run.options["model"], run.options["tuned"]
    return {
        "night": run.night,
        "model": model,
        "tuned": tuned,
        "inputs": gather(run.workspace, run.night, model, tuned).digests(),
        "libraries": {name: importlib.metadata.version(name) for name in LIBRARIES},
    }


def _place(run: Run) -> tuple[str, str]:
    report = layout.report(run.night)
    return report.work("report"), report.manifest


def _write(run: Run) -> None:
    place = layout.report(run.night)
    with track("report", total=1, unit="pages") as bar:
        report = collect(run.workspace, run.night, run.options["model"], run.options["tuned"])
        page = html(night_page(report)).encode()
        run.commit("report", Part({place.page: page, place.data: json_bytes(report)}))
        bar.advance()


def _tidy(run: Run) -> None:
    note_all(run.store)


REPORT = Step("report", VERSION, _inputs, _write, place=_place, tidy=_tidy)
"""Write a night's report. Options: `model` and `tuned`, ids of what was trained and tuned, or empty."""
