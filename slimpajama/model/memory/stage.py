"""How a model uses the corpus's index, as a step: weights learnt on the validation split of the nights.

    models/MODEL/memory/NIGHT/weights.json, manifest.json

The index itself stays with the nights, of which NIGHT is the newest. A champion gets a memory of each night that it
lives through, for it is compared with the night's own model, both with what the corpus holds by then.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from slimpajama.core.config import Config
from slimpajama.core.errors import InputError
from slimpajama.core.logs import step_log
from slimpajama.core.progress import track
from slimpajama.core.result import Result
from slimpajama.model.architectures import LanguageModel
from slimpajama.model.device import autocast, device_of, with_precision
from slimpajama.model.evaluate.score import END, FIRST, START, Sequences, plan_rows
from slimpajama.model.loading import load_model
from slimpajama.model.memory.contexts import Contexts, Corpus
from slimpajama.model.memory.model import outlook_of, places_in
from slimpajama.model.memory.opening import digests_of, indexes_of, nights_of, suffixes_in
from slimpajama.model.memory.weights import Outlook, learn, not_asked
from slimpajama.model.train.data import gather
from slimpajama.workspace import layout
from slimpajama.workspace.manifest import FileEntry, Manifest, json_bytes
from slimpajama.workspace.open import Workspace
from slimpajama.workspace.step import Context, OnNight, Part, Run, Step, run_step

# Raise it when the same inputs give other weights.
VERSION = 1
# Tokens that the weights are learnt on, and those of them that the network is asked about, which takes most of the
# time: half as many more of these gave less than 0.1 % fewer bits per byte.
TOKENS, NETWORK_TOKENS = 96_000, 32_000
Documents = Mapping[str, Sequence[NDArray[np.uint16]]]


@dataclass(frozen=True, slots=True)
class MemoryReport(Result):
    """What a model remembers."""

    model: str
    night: str
    nights: list[str]
    """Nights whose index it uses; none where it has no memory."""
    tokens: int
    """Tokens of the corpus that are looked up."""

    def text(self) -> str:
        """Return one line for people."""
        if not self.nights:
            return f"{self.model} has no memory"
        return f"{self.model} remembers {self.tokens:,} tokens of {len(self.nights)} night(s)"


def remember(workspace: Workspace, cfg: Config, model_id: str, night: str) -> Manifest | None:
    """Let a model learn how to use the index of the nights up to `night`; return the manifest of its memory.

    Returns:
        None where `memory.enabled` is false, where no text is held out to learn from, or where a night has no index
        yet, which is said.
    """
    nights = nights_of(workspace, model_id, night) if cfg.memory.enabled else {}
    if not any(_validation(*night) for night in nights.items()):
        return None
    try:
        indexes = indexes_of(workspace, nights)
    except InputError as error:
        _say_once(f"{model_id} works without a memory: {error}")
        return None
    context = Context(workspace, with_precision(cfg), night)
    return run_step(MEMORY, context, model=model_id, nights=nights, indexes=indexes).result


@functools.cache
def _say_once(message: str) -> None:
    """Say what each of several steps of a night would say."""
    step_log("memory").warning(message)


def _inputs(run: Run) -> dict[str, Any]:
    nights: dict[str, Manifest] = run.options["nights"]
    validation = (entry for night, manifest in nights.items() for entry in _validation(night, manifest))
    return {
        "model": run.workspace.models.manifest(run.options["model"]).digest,
        "indexes": digests_of(run.options["indexes"]),
        "validation": [entry.sha256 for entry in validation],
        "max_context": run.cfg.memory.max_context,
        "precision": run.cfg.train.precision,
        "torch": torch.__version__,
        "numpy": np.__version__,
    }


def _validation(night: str, manifest: Manifest) -> list[FileEntry]:
    return manifest.entries(layout.night(night).split("validation"))


def _folder(run: Run) -> layout.Folder:
    return layout.model(run.options["model"]).memory(run.night)


def _place(run: Run) -> tuple[str, str]:
    return _folder(run).work(), _folder(run).manifest


def _make(run: Run) -> None:
    workspace, nights = run.workspace, [*run.options["nights"]]
    loaded, data = load_model(workspace, run.options["model"], memory=False), gather(workspace, nights, nights[-1])
    parts = suffixes_in(workspace, run.options["indexes"])
    corpus = Corpus(parts, run.cfg.memory.max_context)
    evidence = gather_evidence(corpus, loaded.model, data.held_out(), loaded.tokenizer.document_id, run.cfg)
    weights = learn(*evidence, loaded.tokenizer.vocab_size)
    content = {_folder(run).file("weights.json"): json_bytes(weights.to_json())}
    counts = {"tokens": sum(len(part.ids) - 1 for part in parts), "learnt_on": len(evidence[0].counts)}
    run.commit("memory", Part(content, counts))


def _on_night(context: Context, model: str) -> MemoryReport:
    made = remember(context.workspace, context.cfg, model, context.night)
    nights = list(made.depends_on["indexes"]) if made else []
    return MemoryReport(model, context.night, nights, made.counts["tokens"] if made else 0)


MEMORY = Step(
    "memory",
    VERSION,
    _inputs,
    _make,
    place=_place,
    folders="index|shards/validation|tokenizer|models/[^/]+",
    on_night=OnNight(_on_night, "evaluate-model"),
)
"""Learn how a model uses the index. Options: `model`, and the manifests of the `nights` and of their `indexes`."""


def gather_evidence(
    corpus: Corpus, network: LanguageModel, documents: Documents, document_id: int, cfg: Config
) -> tuple[Contexts, Outlook]:
    """Return what corpus and network say of held-out tokens, of each language as many as there are, up to a bound.

    Rows are drawn from all documents. The first ones are those that the network is asked about.
    """
    found: list[tuple[Contexts, Outlook]] = []
    device, precision = device_of(network), cfg.train.precision
    texts = [Sequences(documents[lang], document_id) for lang in sorted(documents)]
    plans = [
        _rows(text.lengths_D, network.row_tokens, np.random.default_rng([number, len(texts)]))
        for number, text in enumerate(texts)
    ]
    ends = [np.cumsum(plan[:, END] - plan[:, START]) for plan in plans]
    most = [min(int(end[-1]), TOKENS // len(texts)) for end in ends if len(end)]
    with torch.inference_mode(), autocast(device, precision), track("memory", sum(most), unit="tokens") as bar:
        for text, plan, end in zip(texts, plans, ends, strict=True):
            bounds = np.searchsorted(end, np.array([0, NETWORK_TOKENS, TOKENS]) // len(texts))
            for asked, first, last in ((True, *bounds[:2]), (False, *bounds[1:])):
                for _, tokens_BT, counts_BT in text.batches(plan[first:last]):
                    found.append(_evidence(corpus, network if asked else None, tokens_BT, counts_BT))
                    bar.advance(tokens_BT.size)
    joined = [np.concatenate(columns) for columns in zip(*((*a, *b) for a, b in found), strict=True)]
    return Contexts(*joined[:3]), Outlook(*joined[3:])


def _evidence(
    corpus: Corpus, network: LanguageModel | None, tokens_BT: NDArray[np.int64], counts_BT: NDArray[np.bool_]
) -> tuple[Contexts, Outlook]:
    outlook = not_asked(tokens_BT.size)
    if network:
        outlook = outlook_of(network, torch.from_numpy(tokens_BT).to(device_of(network)))
    contexts, _ = corpus.ask(places_in(tokens_BT, corpus.document_id))
    chosen = counts_BT.reshape(-1)
    return contexts.take(chosen), Outlook(*(x[chosen] for x in outlook))


def _rows(lengths_D: NDArray[np.int64], row_tokens: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return rows that lie side by side in the documents, in a seeded order, in the columns of `plan_windows`.

    Of a row that begins inside a document the first quarter does not count: too little comes before it.
    """
    # The token before each row comes with it.
    plan = plan_rows(lengths_D, row_tokens - 1)
    plan[:, START] -= 1
    plan[:, FIRST] = np.where(plan[:, START] == 0, 1, plan[:, START] + row_tokens // 4)
    return rng.permutation(plan)
