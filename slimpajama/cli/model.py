"""Commands that ask a model: `score`, `reconstruct`, `generate`, `serve`; and `models`, the registry."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Annotated

import typer

from slimpajama.cli.options import Common, Model, NoMemory, TextFiles, read_text, shown
from slimpajama.core.errors import ConfigError


def score(common: Common, text: TextFiles = None, model: Model = None, no_memory: NoMemory = False) -> None:
    """Tell how well a model predicts a text: negative log-likelihood, in nats and in bits per byte.

    Every byte of the text counts, nothing is dropped or normalised.

    Example: slimpajama score --text article.txt --workspace demo/workspace --json
    """
    from slimpajama.model.evaluate.score import score_text

    loaded = common.load_model(model, not no_memory)
    value = score_text(loaded.model, loaded.tokenizer, read_text(text))
    line = f"{value['bits_per_byte']:.4f} bits per byte ({value['bytes']} bytes, {value['tokens']} tokens)"
    if "network_bits_per_byte" in value:
        line += f"; {value['network_bits_per_byte']:.4f} by the network alone"
    common.emit(value, line)


def reconstruct(common: Common, text: TextFiles = None, model: Model = None) -> None:
    """Compress a text into latents, restore it from them, and tell how much came back.

    Example: slimpajama reconstruct --text article.txt --workspace demo/workspace
    """
    from slimpajama.model.evaluate.score import reconstruct_text

    loaded = common.load_model(model, memory=False)
    value = reconstruct_text(loaded.model, loaded.tokenizer, read_text(text))
    common.emit(
        value, f"{value['token_accuracy']:.2%} of the tokens restored at {value['compression_ratio']:g} tokens a latent"
    )


@dataclass
class Sampling:
    """Options that override the section `generate`."""

    max_tokens: Annotated[int | None, typer.Option(help="New tokens.")] = None
    temperature: Annotated[float | None, typer.Option(help="0 takes the likeliest token each time.")] = None
    top_k: Annotated[int | None, typer.Option(help="Sample from the K likeliest tokens; 0 for all.")] = None
    top_p: Annotated[float | None, typer.Option(help="Sample from the tokens that hold this probability.")] = None
    min_p: Annotated[float | None, typer.Option(help="Leave out what is less likely than this times the best.")] = None
    repetition_penalty: Annotated[float | None, typer.Option(help="Above 1: say less what was said before.")] = None
    stop: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="End before this text; may be given several times.")
    ] = None
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same text.")] = None

    def overrides(self) -> list[str]:
        """Return what was given, as `--set` has it."""
        given = {name: value for name, value in asdict(self).items() if value not in (None, [])}
        if self.stop:
            # JSON as TOML: of the control characters JSON leaves one as it is.
            given["stop"] = json.dumps(self.stop, ensure_ascii=False).replace("\x7f", r"\u007f")
        return [f"generate.{name}={value}" for name, value in given.items()]


def generate(
    common: Common,
    prompt: Annotated[str, typer.Option(help="Beginning of the text; of a long one the model reads the end.")] = "",
    prompt_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="UTF-8 file with it, less one last line break; - reads stdin.")
    ] = None,
    *,
    sampling: Sampling,
    n: Annotated[int, typer.Option("--n", min=1, help="Texts to generate.")] = 1,
    model: Model = None,
    no_memory: NoMemory = False,
) -> None:
    """Continue a prompt; with --json one object a text, a line each.

    Example: slimpajama generate --prompt 今天 --max-tokens 60 --seed 1 --workspace demo/workspace
    """
    from slimpajama.model.device import one_thread
    from slimpajama.model.generate.text import stream_text

    cfg = common.settings(*sampling.overrides()).generate
    if prompt_file is not None:
        if prompt:
            raise typer.BadParameter("give --prompt or --prompt-file, not both")
        prompt = read_text([prompt_file]).removesuffix("\n").removesuffix("\r")
    loaded = common.load_model(model, not no_memory)
    # One token is too little work to share: two threads took ten times the processor's time.
    with one_thread():
        for number in range(n):
            drawn = cfg.nth(number)
            pieces = stream_text(loaded.model, loaded.tokenizer, prompt, drawn)
            if common.as_json:
                common.emit({"model": loaded.id, "prompt": prompt, "seed": drawn.seed, "text": "".join(pieces)}, "")
            else:
                # Each piece is written as soon as it is made, so that a reader sees the first words at once.
                for piece in chain([prompt], pieces, ["\n"]):
                    sys.stdout.write(shown(piece))
                    sys.stdout.flush()


def serve(
    common: Common,
    host: Annotated[str, typer.Option(help="Address to listen on; one that others reach needs a token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    token_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Token that clients must bring; else SLIMPAJAMA_TOKEN, if set.")
    ] = None,
    without_token: Annotated[
        bool, typer.Option("--without-token", help="Let everyone in who reaches the host, if nothing names a token.")
    ] = False,
    max_queue: Annotated[int, typer.Option(min=1, max=1000, help="Requests that may wait; more get a 429.")] = 16,
    max_seconds: Annotated[float, typer.Option(min=0.1, max=3600, help="Computing time of a request.")] = 60,
    model: Model = None,
) -> None:
    """Serve completions over HTTP as OpenAI's API does, and a page to try it; follows the champion.

    Example: slimpajama serve --port 8000 --workspace demo/workspace
    """
    from slimpajama.apps.serve.server import is_loopback, listen, read_token, run
    from slimpajama.apps.serve.worker import Worker

    token = read_token(token_file)
    if token is None and not without_token and not is_loopback(host):
        raise ConfigError(
            "others could reach the server, and nothing asks who they are",
            where=f"--host {host}",
            hint="Give --token-file or SLIMPAJAMA_TOKEN, or say --without-token.",
        )
    space, cfg = common.open(), common.cfg
    with listen(host, port) as listening:
        run(Worker(space, model, max_queue, max_seconds=max_seconds), cfg.generate, listening, host, token, cfg.apply)


def models(common: Common, context: typer.Context) -> None:
    """List the models; `models promote ID` and `models rollback` choose the champion by hand.

    Example: slimpajama models --workspace demo/workspace
    """
    context.obj = common
    if context.invoked_subcommand is None:
        from slimpajama.core.page import plain_table
        from slimpajama.ops.overview import list_models_with_scores

        found = list_models_with_scores(common.open())
        common.emit({"models": found}, plain_table(found) or "no model is published yet")


def promote(common: Common, context: typer.Context, model_id: Annotated[str, typer.Argument(metavar="ID")]) -> None:
    """Make a model the champion, whatever the gate said.

    Example: slimpajama models promote 2026-11-23-small-1a2b3c4d --workspace demo/workspace
    """
    from slimpajama.model.loading import load_model

    common = common.after(context.obj)
    space = common.open()
    # What cannot be loaded would leave the next night, and every server, without a model.
    load_model(space, model_id)
    changed = space.models.promote(model_id, "promoted by hand")
    text = f"{model_id} is the champion" + ("" if changed else " already")
    common.emit({"champion": model_id, "changed": changed}, text)


def rollback(common: Common, context: typer.Context) -> None:
    """Go back to the champion before this one.

    Example: slimpajama models rollback --workspace demo/workspace
    """
    common = common.after(context.obj)
    model_id = common.open().models.rollback()
    common.emit({"champion": model_id}, f"{model_id} is the champion again")
