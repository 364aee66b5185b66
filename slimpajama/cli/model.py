"""Commands that ask a model: `score`, `generate`, `compress` and so on; and `models`, the registry."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from slimpajama.cli.options import (
    AsJson,
    ConfigFile,
    Model,
    Overrides,
    TextFiles,
    Workspace,
    emit,
    read_text,
    settings,
    store_of,
)

if TYPE_CHECKING:
    from slimpajama.storage import Store

__all__ = ["register"]

models_app = typer.Typer(rich_markup_mode=None, invoke_without_command=True)


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    for command in (score, reconstruct, generate, compress, decompress):
        app.command()(command)
    app.add_typer(models_app, name="models")


def score(
    text: TextFiles = None, model: Model = None, workspace: Workspace = None, config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Tell how well a model predicts a text: negative log-likelihood, in nats and in bits per byte.

    Every byte of the text counts, nothing is dropped or normalised.

    Example: slimpajama score --text article.txt --workspace demo/workspace --json
    """
    from slimpajama.evaluate.score import score_text
    from slimpajama.registry import load_model

    loaded = load_model(store_of(workspace, config), model)
    value = score_text(loaded.model, loaded.tokenizer, read_text(text))
    emit(
        value, as_json, f"{value['bits_per_byte']:.4f} bits per byte ({value['bytes']} bytes, {value['tokens']} tokens)"
    )


def reconstruct(
    text: TextFiles = None, model: Model = None, workspace: Workspace = None, config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Compress a text into latents, restore it from them, and tell how much came back.

    Example: slimpajama reconstruct --text article.txt --workspace demo/workspace
    """
    from slimpajama.evaluate.score import reconstruct_text
    from slimpajama.registry import load_model

    loaded = load_model(store_of(workspace, config), model)
    value = reconstruct_text(loaded.model, loaded.tokenizer, read_text(text))
    emit(
        value, as_json,
        f"{value['token_accuracy']:.2%} of the tokens restored at {value['compression_ratio']:g} tokens a latent",
    )  # fmt: skip


def generate(
    prompt: Annotated[str, typer.Option(help="Beginning of the text.")] = "",
    max_tokens: Annotated[int | None, typer.Option(help="New tokens.")] = None,
    temperature: Annotated[float | None, typer.Option(help="0 takes the likeliest token each time.")] = None,
    top_k: Annotated[int | None, typer.Option(help="Sample from the K likeliest tokens; 0 for all.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Sample from the tokens that hold this probability.")] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same text.")] = None,
    n: Annotated[int, typer.Option("--n", min=1, help="Texts to generate.")] = 1,
    model: Model = None, workspace: Workspace = None, config: ConfigFile = None, set_: Overrides = None,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Continue a prompt; with --json one object a text, a line each.

    Example: slimpajama generate --prompt 今天 --max-tokens 60 --seed 1 --workspace demo/workspace
    """
    from slimpajama.generate.text import stream_text
    from slimpajama.registry import load_model

    given = {
        "max_tokens": max_tokens, "temperature": temperature, "top_k": top_k, "top_p": top_p, "seed": seed,
    }  # fmt: skip
    overrides = [f"generate.{key}={value}" for key, value in given.items() if value is not None]
    cfg = settings(workspace, config, [*(set_ or []), *overrides]).generate
    loaded = load_model(store_of(workspace, config), model)
    for number in range(n):
        pieces = stream_text(loaded.model, loaded.tokenizer, prompt, replace(cfg, seed=cfg.seed + number))
        if as_json:
            value = {"model": loaded.id, "prompt": prompt, "seed": cfg.seed + number, "text": "".join(pieces)}
            print(json.dumps(value, ensure_ascii=False), flush=True)
            continue
        sys.stdout.write(prompt)
        for piece in pieces:  # as it is made: a reader sees the first words at once
            sys.stdout.write(piece)
            sys.stdout.flush()
        sys.stdout.write("\n")


def compress(
    file: Annotated[Path, typer.Argument(help="Any file; text in the model's languages gains.", metavar="FILE")],
    out: Annotated[Path, typer.Option(help="Compressed file.", metavar="F")],
    model: Model = None, workspace: Workspace = None, config: ConfigFile = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Compress a file by the model's likelihood; restoring it takes the same model, and the same kind of machine.

    Example: slimpajama compress article.txt --out article.slp --workspace demo/workspace
    """
    _recode(file, out, model, store_of(workspace, config), as_json, back=False)


def decompress(
    file: Annotated[Path, typer.Argument(help="Compressed file.", metavar="F")],
    out: Annotated[Path, typer.Option(help="Where the content goes.", metavar="FILE")],
    model: Model = None, workspace: Workspace = None, config: ConfigFile = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Restore a file exactly; nothing is written unless its checksum is right.

    Example: slimpajama decompress article.slp --out article.txt --workspace demo/workspace
    """
    _recode(file, out, model, store_of(workspace, config), as_json, back=True)


def _recode(file: Path, out: Path, model: str | None, store: Store, as_json: bool, *, back: bool) -> None:
    from slimpajama.compress import file as files
    from slimpajama.progress import console
    from slimpajama.registry import load_model, model_manifest

    data = files.read_file(file)
    loaded = load_model(store, model)
    mark = files.fingerprint(model_manifest(store, loaded.id))
    with console():
        made = files.decompress(data, loaded, mark, str(file)) if back else files.compress(data, loaded, mark)
    files.write_file(out, made)
    value = {"model": loaded.id, "bytes": len(data), "out": str(out), "out_bytes": len(made)}
    emit(value, as_json, f"{out}: {len(data)} bytes to {len(made)}")


@models_app.callback()
def models(
    context: typer.Context, workspace: Workspace = None, config: ConfigFile = None, as_json: AsJson = False
) -> None:
    """List the models; `models promote ID` and `models rollback` choose the champion by hand.

    Example: slimpajama models --workspace demo/workspace
    """
    context.obj = (workspace, config, as_json)
    if context.invoked_subcommand is None:
        from slimpajama.overview import list_models_with_scores, table

        found = list_models_with_scores(store_of(workspace, config))
        emit({"models": found}, as_json, table(found) or "no model is published yet")


@models_app.command()
def promote(context: typer.Context, model_id: Annotated[str, typer.Argument(metavar="ID")]) -> None:
    """Make a model the champion, whatever the gate said.

    Example: slimpajama models --workspace demo/workspace promote 2026-11-23-small-1a2b3c4d
    """
    from slimpajama.registry import promote as make_champion

    workspace, config, as_json = context.obj
    changed = make_champion(store_of(workspace, config), model_id, "promoted by hand")
    text = f"{model_id} is the champion" + ("" if changed else " already")
    emit({"champion": model_id, "changed": changed}, as_json, text)


@models_app.command()
def rollback(context: typer.Context) -> None:
    """Go back to the champion before this one.

    Example: slimpajama models --workspace demo/workspace rollback
    """
    from slimpajama.registry import rollback as go_back

    workspace, config, as_json = context.obj
    model_id = go_back(store_of(workspace, config))
    emit({"champion": model_id}, as_json, f"{model_id} is the champion again")
