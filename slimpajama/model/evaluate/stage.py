"""Evaluation as steps: a model and its champion scored on the same held-out documents, and the gate's decision.

    models/MODEL/evaluations/NIGHT/scores.parquet, evaluation.json, manifest.json    one model's own figures
    models/MODEL/evaluations/NIGHT/gate/decision.json, manifest.json                 against the champion of that night

NIGHT is the newest night whose held-out text counts. The champion's figures are kept under its own folder, so a night
that is evaluated twice scores it once. Both models have a memory of the nights up to this one where there is an index,
so the gate compares their weights; what the memory adds to each stands beside it.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from slimpajama.core.config import Config, EvaluateConfig
from slimpajama.core.errors import InputError, ModelError
from slimpajama.core.progress import track
from slimpajama.core.result import Result
from slimpajama.model.device import with_precision
from slimpajama.model.evaluate.documents import Document, byte_floor, held_out_documents
from slimpajama.model.evaluate.gate import Paired, decide, decide_first, decide_memory
from slimpajama.model.evaluate.score import Reconstruction, bits_per_byte, reconstruct_ids, score_parts
from slimpajama.model.loading import load_model, with_memory
from slimpajama.model.memory.stage import remember
from slimpajama.text.tokenizer import SEPARATOR
from slimpajama.workspace import layout
from slimpajama.workspace.manifest import Manifest, json_bytes
from slimpajama.workspace.open import Workspace
from slimpajama.workspace.parquet import published_json, read_verified_table, verified_json
from slimpajama.workspace.step import Context, OnNight, Part, Run, Step, run_step
from slimpajama.workspace.store import Store

# Raise it when the same model and text give other figures.
VERSION = 3
# Raise it when the same figures give another decision, or another reason for it.
GATE_VERSION = 4
# Documents between two signs of progress.
BLOCK = 32
SCORES = pa.schema(
    [
        ("id", pa.string()),
        ("lang", pa.string()),
        ("source", pa.string()),
        ("night", pa.string()),
        # Of the text that was scored.
        ("n_bytes", pa.int64()),
        ("n_tokens", pa.int64()),
        # By the model as it is, and by its network alone.
        ("nll_nats", pa.float64()),
        ("network_nats", pa.float64()),
        # With the memory that it had before this night; null where it had none.
        ("before_nats", pa.float64()),
        # Tokens that came back through the bottleneck; null where there is none.
        ("restored", pa.int64()),
        ("latents", pa.int64()),
    ]
)


@dataclass(frozen=True, slots=True)
class EvaluateReport(Result):
    """How good a model is and whether it shall replace the champion."""

    model: str
    champion: str
    """What it was compared with; empty where there was none."""
    night: str
    promote: bool
    reason: str
    decision: dict[str, Any]
    """The gate's figures: `overall` and `languages`, each with the interval of the difference."""
    figures: dict[str, Any]
    """`evaluation.json` of the model."""
    champion_figures: dict[str, Any] | None

    def text(self) -> str:
        """Return the figures and the decision for people."""
        lines = [f"{self.model} on held-out text of {self.night}, bits per byte:"]
        for lang, own in self.figures["languages"].items():
            line = f"  {lang:<8} {_with_network(own)}"
            if self.champion_figures:
                line += f"  champion {_with_network(self.champion_figures['languages'][lang])}"
            lines.append(line)
        return "\n".join([*lines, f"{'Promote' if self.promote else 'Keep the champion'}: {self.reason}"])


@dataclass(frozen=True, slots=True)
class GateReport(Result):
    """What became of the gate's decision."""

    model: str
    promoted: bool
    """Whether the model became the champion now."""
    reason: str
    memory: str = ""
    """What became of the champion's new memory; empty where there is none."""

    def text(self) -> str:
        """Return lines for people."""
        line = f"{self.model} is {'the champion now' if self.promoted else 'not promoted'}: {self.reason}"
        return f"{line}\n{self.memory}" if self.memory else line


