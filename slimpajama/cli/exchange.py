"""Commands by which a model meets the world outside: `export`, `compress`, `decompress`, `lm-eval`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from slimpajama.cli.options import Common, Model, NoMemory
from slimpajama.core.console import console


def export(
    common: Common,
    directory: Annotated[Path | None, typer.Argument(metavar="[DIR]", help="New or empty folder of a model.")] = None,
    format_: Annotated[str, typer.Option("--format", help="Layout of the model: hf.", metavar="hf")] = "hf",
    dataset: Annotated[
        Path | None, typer.Option(help="New or empty folder for the corpus as a Parquet dataset.", metavar="DIR")
    ] = None,
    night: Annotated[list[str] | None, typer.Option(help="Night of the dataset, repeatable; default: all.")] = None,
    model: Model = None,
    no_memory: Annotated[
        bool, typer.Option("--no-memory", help="Leave out what the model looks up: the tokens of its training text.")
    ] = False,
) -> None:
    """Write a model (safetensors, config, tokenizer, card) or, with --dataset, the corpus, for use elsewhere.

    A model goes with its memory, which holds the tokens of its whole training text: whoever gets the folder can read
    that text. --no-memory leaves it out.

    Example: slimpajama export --format hf exported --workspace demo/workspace
    """
    from slimpajama.ops.export import export_dataset, export_model

    if (directory is None) == (dataset is None):
        raise typer.BadParameter("name one of DIR (for a model) and --dataset DIR")
    if format_ != "hf":
        raise typer.BadParameter(f"--format: expected hf, found {format_}")
    space = common.open()
    if dataset:
        with console():
            found = export_dataset(space, dataset, night or [])
        amounts = ", ".join(f"{split} {n:,}" for split, n in found["documents"].items())
        return common.emit(found, f"{found['folder']}: documents of {len(found['nights'])} night(s): {amounts}")
    assert directory
    with console():
        found = export_model(space, directory, model, not no_memory)
    line = f"{found['folder']}: {found['model']}, "
    if about := found["memory"]:
        line += f"with its memory: {about['tokens']:,} tokens of the training text ({about['bytes'] / 1e6:,.1f} MB), "
        line += "which whoever gets the folder can read; --no-memory leaves them out"
    else:
        line += "without its memory" if no_memory else "which has no memory: the network alone"
    return common.emit(found, line)


def compress(
    common: Common,
    file: Annotated[Path, typer.Argument(help="Any file; text in the model's languages gains.", metavar="FILE")],
    out: Annotated[Path, typer.Option(help="Compressed file.", metavar="F")],
    model: Model = None,
    no_memory: NoMemory = False,
) -> None:
    """Compress a file by the model's likelihood; restoring it takes the same model, and the same kind of machine.

    Example: slimpajama compress article.txt --out article.slp --workspace demo/workspace
    """
    _recode(common, file, out, model, memory=not no_memory)


def decompress(
    common: Common,
    file: Annotated[Path, typer.Argument(help="Compressed file.", metavar="F")],
    out: Annotated[Path, typer.Option(help="Where the content goes.", metavar="FILE")],
    model: Model = None,
) -> None:
    """Restore a file exactly; nothing is written unless its checksum is right.

    Example: slimpajama decompress article.slp --out article.txt --workspace demo/workspace
    """
    _recode(common, file, out, model, back=True)


def _recode(
    common: Common, file: Path, out: Path, model: str | None, *, memory: bool = True, back: bool = False
) -> None:
    from slimpajama.apps.compress import file as files
    from slimpajama.model.loading import load_model

    space, data = common.open(), files.read_file(file)
    wanted = model or space.models.require_champion()
    # The champion may remember more by now.
    loaded = load_model(space, wanted, files.memory_of(data, wanted) if back else memory)
    mark = files.fingerprint(space.models.manifest(loaded.id), loaded.memory_digest)
    with console():
        made = files.decompress(data, loaded, mark, str(file)) if back else files.compress(data, loaded, mark)
    files.write_file(out, made)
    value = {"model": loaded.id, "bytes": len(data), "out": str(out), "out_bytes": len(made)}
    common.emit(value, f"{out}: {len(data)} bytes to {len(made)}")


def lm_eval(
    common: Common,
    tasks: Annotated[str, typer.Option(help="Tasks, groups or tags, with commas between.", metavar="NAME,NAME...")],
    include_path: Annotated[
        Path | None,
        typer.Option(help="Folder of task definitions; only it is read, and paths in them begin there.", metavar="DIR"),
    ] = None,
    num_fewshot: Annotated[int | None, typer.Option(min=0, help="Solved examples before each question.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first N questions of each task.")] = None,
    model: Model = None,
) -> None:
    """Run tasks of EleutherAI's lm-evaluation-harness on a model; needs pip install 'slimpajama[eval]'.

    Example: slimpajama lm-eval --tasks zh_words,en_words --include-path tasks --workspace demo/workspace
    """
    from slimpajama.core.extras import require_extra
    from slimpajama.core.page import plain_table

    with require_extra("eval", "lm_eval"):
        from slimpajama.apps.harness import run_tasks

    loaded = common.load_model(model)
    with console():
        found = run_tasks(loaded, [name for name in tasks.split(",") if name], include_path, num_fewshot, limit)
    rows = [{"task": task} | {name: f"{n:.4f}" for name, n in row.items()} for task, row in found["tasks"].items()]
    common.emit(found, plain_table(rows))
