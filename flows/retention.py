"""Retention: rejected models, leftovers, and old runs in Prefect."""

from typing import Any

from slimpajama.core.config import Config
from tasks.cleanup import clean_up_runs, clean_up_workspace
from tasks.observe import configuration, deployed, named


@deployed("clean-up", named(), lambda report: ("Completed", report["text"]))
def clean_up(
    config: Config | None = None, config_file: str = "", overrides: tuple[str, ...] = (), dry_run: bool = False
) -> dict[str, Any]:
    """Remove what `[retention]` lets go. No champion, none of what it came from, and no night's corpus is touched.

    Args:
        config: The whole configuration; leave it empty to read `config_file`.
        config_file: TOML file on the worker's machine, read at every run.
        overrides: Settings of the file for this run alone, each `section.key=value`; later ones win.
        dry_run: Only say what would go.
    """
    config = configuration(config, config_file, overrides)
    report = clean_up_workspace(config, dry_run)
    runs = clean_up_runs(config, dry_run)
    return report.as_dict() | {"text": report.text(), "runs": runs}