def evaluate(
    workspace: Workspace, cfg: Config, model_id: str, nights: Sequence[str], champion: str | None = None
) -> EvaluateReport:
    """Score a model on held-out text, compare it with the champion and say whether it shall be promoted.

    Args:
        cfg: `evaluate`, `memory` and `train.precision` are used.
        nights: Published nights, oldest first, whose `test` documents count; the last one names the evaluation.
        champion: The model to compare with; None or the model itself for none.

    Raises:
        ModelError: If a model is not published.
        InputError: If there is no night.
    """
    if not nights:
        raise InputError(
            "no published night to evaluate on", where=workspace.uri, hint="Run `slimpajama prepare` first."
        )
    context = Context(workspace, with_precision(cfg), nights[-1])
    manifests = {night: workspace.nights.load(night) for night in nights}
    champion = champion if champion != model_id else None
    own = _evaluated(context, model_id, manifests)
    other = _evaluated(context, champion, manifests, workspace.models.memory_before(nights[-1])) if champion else None
    made = {"challenger": own} | ({"champion": other} if other else {})
    decided = run_step(GATE, context, made, model=model_id, nights=manifests).result
    decision = verified_json(workspace.store, decided.file("decision.json"))
    return EvaluateReport(
        model=model_id,
        champion=champion or "",
        night=nights[-1],
        promote=decision["promote"],
        reason=decision["reason"],
        decision=decision,
        figures=verified_json(workspace.store, own.file("evaluation.json")),
        champion_figures=verified_json(workspace.store, other.file("evaluation.json")) if other else None,
    )


def _evaluated(context: Context, model: str, nights: dict[str, Manifest], before: str = "") -> Manifest:
    """Return the manifest of a model's evaluation; its memory is made where it is missing."""
    memory = remember(context.workspace, context.cfg, model, context.night)
    digest = memory.digest if memory else ""
    before = before if memory and before != context.night else ""
    return run_step(EVALUATE, context, model=model, nights=nights, memory=digest, before=before).result


def _inputs(run: Run) -> dict[str, Any]:
    return {
        "model": run.workspace.models.manifest(run.options["model"]).digest,
        "memory": run.options["memory"],
        "before": run.options["before"],
        "nights": {night: manifest.digest for night, manifest in run.options["nights"].items()},
        "max_mb_per_language": run.cfg.evaluate.max_mb_per_language,
        "precision": run.cfg.train.precision,
        "torch": torch.__version__,
    }


def _folder(run: Run) -> layout.Folder:
    model = layout.model(run.options["model"])
    return model.gate(run.night) if run.name == GATE.name else model.evaluation(run.night)


def _place(run: Run) -> tuple[str, str]:
    return _folder(run).work(), _folder(run).manifest


def _measure(run: Run) -> None:
    table, figures = _score(run)
    folder = _folder(run)
    files = {folder.file("scores.parquet"): table, folder.file("evaluation.json"): json_bytes(figures)}
    bits = {lang: values["bits_per_byte"] for lang, values in figures["languages"].items()}
    run.commit("scores", Part(files, {"documents": table.num_rows, "bits_per_byte": bits}))


def _with_network(figures: dict[str, Any]) -> str:
    """Return bits per byte for people, those of the network alone behind where they differ."""
    whole, network = f"{figures['bits_per_byte']:.4f}", f"{figures['network_bits_per_byte']:.4f}"
    return whole if whole == network else f"{whole} (network {network})"


def _evaluate_night(context: Context, model: str) -> EvaluateReport:
    workspace, night = context.workspace, context.night
    nights = workspace.nights.published()
    until = nights[: nights.index(night) + 1]
    return evaluate(workspace, context.cfg, model, until, workspace.models.champion_before(night))


EVALUATE = Step(
    "evaluate",
    VERSION,
    _inputs,
    _measure,
    place=_place,
    folders="shards/test|models/[^/]+",
    on_night=OnNight(_evaluate_night, "evaluate-model"),
)
"""Score one model and publish its figures.

Options: `model`, the manifests of the `nights` whose held-out text counts, the digest of the model's `memory` of them,
and the night of the one that it had `before`; empty where there is none.
"""


