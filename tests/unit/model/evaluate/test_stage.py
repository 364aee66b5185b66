from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from slimpajama.core.errors import InputError, ModelError
from slimpajama.corpus.index import index_nights
from slimpajama.model.evaluate import stage as evaluate_stage
from slimpajama.model.evaluate.documents import byte_floor, held_out_documents
from slimpajama.model.evaluate.score import bits_per_byte
from slimpajama.model.evaluate.stage import EVALUATE, GATE, SCORES, evaluate, summarise
from slimpajama.model.loading import load_model
from slimpajama.model.train.stage import train
from slimpajama.ops.overview import list_models_with_scores
from slimpajama.workspace import layout
from slimpajama.workspace.local import LocalStore
from slimpajama.workspace.manifest import Manifest, entry_of, load_manifest
from slimpajama.workspace.nights import Nights
from slimpajama.workspace.open import Workspace
from slimpajama.workspace.parquet import read_table
from slimpajama.workspace.step import Context
from slimpajama.workspace.store import read_json


def row(lang: str, source: str, n_bytes: int, nll: float) -> dict[str, Any]:
    return {
        "id": "x",
        "lang": lang,
        "source": source,
        "night": "n",
        "n_bytes": n_bytes,
        "n_tokens": n_bytes // 4,
        "nll_nats": nll,
        "network_nats": 2 * nll,
        "before_nats": None,
        "restored": n_bytes // 8,
        "latents": n_bytes // 16,
    }


def test_the_overall_figure_weighs_languages_and_not_bytes():
    rows = [row("en", "a", 800, 800 * math.log(2)), row("zh", "a", 16, 3 * 16 * math.log(2))]
    figures = summarise(pa.Table.from_pylist(rows, SCORES), {"bytes": 2})
    assert figures["overall"]["bits_per_byte"] == pytest.approx(2.0)
    assert figures["languages"]["zh"]["bits_per_byte"] == pytest.approx(3.0)
    assert figures["languages"]["zh"]["network_bits_per_byte"] == pytest.approx(6.0)
    assert figures["overall"]["network_bits_per_byte"] == pytest.approx(4.0)
    assert list(figures["sources"]) == ["en/a", "zh/a"]
    assert figures["overall"]["token_accuracy"] == 0.5
    assert figures["overall"]["document_accuracy"] == 0
    assert figures["overall"]["compression_ratio"] == 4.0
    assert figures["overall"]["text_bytes_per_latent_byte"] == 8.0


def test_a_document_is_restored_where_every_token_of_it_is():
    rows = [row("zh", "a", 80, 1.0) | {"restored": restored} for restored in (20, 19, 20)]
    figures = summarise(pa.Table.from_pylist(rows, SCORES), {"bytes": 2})
    assert figures["languages"]["zh"]["document_accuracy"] == pytest.approx(2 / 3)
    assert figures["languages"]["zh"]["token_accuracy"] == pytest.approx(59 / 60)


def test_the_first_model_is_measured_and_promoted(trained: Any):
    space, model = trained
    report = evaluate(Workspace(space.store), space.cfg, model, space.nights[:1])
    assert report.promote
    folder = f"models/{model}/evaluations/{space.nights[0]}"
    assert space.store.list(folder) == [
        f"{folder}/evaluation.json",
        f"{folder}/gate/decision.json",
        f"{folder}/gate/manifest.json",
        f"{folder}/manifest.json",
        f"{folder}/scores.parquet",
    ]
    scores = read_table(space.store, entry_of(f"{folder}/scores.parquet", space.store.read(f"{folder}/scores.parquet")))
    assert report.figures["overall"]["bytes"] == sum(scores["n_bytes"].to_pylist())
    assert set(report.figures["languages"]) == {"en", "zh"}
    assert 0 < report.figures["overall"]["token_accuracy"] <= 1
    assert json.dumps(report.as_dict(), allow_nan=False)
    assert "Promote" in report.text()


