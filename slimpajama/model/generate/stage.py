"""Samples of a night: the same prompts and seeds for the champion before and the night's own model.

reports/NIGHT/samples.json             texts with how much each repeats and copies, and how much held-out text does
reports/NIGHT/samples.manifest.json    written last
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from slimpajama.core.config import Config
from slimpajama.core.errors import InputError
from slimpajama.core.logs import step_log
from slimpajama.core.progress import track
from slimpajama.core.result import Result
from slimpajama.model.generate.measure import copied_share, repeated_share
from slimpajama.model.generate.text import generate_texts
from slimpajama.model.loading import Loaded, load_model
from slimpajama.model.memory.opening import digests_of, indexes_of, nights_of, suffixes_in
from slimpajama.text.suffixes import Suffixes
from slimpajama.workspace import layout
from slimpajama.workspace.manifest import Manifest, json_bytes, load_manifest
from slimpajama.workspace.open import Workspace
from slimpajama.workspace.parquet import read_table, verified_json
from slimpajama.workspace.step import Context, OnNight, Part, Run, Step, run_step

VERSION = 5
# Held-out texts a language that samples are compared with.
PIECES = 500


@dataclass(frozen=True, slots=True)
class GenerateReport(Result):
    """Texts of a night."""

    uri: str
    """Of `samples.json`."""
    samples: list[dict[str, Any]]
    """`model`, `role` (champion or challenger), `prompt`, `text` (without the prompt), `repeated_share` and
    `copied_share` (None where a night has no index to look into), in the order of models and prompts."""

    def text(self) -> str:
        """Return one line for people."""
        return f"{len(self.samples)} texts -> {self.uri}"


def write_samples(
    workspace: Workspace, cfg: Config, night: str, challenger: str, champion: str | None = None
) -> GenerateReport:
    """Continue every prompt with both models and publish the texts.

    Args:
        cfg: `generate` is used.
        night: Whose report the samples belong to.
        challenger: The night's model.
        champion: The model it was compared with; None where there was none.

    Raises:
        ModelError: If a model is not published.
    """
    roles = {"champion": champion} if champion and champion != challenger else {}
    models = roles | {"challenger": challenger}
    manifest = run_step(GENERATE, Context(workspace, cfg, night), models=models).result
    samples = verified_json(workspace.store, manifest.files[0])["samples"]
    return GenerateReport(f"{workspace.uri}/{workspace.store.name(layout.report(night).samples)}", samples)


def _memories(run: Run) -> dict[str, Manifest]:
    """Return the memories that models write with: that of the night, and the one that the champion had before it."""
    nights = {"challenger": run.night, "champion": run.workspace.models.memory_before(run.night)}
    places = {role: layout.model(model).memory(nights[role]) for role, model in run.options["models"].items()}
    found = {role: load_manifest(run.store, place.manifest) for role, place in places.items() if nights[role]}
    return {role: manifest for role, manifest in found.items() if manifest}


def _indexes(run: Run) -> dict[str, dict[str, Manifest] | None]:
    """Return for each role the indexes of the nights that its model may have copied from; None where one is missing."""
    found: dict[str, dict[str, Manifest] | None] = {}
    for role, model in run.options["models"].items():
        try:
            found[role] = indexes_of(run.workspace, nights_of(run.workspace, model, run.night))
        except InputError as error:
            step_log("generate").warning(f"what {model} copies is not measured: {error}")
            found[role] = None
    return found


def _inputs(run: Run) -> dict[str, Any]:
    models = run.options["models"]
    return {
        "settings": run.cfg.generate,
        "models": {role: run.workspace.models.manifest(model).digest for role, model in models.items()},
        "indexes": {role: index and digests_of(index) for role, index in run.once(_indexes).items()},
        "memories": {role: manifest.digest for role, manifest in run.once(_memories).items()},
        "torch": torch.__version__,
    }


def _place(run: Run) -> tuple[str, str]:
    report = layout.report(run.night)
    return report.work("samples"), report.samples_manifest


def _generate(run: Run) -> None:
    workspace, cfg, models = run.workspace, run.cfg, run.options["models"]
    with track("generate", total=len(models) * len(cfg.generate.prompts), unit="texts") as bar:
        samples: list[dict[str, Any]] = []
        for role, model in models.items():
            memory = run.once(_memories).get(role)
            night = layout.place(memory.files[0].path).inner if memory else ""
            index = run.once(_indexes)[role]
            parts = None if index is None else suffixes_in(workspace, index)
            samples += _samples(cfg, role, load_model(workspace, model, night), parts)
            bar.advance(len(cfg.generate.prompts))
        challenger = workspace.models.manifest(models["challenger"])
        natural = _natural_repetition(workspace, challenger, cfg.generate.max_tokens)
    content = {"night": run.night, "samples": samples, "natural": natural}
    run.commit("samples", Part({layout.report(run.night).samples: json_bytes(content)}))


def _on_night(context: Context, model: str) -> GenerateReport:
    champion = context.workspace.models.champion_before(context.night)
    return write_samples(context.workspace, context.cfg, context.night, model, champion)


GENERATE = Step("generate", VERSION, _inputs, _generate, place=_place, on_night=OnNight(_on_night, "generate-text"))
"""Continue every prompt with each model. Option: `models` by their roles, the `challenger` and perhaps a `champion`."""


def _samples(cfg: Config, role: str, loaded: Loaded, parts: Sequence[Suffixes] | None) -> list[dict[str, Any]]:
    prompts = cfg.generate.prompts
    texts = [generate_texts(loaded.model, loaded.tokenizer, prompt, cfg.generate)[0] for prompt in prompts]
    ids = [loaded.tokenizer.encode(text) for text in texts]
    return [
        {
            "role": role,
            "model": loaded.id,
            "prompt": prompt,
            "text": text,
            "repeated_share": repeated_share(tokens),
            "copied_share": None if parts is None else copied_share(np.array(tokens, np.uint32), parts),
        }
        for prompt, text, tokens in zip(prompts, texts, ids, strict=True)
    ]


def _natural_repetition(workspace: Workspace, model: Manifest, tokens: int) -> dict[str, float]:
    """Return by language the mean share that repeats itself of held-out texts cut to `tokens`, the samples' length.

    Shorter ones, which repeat less, do not count.
    """
    shares: dict[str, list[float]] = {}
    for table in _held_out(workspace, model):
        for lang, ids in zip(table["lang"].to_pylist(), table["input_ids"], strict=True):
            own = shares.setdefault(lang, [])
            if len(ids) >= tokens and len(own) < PIECES:
                own.append(repeated_share(ids.values[:tokens].to_numpy()))
    return {lang: sum(own) / len(own) for lang, own in sorted(shares.items()) if own}


def _held_out(workspace: Workspace, model: Manifest) -> Iterator[pa.Table]:
    """Yield the validation shards of the nights that the model was trained on: they have its tokenizer."""
    for night in sorted(model.depends_on["nights"]):
        for entry in workspace.nights.load(night).entries(layout.night(night).split("validation")):
            yield read_table(workspace.store, entry, ["lang", "input_ids"])
