"""Commands about pairs and what is made of them: `pairs`, `summarize`, `translate`, `answer`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from slimpajama.cli.options import Common, TextFiles, read_text, shown, workspace_of
from slimpajama.core.console import console
from slimpajama.workspace import layout

if TYPE_CHECKING:
    from slimpajama.apps.tune.inference import Tuned
    from slimpajama.apps.tune.retrieve import Source
    from slimpajama.core.config import ApplyConfig

TunedModel = Annotated[str, typer.Option("--model", help="Tuned model; default: the one that serves the task.")]


def pairs(common: Common) -> None:
    """Read, check and split the task data of `pairs.sources`, and tell what stays and what is left out.

    `tune` does it, too; this shows it before anything is trained.

    Example: slimpajama pairs --config slimpajama.toml
    """
    from slimpajama.corpus.pairs.stage import make_pairs, render

    cfg = common.cfg
    with console():
        name, manifest = make_pairs(workspace_of(cfg), cfg)
    common.emit({"set": name} | manifest.counts, render(f"{cfg.workspace}/{layout.pairs(name).path}", manifest.counts))


def summarize(common: Common, text: TextFiles = None, model: TunedModel = "") -> None:
    """Summarise a text, Chinese or English, of any length.

    Example: slimpajama summarize --text article.txt --workspace demo/workspace
    """
    tuned, cfg = _tuned(common, "summarization", model)
    summary = tuned.summarize(read_text(text), cfg)
    common.emit({"summary": summary}, shown(summary))


def translate(
    common: Common,
    to: Annotated[str, typer.Option(help="Language to translate to: zh or en.", metavar="LANG")],
    text: TextFiles = None,
    model: TunedModel = "",
) -> None:
    """Translate a text sentence by sentence; lines stay lines.

    Example: slimpajama translate --to zh --text manual.txt --workspace demo/workspace
    """
    tuned, cfg = _tuned(common, "translation", model)
    pieces = []
    for piece in tuned.translate(read_text(text), to, cfg):
        pieces.append(piece)
        if not common.as_json:
            print(shown(piece), end="", flush=True)
    if common.as_json:
        common.emit({"translation": "".join(pieces), "to": to}, "")
    elif not pieces[-1].endswith("\n"):
        print()


def answer(
    common: Common,
    question: Annotated[str, typer.Option(help="What is asked.", metavar="Q")],
    context_file: Annotated[
        list[Path] | None, typer.Option(help="UTF-8 text that holds the answer; - reads stdin.", metavar="F")
    ] = None,
    context_workspace: Annotated[
        str, typer.Option(help="Look for the answer in the documents of a workspace.", metavar="DIR_OR_URI")
    ] = "",
    model: TunedModel = "",
) -> None:
    """Answer a question about a text, or about the corpus, with the sentence that the answer rests on.

    Example: slimpajama answer --question "Who wrote it?" --context-file article.txt --workspace demo/workspace

    Example: slimpajama answer --question "谁写的？" --context-workspace demo/workspace --workspace demo/workspace
    """
    if context_file and context_workspace:
        raise typer.BadParameter("name one of --context-file and --context-workspace")
    tuned, cfg = _tuned(common, "question-answering", model)
    if context_workspace:
        documents = _documents(replace(common, workspace=context_workspace), question)
        found, where = tuned.answer_from(documents, question, cfg)
    else:
        found, where = tuned.answer(question, read_text(context_file), cfg), ""
    value = {"answer": found.text, "passage": found.passage, "score": found.score, "document": where}
    common.emit(value, shown(f"{found.text}\n  from: {found.passage}" + (f"\n  in: {where}" if where else "")))


def _documents(common: Common, question: str) -> list[Source]:
    from slimpajama.apps.tune.retrieve import CorpusIndex

    space = common.open()
    with console():
        return CorpusIndex(space, common.cfg.text).search(question)


def _tuned(common: Common, task: str, model: str) -> tuple[Tuned, ApplyConfig]:
    from slimpajama.apps.tune.loading import load_tuned

    space = common.open()
    return load_tuned(space, model or space.models.serving(task)), common.cfg.apply