def _gate_inputs(run: Run) -> dict[str, Any]:
    cfg, champion = run.cfg.evaluate, run.made.get("champion")
    return {
        "champion": champion.digest if champion else "",
        "settings": {"bootstrap": cfg.bootstrap, "confidence": cfg.confidence, "seed": cfg.seed},
        "numpy": np.__version__,
    }


def _decide(run: Run) -> None:
    champion, cfg = run.made.get("champion"), run.cfg.evaluate
    own = _scores(run.store, run.made["challenger"])
    if champion:
        decision = decide(_paired(own, _scores(run.store, champion)), cfg)
    else:
        nights = run.options["nights"]
        floor = byte_floor(run.store, nights, held_out_documents(run.store, nights, cfg))
        decision = decide_first(Paired(*_documents(own), floor, own["nll_nats"].to_numpy()))
    serving = own if decision.promote or not champion else _scores(run.store, champion)
    content = asdict(decision) | {"memory": _decide_memory(serving, cfg)}
    run.commit("decision", Part({_folder(run).file("decision.json"): json_bytes(content)}))


def _decide_memory(scores: pa.Table, cfg: EvaluateConfig) -> dict[str, Any] | None:
    """Return whether the champion shall use its new memory: compared with the one before, or with its network alone.

    None where it has none.
    """
    if scores["nll_nats"].equals(scores["network_nats"]):
        return None
    before = scores["before_nats" if not scores["before_nats"].null_count else "network_nats"]
    decision = decide_memory(Paired(*_documents(scores), before.to_numpy(), scores["nll_nats"].to_numpy()), cfg)
    return {"admit": decision.promote, "reason": decision.reason, "overall": decision.overall}


def _carry_out(context: Context, model: str) -> GateReport:
    workspace, place = context.workspace, layout.model(model).gate(context.night)
    decision = published_json(workspace.store, place.manifest, "decision.json")
    if decision is None:
        where = f"{workspace.uri}/{place.path}"
        raise ModelError("the gate has not decided yet", where=where, hint="Run `slimpajama evaluate`.")
    # Earlier gates knew of no memory.
    memory = decision.get("memory") or {"admit": False, "reason": ""}
    night = context.night if memory["admit"] else ""
    promoted = decision["promote"] and workspace.models.promote_once(model, decision["reason"], night)
    if not decision["promote"] and night:
        champion = workspace.models.champion_before(context.night)
        if champion:
            workspace.models.admit_memory(champion, night, memory["reason"])
    return GateReport(model, promoted, decision["reason"], memory["reason"])


GATE = Step(
    "gate",
    GATE_VERSION,
    _gate_inputs,
    _decide,
    needs={"model": "challenger"},
    place=_place,
    on_night=OnNight(_carry_out, "evaluate-model"),
)
"""Decide between a model and the champion by their figures.

Options: `model`, whose figures are the challenger's, and the manifests of the `nights` whose held-out text counts.
"""


def _score(run: Run) -> tuple[pa.Table, dict[str, Any]]:
    """Return the score of each document, and the figures by language and source.

    Likelihood is computed in the precision of training: bfloat16 takes half the time and moved no document by more
    than 0.0003 bits per byte, and both models of a comparison have the same. Reconstruction stays in float32.
    """
    cfg, nights, model_id = run.cfg, run.options["nights"], run.options["model"]
    loaded = load_model(run.workspace, model_id, memory=False)
    if run.options["memory"]:
        loaded = with_memory(run.workspace, loaded, run.night, run.options["before"])
    documents = held_out_documents(run.store, nights, cfg.evaluate)
    ids = loaded.tokenizer.encode_joined([SEPARATOR.join(document.words) for document in documents])
    document_id, latent = loaded.tokenizer.document_id, loaded.model.describe().get("latent")
    tables = [SCORES.empty_table()]
    with track("evaluate", total=sum(document.n_bytes for document in documents), unit="B") as bar:
        for start in range(0, len(documents), BLOCK):
            some, some_ids = documents[start : start + BLOCK], ids[start : start + BLOCK]
            nll = score_parts(loaded.model, some_ids, document_id, cfg.train.precision)
            restored = reconstruct_ids(loaded.model, some_ids, document_id) if latent else None
            tables.append(_table(some, [len(i) for i in some_ids], nll, restored))
            bar.advance(sum(document.n_bytes for document in some))
    table = pa.concat_tables(tables)
    figures = {"model": model_id, "night": list(nights)[-1], "latent": latent} | summarise(table, latent)
    return table, figures


