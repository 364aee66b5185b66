"""Commands that ask a model: `score`, `reconstruct`, `generate`, `serve`; and `models`, the registry."""

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
    WorkspaceOption,
    emit,
    loaded_model,
    opened,
    read_text,
    settings,
)

if TYPE_CHECKING:
    pass


models_app = typer.Typer(rich_markup_mode=None, invoke_without_command=True)


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    for command in (score, reconstruct, generate, serve):
        app.command()(command)
    app.add_typer(models_app, name="models")


def score(
    text: TextFiles = None,
    model: Model = None,
    workspace: WorkspaceOption = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Tell how well a model predicts a text: negative log-likelihood, in nats and in bits per byte.

    Every byte of the text counts, nothing is dropped or normalised.

    Example: slimpajama score --text article.txt --workspace demo/workspace --json
    """
    from slimpajama.model.evaluate.score import score_text

    loaded = loaded_model(model, workspace, config)
    value = score_text(loaded.model, loaded.tokenizer, read_text(text))
    emit(
        value, as_json, f"{value['bits_per_byte']:.4f} bits per byte ({value['bytes']} bytes, {value['tokens']} tokens)"
    )


def reconstruct(
    text: TextFiles = None,
    model: Model = None,
    workspace: WorkspaceOption = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Compress a text into latents, restore it from them, and tell how much came back.

    Example: slimpajama reconstruct --text article.txt --workspace demo/workspace
    """
    from slimpajama.model.evaluate.score import reconstruct_text

    loaded = loaded_model(model, workspace, config)
    value = reconstruct_text(loaded.model, loaded.tokenizer, read_text(text))
    emit(
        value,
        as_json,
        f"{value['token_accuracy']:.2%} of the tokens restored at {value['compression_ratio']:g} tokens a latent",
    )


def generate(
    prompt: Annotated[str, typer.Option(help="Beginning of the text; of a long one the model reads the end.")] = "",
    prompt_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="UTF-8 file with it, less one last line break; - reads stdin.")
    ] = None,
    max_tokens: Annotated[int | None, typer.Option(help="New tokens.")] = None,
    temperature: Annotated[float | None, typer.Option(help="0 takes the likeliest token each time.")] = None,
    top_k: Annotated[int | None, typer.Option(help="Sample from the K likeliest tokens; 0 for all.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Sample from the tokens that hold this probability.")] = None,
    min_p: Annotated[float | None, typer.Option(help="Leave out what is less likely than this times the best.")] = None,
    repetition_penalty: Annotated[float | None, typer.Option(help="Above 1: say less what was said before.")] = None,
    stop: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="End before this text; may be given several times.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same text.")] = None,
    n: Annotated[int, typer.Option("--n", min=1, help="Texts to generate.")] = 1,
    model: Model = None,
    workspace: WorkspaceOption = None,
    config: ConfigFile = None,
    set_: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Continue a prompt; with --json one object a text, a line each.

    Example: slimpajama generate --prompt 今天 --max-tokens 60 --seed 1 --workspace demo/workspace
    """
    import torch

    from slimpajama.core.errors import printable_lines
    from slimpajama.model.generate.text import stream_text

    given = {
        "max_tokens": max_tokens,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "min_p": min_p,
        "repetition_penalty": repetition_penalty,
        "seed": seed,
        "stop": json.dumps(stop, ensure_ascii=False).replace("\x7f", r"\u007f") if stop else None,  # JSON as TOML
    }
    overrides = [f"generate.{key}={value}" for key, value in given.items() if value is not None]
    cfg = settings(workspace, config, [*(set_ or []), *overrides]).generate
    if prompt_file is not None:
        if prompt:
            raise typer.BadParameter("give --prompt or --prompt-file, not both")
        prompt = read_text([prompt_file]).removesuffix("\n").removesuffix("\r")
    shown = printable_lines if sys.stdout.isatty() else str
    loaded = loaded_model(model, workspace, config)
    # A step is too small to share: two threads took ten times the processor's time.
    torch.set_num_threads(1)
    for number in range(n):
        pieces = stream_text(loaded.model, loaded.tokenizer, prompt, replace(cfg, seed=cfg.seed + number))
        if as_json:
            value = {"model": loaded.id, "prompt": prompt, "seed": cfg.seed + number, "text": "".join(pieces)}
            print(json.dumps(value, ensure_ascii=False), flush=True)
            continue
        sys.stdout.write(shown(prompt))
        # As it is made: a reader sees the first words at once.
        for piece in pieces:
            sys.stdout.write(shown(piece))
            sys.stdout.flush()
        sys.stdout.write("\n")


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on; one that others reach needs a token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    token_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Token that clients must bring; else SLIMPAJAMA_TOKEN, if set.")
    ] = None,
    without_token: Annotated[
        bool, typer.Option("--without-token", help="Let everyone in who reaches the host, if nothing names a token.")
    ] = False,
    max_queue: Annotated[int, typer.Option(min=1, max=1000, help="Requests that may wait; more get a 429.")] = 16,
    model: Model = None,
    workspace: WorkspaceOption = None,
    config: ConfigFile = None,
    set_: Overrides = None,
) -> None:
    """Serve completions over HTTP as OpenAI's API does, and a page to try it; follows the champion.

    Example: slimpajama serve --port 8000 --workspace demo/workspace
    """
    from slimpajama.apps.serve.server import is_loopback, listen, read_token, run
    from slimpajama.apps.serve.worker import Worker
    from slimpajama.core.errors import ConfigError

    token = read_token(token_file)
    if token is None and not without_token and not is_loopback(host):
        raise ConfigError(
            "others could reach the server, and nothing asks who they are",
            where=f"--host {host}",
            hint="Give --token-file or SLIMPAJAMA_TOKEN, or say --without-token.",
        )
    space, cfg = opened(workspace, config), settings(workspace, config, set_)
    with listen(host, port) as listening:
        run(Worker(space, model, max_queue), cfg.generate, listening, host, token, cfg.apply)


@models_app.callback()
def models(
    context: typer.Context, workspace: WorkspaceOption = None, config: ConfigFile = None, as_json: AsJson = False
) -> None:
    """List the models; `models promote ID` and `models rollback` choose the champion by hand.

    Example: slimpajama models --workspace demo/workspace
    """
    context.obj = (workspace, config, as_json)
    if context.invoked_subcommand is None:
        from slimpajama.core.page import plain_table
        from slimpajama.ops.overview import list_models_with_scores

        found = list_models_with_scores(opened(workspace, config))
        emit({"models": found}, as_json, plain_table(found) or "no model is published yet")


@models_app.command()
def promote(context: typer.Context, model_id: Annotated[str, typer.Argument(metavar="ID")]) -> None:
    """Make a model the champion, whatever the gate said.

    Example: slimpajama models --workspace demo/workspace promote 2026-11-23-small-1a2b3c4d
    """

    workspace, config, as_json = context.obj
    changed = opened(workspace, config).models.promote(model_id, "promoted by hand")
    text = f"{model_id} is the champion" + ("" if changed else " already")
    emit({"champion": model_id, "changed": changed}, as_json, text)


@models_app.command()
def rollback(context: typer.Context) -> None:
    """Go back to the champion before this one.

    Example: slimpajama models --workspace demo/workspace rollback
    """

    workspace, config, as_json = context.obj
    model_id = opened(workspace, config).models.rollback()
    emit({"champion": model_id}, as_json, f"{model_id} is the champion again")
