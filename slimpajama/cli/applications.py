"""Commands about pairs and what is made of them: `pairs`, `summarize`, `translate`, `answer`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from slimpajama.cli.options import (
    AsJson,
    ConfigFile,
    Overrides,
    TextFiles,
    WorkspaceOption,
    emit,
    opened,
    read_text,
    settings,
)
from slimpajama.core.errors import printable_lines

if TYPE_CHECKING:
    from slimpajama.apps.tune.inference import Tuned
    from slimpajama.apps.tune.retrieve import Source
    from slimpajama.core.config import ApplyConfig


TunedModel = Annotated[str, typer.Option("--model", help="Tuned model; default: the one that serves the task.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    for command in (pairs, summarize, translate, answer):
        app.command()(command)


def pairs(
    workspace: WorkspaceOption = None, config: ConfigFile = None, set_: Overrides = None, as_json: AsJson = False
) -> None:
    """Read, check and split the task data of `pairs.sources`, and tell what stays and what is left out.

    `tune` does it, too; this shows it before anything is trained.

    Example: slimpajama pairs --config slimpajama.toml
    """
    from slimpajama.core.console import console
    from slimpajama.corpus.pairs.stage import make_pairs, render
    from slimpajama.workspace.open import open_store

    cfg = settings(workspace, config, set_)
    with console():
        name, manifest = make_pairs(open_store(cfg.workspace), cfg)
    emit({"set": name} | manifest.counts, as_json, render(f"{cfg.workspace}/pairs/{name}", manifest.counts))


def summarize(
    text: TextFiles = None,
    model: TunedModel = "",
    workspace: WorkspaceOption = None,
    config: ConfigFile = None,
    set_: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Summarise a text, Chinese or English, of any length.

    Example: slimpajama summarize --text article.txt --workspace demo/workspace
    """
    tuned, cfg = _tuned("summarization", model, workspace, config, set_)
    summary = tuned.summarize(read_text(text), cfg)
    emit({"summary": summary}, as_json, _shown(summary))


def translate(
    to: Annotated[str, typer.Option(help="Language to translate to: zh or en.", metavar="LANG")],
    text: TextFiles = None,
    model: TunedModel = "",
    workspace: WorkspaceOption = None,
    config: ConfigFile = None,
    set_: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Translate a text sentence by sentence; lines stay lines.

    Example: slimpajama translate --to zh --text manual.txt --workspace demo/workspace
    """
    tuned, cfg = _tuned("translation", model, workspace, config, set_)
    pieces = []
    for piece in tuned.translate(read_text(text), to, cfg):
        pieces.append(piece)
        if not as_json:
            print(_shown(piece), end="", flush=True)
    if as_json:
        emit({"translation": "".join(pieces), "to": to}, as_json, "")
    elif not pieces[-1].endswith("\n"):
        print()


def answer(
    question: Annotated[str, typer.Option(help="What is asked.", metavar="Q")],
    context_file: Annotated[
        list[Path] | None, typer.Option(help="UTF-8 text that holds the answer; - reads stdin.", metavar="F")
    ] = None,
    context_workspace: Annotated[
        str, typer.Option(help="Look for the answer in the documents of a workspace.", metavar="DIR_OR_URI")
    ] = "",
    model: TunedModel = "",
    workspace: WorkspaceOption = None,
    config: ConfigFile = None,
    set_: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Answer a question about a text, or about the corpus, with the sentence that the answer rests on.

    Example: slimpajama answer --question "Who wrote it?" --context-file article.txt --workspace demo/workspace

    Example: slimpajama answer --question "谁写的？" --context-workspace demo/workspace --workspace demo/workspace
    """
    if context_file and context_workspace:
        raise typer.BadParameter("name one of --context-file and --context-workspace")
    tuned, cfg = _tuned("question-answering", model, workspace, config, set_)
    if context_workspace:
        found, where = tuned.answer_from(_documents(context_workspace, config, set_, question), question, cfg)
    else:
        found, where = tuned.answer(question, read_text(context_file), cfg), ""
    value = {"answer": found.text, "passage": found.passage, "score": found.score, "document": where}
    emit(value, as_json, _shown(f"{found.text}\n  from: {found.passage}" + (f"\n  in: {where}" if where else "")))


def _shown(text: str) -> str:
    """Return what a model or a corpus says as a terminal may see it: control characters spelt out."""
    return printable_lines(text) if sys.stdout.isatty() else text


def _documents(workspace: str, config: str | None, overrides: list[str] | None, question: str) -> list[Source]:
    from slimpajama.apps.tune.retrieve import CorpusIndex
    from slimpajama.core.console import console

    space = opened(workspace, config, overrides)
    with console():
        return CorpusIndex(space, settings(workspace, config, overrides).text).search(question)


def _tuned(
    task: str, model: str, workspace: str | None, config: str | None, overrides: list[str] | None
) -> tuple[Tuned, ApplyConfig]:
    from slimpajama.apps.tune.loading import load_tuned

    space = opened(workspace, config, overrides)
    return load_tuned(space, model or space.models.serving(task)), settings(workspace, config, overrides).apply