def _table(documents: list[Document], tokens: list[int], nll_PD: Any, restored: Reconstruction | None) -> pa.Table:
    unknown = [None] * len(documents)
    return pa.table(
        {
            **{name: [getattr(one, name) for one in documents] for name in SCORES.names[:5]},
            "n_tokens": tokens,
            "nll_nats": nll_PD[0],
            "network_nats": nll_PD[min(1, len(nll_PD) - 1)],
            "before_nats": nll_PD[2] if len(nll_PD) > 2 else unknown,
            "restored": restored.correct if restored else unknown,
            "latents": restored.latents if restored else unknown,
        },
        schema=SCORES,
    )


def summarise(scores: pa.Table, latent: dict[str, Any] | None) -> dict[str, Any]:
    """Return the figures of a table of scores: over all, by language and by language and source.

    `bits_per_byte` over all is the mean of the languages, each with the same weight; `network_bits_per_byte` is that of
    the network without its memory. `token_accuracy` is the share of tokens that came back through the bottleneck,
    `document_accuracy` that of documents of which every token did.

    Args:
        scores: Rows of the schema SCORES.
        latent: The model's bottleneck as `describe` gives it, or None.
    """
    rows = scores.to_pylist()

    def group(key: Callable[[dict[str, Any]], str]) -> dict[str, Any]:
        names = sorted({key(row) for row in rows})
        return {name: _figures([row for row in rows if key(row) == name], latent) for name in names}

    languages = group(lambda row: str(row["lang"]))
    means = {
        name: math.fsum(figures[name] for figures in languages.values()) / len(languages) if languages else 0.0
        for name in ("bits_per_byte", "network_bits_per_byte")
    }
    return {
        "overall": _figures(rows, latent) | means,
        "languages": languages,
        "sources": group(lambda row: f"{row['lang']}/{row['source']}"),
    }


def _figures(rows: list[dict[str, Any]], latent: dict[str, Any] | None) -> dict[str, Any]:
    total = {name: sum(row[name] for row in rows) for name in ("n_bytes", "n_tokens", "nll_nats", "network_nats")}
    figures: dict[str, Any] = {
        "documents": len(rows),
        "bytes": total["n_bytes"],
        "tokens": total["n_tokens"],
        "nll_nats": total["nll_nats"],
        "bits_per_byte": bits_per_byte(total["nll_nats"], total["n_bytes"]),
        "network_bits_per_byte": bits_per_byte(total["network_nats"], total["n_bytes"]),
    }
    latents = sum(row["latents"] or 0 for row in rows)
    if latent and latents:
        figures["token_accuracy"] = sum(row["restored"] for row in rows) / total["n_tokens"]
        figures["document_accuracy"] = sum(row["restored"] == row["n_tokens"] for row in rows) / len(rows)
        figures["compression_ratio"] = total["n_tokens"] / latents
        figures["text_bytes_per_latent_byte"] = total["n_bytes"] / (latents * latent["bytes"])
    return figures


def _paired(challenger: pa.Table, champion: pa.Table) -> Paired:
    if challenger["id"].to_pylist() != champion["id"].to_pylist():
        raise RuntimeError("champion and challenger were scored on different documents")
    return Paired(*_documents(challenger), champion["nll_nats"].to_numpy(), challenger["nll_nats"].to_numpy())


def _documents(scores: pa.Table) -> tuple[list[str], Any]:
    """Return the language and the bytes of each document."""
    return scores["lang"].to_pylist(), scores["n_bytes"].to_numpy()


def _scores(store: Store, manifest: Manifest) -> pa.Table:
    """Return the published scores; where no text is held out, no file of them is."""
    entry = manifest.find("scores.parquet")
    return read_verified_table(store, entry) if entry else SCORES.empty_table()