def test_a_first_model_that_knows_less_than_the_counts_of_bytes_is_not_promoted(
    trained: Any, monkeypatch: pytest.MonkeyPatch
):
    space, model = trained
    nights = {night: Nights(space.store).load(night) for night in space.nights[:1]}
    for max_mb, factor, promoted in ((0.004, 1.01, False), (0.005, 0.99, True)):
        cfg = replace(space.cfg, evaluate=replace(space.cfg.evaluate, max_mb_per_language=max_mb))
        documents = held_out_documents(space.store, nights, cfg.evaluate)
        nats = byte_floor(space.store, nights, documents)
        # Bytes of text in two languages take four to seven bits.
        assert 4 < bits_per_byte(float(nats.sum()), sum(document.n_bytes for document in documents)) < 7
        left = list(factor * nats)
        monkeypatch.setattr(
            evaluate_stage, "score_parts", lambda _, ids, *__, left=left: np.array([[left.pop(0) for _ in ids]])
        )
        report = evaluate(Workspace(space.store), cfg, model, space.nights[:1])
        assert report.promote is promoted, report.reason


def test_a_model_is_compared_on_the_same_documents_with_a_champion_that_is_scored_once(
    trained: Any, monkeypatch: pytest.MonkeyPatch
):
    space, champion = trained
    longer = replace(space.cfg, train=replace(space.cfg.train, tokens=8192))
    challenger = train(Workspace(space.store), longer, space.nights, space.nights[1], champion).model
    report = evaluate(Workspace(space.store), space.cfg, challenger, space.nights, champion)
    assert report.champion == champion
    assert report.decision["overall"]["difference"] < 0
    assert report.promote
    assert report.champion_figures is not None
    assert report.champion_figures["overall"]["bytes"] == report.figures["overall"]["bytes"]
    assert "champion" in report.text()

    def not_again(*_: Any) -> None:
        raise AssertionError("scored again")

    monkeypatch.setattr(evaluate_stage, "_score", not_again)
    assert evaluate(Workspace(space.store), space.cfg, challenger, space.nights, champion) == report


def test_a_worse_model_is_not_promoted(trained: Any):
    space, champion = trained
    short = replace(space.cfg, train=replace(space.cfg.train, tokens=256, warm_start=False))
    challenger = train(Workspace(space.store), short, space.nights, space.nights[1]).model
    report = evaluate(Workspace(space.store), space.cfg, challenger, space.nights, champion)
    assert not report.promote
    decision = read_json(space.store, f"models/{challenger}/evaluations/{space.nights[1]}/gate/decision.json")
    assert decision["reason"] == report.reason
    rows = {row["model"]: row for row in list_models_with_scores(Workspace(space.store))}
    told = {name: rows[challenger][name] for name in ("against", "on", "difference")}
    difference = round(decision["overall"]["difference"], 6)
    assert told == {"against": champion, "on": space.nights[1], "difference": difference}
    assert rows[challenger]["set"] == f"{space.nights[1]}: {decision['overall']['documents']:,} documents"
    assert rows[champion]["against"] == ""


def test_another_confidence_decides_again_without_scoring_again(trained: Any, monkeypatch: pytest.MonkeyPatch):
    space, model = trained
    evaluate(Workspace(space.store), space.cfg, model, space.nights[:1])
    monkeypatch.setattr(evaluate_stage, "_score", None)
    path = f"models/{model}/evaluations/{space.nights[0]}/gate/manifest.json"
    before = load_manifest(space.store, path)
    evaluate(
        Workspace(space.store),
        replace(space.cfg, evaluate=replace(space.cfg.evaluate, seed=5)),
        model,
        space.nights[:1],
    )
    assert before is not None
    assert load_manifest(space.store, path) != before


def test_a_missing_model_or_night_is_an_error_for_the_user(workspace: Any):
    with pytest.raises(ModelError, match="no such model"):
        evaluate(Workspace(workspace.store), workspace.cfg, "nope", workspace.nights)
    with pytest.raises(InputError, match="no published night"):
        evaluate(Workspace(workspace.store), workspace.cfg, "nope", [])


def test_without_held_out_text_the_champion_stays_and_the_reason_is_said(workspace: Any, tmp_path: Path):
    night, store = workspace.nights[0], LocalStore(str(tmp_path / "none held out"))
    held_out = ("/shards/validation/", "/shards/test/")
    files = Nights(workspace.store).load(night).files
    kept = tuple(entry for entry in files if not any(part in entry.path for part in held_out))
    for entry in kept:
        store.write(entry.path, workspace.store.read(entry.path))
    Nights(store).publish(night, [Manifest("shards", "0", kept, {}, {"seed": 0})], workspace.cfg)
    first = train(Workspace(store), workspace.cfg, [night], night)
    assert first.bits_per_byte == {}
    assert evaluate(Workspace(store), workspace.cfg, first.model, [night]).promote
    short = replace(workspace.cfg, train=replace(workspace.cfg.train, tokens=512))
    report = evaluate(
        Workspace(store), workspace.cfg, train(Workspace(store), short, [night], night).model, [night], first.model
    )
    assert not report.promote
    assert report.reason == "There is no held-out text to compare on."


