"""With the real harness, where it is installed; what it asks for is tested without it in evaluate/test_continuation."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("lm_eval", reason="needs the extra `eval`: pip install -c requirements.lock -e '.[eval]'")

import numpy as np

from slimpajama.apps.harness import HarnessModel, run_tasks
from slimpajama.cli import run
from slimpajama.core.errors import InputError
from slimpajama.model.evaluate.score import score_text
from slimpajama.model.loading import Loaded, load_model
from slimpajama.workspace.open import Workspace

TASKS = Path(__file__).parent / "harness_tasks"
LIKELY, UNLIKELY = 0.1, 5.0


class Bytes:
    """Stands in for a tokenizer: one token a byte, and one for the document."""

    document_id = 256
    token_bytes = np.array([1] * 256 + [0])

    def encode(self, text: str) -> list[int]:
        return list(text.encode())


class Knowing:
    """Stands in for a model: knows some texts by heart, and finds every byte of any other unlikely."""

    row_tokens = 4096

    def __init__(self, known: list[str]) -> None:
        self.known = [[256, *text.encode()] for text in known]

    def parameters(self) -> Any:
        return iter([torch.zeros(1)])

    def nll_and_likeliest(self, tokens_BT: Tensor) -> tuple[Tensor, Tensor]:
        nll_BT = torch.full(tokens_BT.shape, UNLIKELY)
        for row, out in zip(tokens_BT.tolist(), nll_BT, strict=True):
            for text in self.known:
                if row[: len(text)] == text:
                    out[: len(text)] = LIKELY
        return nll_BT, torch.where(nll_BT == LIKELY, tokens_BT, 0)

    def nll(self, tokens_BT: Tensor) -> Tensor:
        return self.nll_and_likeliest(tokens_BT)[0]


@pytest.fixture(autouse=True)
def caches_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "datasets"))
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


def questions(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (TASKS / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def rigged(texts: list[str]) -> Loaded:
    return Loaded("rigged", Knowing(texts), Bytes(), {})  # type: ignore[arg-type]


@pytest.mark.parametrize("lang", ["zh", "en"])
@pytest.mark.parametrize("right", [0, 1, 3, 4])
def test_a_model_that_knows_some_answers_gets_exactly_these(lang: str, right: int):
    asked = questions(f"{lang}_words")
    chosen = [q["answer"] if i < right else (q["answer"] + 1) % 3 for i, q in enumerate(asked)]
    known = [q["question"] + q["choices"][c] for q, c in zip(asked, chosen, strict=True)]
    found = run_tasks(rigged(known), [f"{lang}_words"], TASKS)
    assert found["tasks"][f"{lang}_words"]["acc"] == right / 4
    assert found["samples"] == {f"{lang}_words": 4}


@pytest.mark.parametrize("lang", ["zh", "en"])
def test_perplexity_is_that_of_score(trained: Any, lang: str):
    space, model = trained
    loaded = load_model(Workspace(space.store), model)
    scores = [score_text(loaded.model, loaded.tokenizer, row["text"]) for row in questions(f"{lang}_text")]
    nll, n_bytes = sum(s["nll_nats"] for s in scores), sum(s["bytes"] for s in scores)
    found = run_tasks(loaded, [f"{lang}_text"], TASKS)["tasks"][f"{lang}_text"]
    assert found["bits_per_byte"] == pytest.approx(nll / n_bytes / math.log(2), rel=1e-6)
    assert found["byte_perplexity"] == pytest.approx(math.exp(nll / n_bytes), rel=1e-6)


def asking(*arguments: Any) -> Any:
    return SimpleNamespace(args=arguments)


def test_generated_text_ends_before_the_first_stop_string(trained: Any):
    space, model = trained
    harness = HarnessModel(loaded=load_model(Workspace(space.store), model))
    (free,) = harness.generate_until([asking("今天天气", {"until": [], "max_gen_toks": 24})])
    stop = free[len(free) // 2 :][:2]
    (cut,) = harness.generate_until([asking("今天天气", {"until": [stop, "never met"], "max_gen_toks": 24})])
    assert cut == free[: free.index(stop)] != free
    assert harness.generate_until([asking("今天天气", {"until": stop, "max_gen_toks": 24, "do_sample": False})]) == [
        cut
    ]


def test_settings_of_generation_that_are_not_ours_are_refused_by_name(trained: Any):
    space, model = trained
    harness = HarnessModel(loaded=load_model(Workspace(space.store), model))
    with pytest.raises(InputError, match="num_beams"):
        harness.generate_until([asking("今天", {"num_beams": 4})])


def test_the_harness_finds_the_model_by_its_name_in_a_workspace(trained: Any):
    from lm_eval.api.registry import get_model

    space, model = trained
    harness = get_model("slimpajama").create_from_arg_string(f"workspace={space.store.uri},model={model}")
    assert harness.loaded.id == model
    ((value, greedy),) = harness.loglikelihood([asking("今天", "学习")])
    assert value < 0
    assert not greedy


def test_a_task_that_is_not_there_is_one_clear_error(tmp_path: Path):
    with pytest.raises(InputError, match=r"no such task: expected en_text.*found zh_wrods"):
        run_tasks(rigged([]), ["zh_words", "zh_wrods"], TASKS)
    with pytest.raises(InputError, match="no such folder"):
        run_tasks(rigged([]), ["zh_words"], tmp_path / "missing")


def test_the_command_prints_what_the_library_found(trained: Any, capsys: pytest.CaptureFixture[str]):
    space, model = trained
    names = ["zh_words", "en_words", "zh_text", "en_text"]
    arguments = ["lm-eval", "--tasks", ",".join(names), "--include-path", str(TASKS), "--workspace", space.store.uri]
    assert run([*arguments, "--model", model, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert printed == run_tasks(load_model(Workspace(space.store), model), names, TASKS)
    assert printed["model"] == model
