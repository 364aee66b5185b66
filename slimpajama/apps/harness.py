"""EleutherAI's lm-evaluation-harness on a model of a workspace: its tasks, its metrics, our likelihoods.

The only module that knows the harness; needs `pip install 'slimpajama[eval]'`. Importing it registers the model
`slimpajama` (arguments `workspace`, `model`), so the harness's own functions find it, too.
"""

import contextlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lm_eval import simple_evaluate
from lm_eval.api.model import LM
from lm_eval.api.registry import register_model
from lm_eval.models.utils import normalize_gen_kwargs
from lm_eval.tasks import TaskManager

from slimpajama.core.config import GenerateConfig
from slimpajama.core.errors import InputError
from slimpajama.core.progress import track
from slimpajama.model.evaluate.score import score_continuations, score_ids
from slimpajama.model.generate.text import stop_place, stream_text
from slimpajama.model.loading import Loaded, is_exported, load_exported, load_model
from slimpajama.workspace.open import open_workspace

# Requests between two signs of progress; sorted by length inside a block.
BLOCK = 512
MAX_TOKENS = 256  # the harness's own default
SAMPLING = ("temperature", "top_k", "top_p", "seed")


@register_model("slimpajama")
class HarnessModel(LM):  # type: ignore[misc] # the harness carries no types
    """What the harness asks a model, answered by a published one."""

    def __init__(self, workspace: str = "workspace", model: str = "", loaded: Loaded | None = None, **_: Any) -> None:
        """Load `model` (default: the champion) of `workspace`, or take `loaded`; the harness's other options
        (batch size, device) play no part: batches are sized by tokens, the device is chosen as everywhere."""
        super().__init__()
        exported = load_exported(Path(model)) if is_exported(model) else None
        self.loaded = loaded or exported or load_model(open_workspace(workspace), model or None)

    @property
    def tokenizer_name(self) -> str:
        """Name that the harness's caches go by."""
        return f"slimpajama/{self.loaded.id}"

    def loglikelihood(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Return log-likelihood in nats and greediness of each (context, continuation)."""
        model, tokenizer = self.loaded.model, self.loaded.tokenizer
        return self._answer("loglikelihood", requests, lambda some: score_continuations(model, tokenizer, some))

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        """Return the log-likelihood of each whole text, by the windows of `slimpajama score`."""
        tokenizer = self.loaded.tokenizer

        def answer(some: list[tuple[str]]) -> list[float]:
            ids = [tokenizer.encode(text) for (text,) in some]
            found: list[float] = (-score_ids(self.loaded.model, ids, tokenizer.document_id)).tolist()
            return found

        return self._answer("loglikelihood_rolling", requests, answer)

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """Return the text that follows each context, up to the first of its stop strings."""
        return self._answer("generate_until", requests, lambda some: [self._generate(*one) for one in some], block=1)

    def _answer(self, kind: str, requests: Sequence[Any], answer: Any, block: int = BLOCK) -> list[Any]:
        answers: list[Any] = []
        with track("lm-eval", total=len(requests), unit="requests") as bar:
            for begin in range(0, len(requests), block):
                some = requests[begin : begin + block]
                answers += answer([request.args for request in some])
                bar.advance(len(some), kind)
        for request, value in zip(requests, answers, strict=True):
            self.cache_hook.add_partial(kind, request.args, value)
        return answers

    def _generate(self, context: str, arguments: dict[str, Any]) -> str:
        given = normalize_gen_kwargs(arguments, MAX_TOKENS)
        stops = [stop for stop in given.pop("until") if stop]
        # Not to sample is temperature 0.
        max_tokens, _ = given.pop("max_gen_toks"), given.pop("do_sample")
        if unknown := sorted(set(given) - set(SAMPLING)):
            raise InputError("not a setting of generation", found=", ".join(unknown), expected=", ".join(SAMPLING))
        # An answer may stand in the corpus.
        cfg = GenerateConfig(**{"temperature": 0.0, "top_p": 1.0} | given, max_tokens=max_tokens, max_copied_words=0)
        text = ""
        for piece in stream_text(self.loaded.model, self.loaded.tokenizer, context, cfg):
            text += piece
            if (place := stop_place(text, stops)) is not None:
                return text[:place]
        return text


def run_tasks(
    loaded: Loaded,
    tasks: Sequence[str],
    folder: Path | None = None,
    fewshot: int | None = None,
    limit: int | None = None,
) -> dict[str, Any]:
    """Run tasks of the harness and return `{"model", "tasks": {task: {metric: value}}, "samples": {task: n}}`.

    Args:
        tasks: Names, groups or tags.
        folder: Where task definitions (YAML) are looked for, and where the paths in them begin; nothing else is looked
            at then, and nothing is fetched. None for the tasks that come with the harness.
        fewshot: Solved examples before each question; None for what the task says.
        limit: Take only the first ones of each task.

    Raises:
        InputError: No such folder or task, or the harness cannot run one.
    """
    if folder and not folder.is_dir():
        raise InputError("no such folder", where=str(folder))
    with contextlib.chdir(folder or "."):
        manager = TaskManager(include_path="." if folder else None, include_defaults=not folder)
        if unknown := [name for name in tasks if not manager.match_tasks([name])]:
            raise InputError(
                "no such task",
                where=str(folder or "lm-eval"),
                found=", ".join(unknown),
                expected=", ".join(manager.all_tasks[:20]),
            )
        try:
            found = simple_evaluate(
                HarnessModel(loaded=loaded),
                tasks=list(tasks),
                num_fewshot=fewshot,
                limit=limit,
                task_manager=manager,
                log_samples=False,
            )
        except (OSError, ValueError, LookupError) as error:
            raise InputError(f"the harness cannot run this: {error}", where=", ".join(tasks)) from error
    return {
        "model": loaded.id,
        "tasks": {name: _metrics(figures) for name, figures in sorted(found["results"].items())},
        "samples": {name: sizes["effective"] for name, sizes in sorted(found["n-samples"].items())},
    }


def _metrics(figures: dict[str, Any]) -> dict[str, float]:
    """Return the finite numbers, by the metric's name, without the name of a filter that does nothing."""
    numbers = {name: value for name, value in figures.items() if isinstance(value, int | float)}
    return {name.removesuffix(",none"): float(n) for name, n in sorted(numbers.items()) if math.isfinite(n)}