@pytest.fixture
def remembering(trained: Any) -> Any:
    """A workspace with an index, a champion of its first night with a memory, and a worse model of the second."""
    space, champion = trained
    workspace = Workspace(space.store)
    index_nights(workspace, space.cfg)
    context = Context(workspace, space.cfg, space.nights[0])
    EVALUATE.on_night.start(context, champion)
    GATE.on_night.start(context, champion)
    short = replace(space.cfg, train=replace(space.cfg.train, tokens=256, warm_start=False))
    challenger = train(workspace, short, space.nights, space.nights[1]).model
    return workspace, space, champion, challenger


def test_both_models_are_compared_with_what_is_known_by_then(remembering: Any):
    workspace, space, champion, challenger = remembering
    report = EVALUATE.on_night.start(Context(workspace, space.cfg, space.nights[1]), challenger)
    for figures in (report.figures, report.champion_figures):
        assert figures["overall"]["bits_per_byte"] < figures["overall"]["network_bits_per_byte"]
        assert list(
            load_manifest(space.store, layout.model(figures["model"]).memory(space.nights[1]).manifest).depends_on[
                "indexes"
            ]
        ) == list(space.nights)
    assert "(network " in report.text()
    # The champion is shown with the memory that it had, too.
    scores = load_manifest(space.store, layout.model(champion).evaluation(space.nights[1]).manifest).file(
        "scores.parquet"
    )
    table = read_table(space.store, scores)
    assert table["before_nats"].null_count == 0
    assert not table["before_nats"].equals(table["nll_nats"])
    assert workspace.models.memory_of(champion) == space.nights[0]


def test_a_rejected_network_holds_no_memory_back(remembering: Any):
    workspace, space, champion, challenger = remembering
    context = Context(workspace, space.cfg, space.nights[1])
    EVALUATE.on_night.start(context, challenger)
    for _ in range(2):
        report = GATE.on_night.start(context, challenger)
        assert not report.promoted
        assert "new memory" in report.text()
        assert workspace.models.champion() == champion
        assert workspace.models.memory_of(champion) == space.nights[1]
        assert load_model(workspace).memory == space.nights[1]
    # A night that is evaluated again finds what it found before, and undoes nothing.
    assert workspace.models.memory_before(space.nights[1]) == space.nights[0]
    workspace.models.admit_memory(champion, "later", "a later night")
    GATE.on_night.start(context, challenger)
    assert workspace.models.memory_of(champion) == "later"


def test_a_rollback_takes_the_memory_of_that_day(remembering: Any):
    workspace, space, champion, challenger = remembering
    context = Context(workspace, space.cfg, space.nights[1])
    EVALUATE.on_night.start(context, challenger)
    workspace.models.promote_once(challenger, "better", space.nights[1])
    assert load_model(workspace).memory == space.nights[1]
    workspace.models.rollback()
    loaded = load_model(workspace)
    assert (loaded.id, loaded.memory) == (champion, space.nights[0])
    assert len(loaded.model.memory.corpus.parts) == 1


def test_a_memory_that_makes_the_champion_worse_is_not_used(remembering: Any):
    workspace, space, champion, challenger = remembering
    context = Context(workspace, space.cfg, space.nights[1])
    EVALUATE.on_night.start(context, challenger)
    table = read_table(
        space.store,
        load_manifest(space.store, layout.model(champion).evaluation(space.nights[1]).manifest).file("scores.parquet"),
    )
    worse = pa.array(1.1 * table["before_nats"].to_numpy())
    found = evaluate_stage._decide_memory(
        table.set_column(table.schema.get_field_index("nll_nats"), "nll_nats", worse), space.cfg.evaluate
    )
    assert not found["admit"]
    assert "not used" in found["reason"]
    assert evaluate_stage._decide_memory(table, space.cfg.evaluate)["admit"]
