"""The memory of a model as a step: what it depends on, what it leaves, and what is said where it cannot be."""

import json
import logging
from dataclasses import replace

import pytest

from slimpajama.core.errors import DamagedError, InputError, ModelError, StorageError
from slimpajama.corpus.index import index_nights
from slimpajama.model.evaluate.score import score_ids, score_text
from slimpajama.model.evaluate.stage import evaluate
from slimpajama.model.loading import load_model
from slimpajama.model.memory.model import RememberingModel
from slimpajama.model.memory.opening import open_memory
from slimpajama.model.memory.stage import MEMORY, remember
from slimpajama.workspace import catalogue, layout
from slimpajama.workspace.local import LocalStore
from slimpajama.workspace.manifest import load_manifest
from slimpajama.workspace.open import Workspace
from slimpajama.workspace.parquet import read_table
from slimpajama.workspace.step import Context

TEXT = "今天的天气很好 the weather"


@pytest.fixture
def indexed(trained):
    """A workspace whose nights have an index, and the model of the first."""
    space, model = trained
    workspace = Workspace(space.store)
    index_nights(workspace, space.cfg)
    return workspace, space.cfg, space.nights, model


def weights_of(workspace, model, night):
    return workspace.store.read(layout.model(model).memory(night).file("weights.json"))


def test_a_model_with_its_memory_is_better_on_text_like_the_corpus(indexed):
    workspace, cfg, nights, model = indexed
    made = remember(workspace, cfg, model, nights[0])
    assert made
    assert list(made.depends_on["indexes"]) == [nights[0]]
    with_it, without = load_model(workspace, model), load_model(workspace, model, memory=False)
    assert isinstance(with_it.model, RememberingModel)
    assert with_it.memory == nights[0]
    assert not isinstance(without.model, RememberingModel)
    assert not without.memory_digest
    entry = workspace.nights.load(nights[0]).entries(layout.night(nights[0]).split("test"))[0]
    text = "".join(read_table(workspace.store, entry, ["words"])["words"][0].as_py())
    both, network = (score_text(one.model, one.tokenizer, text) for one in (with_it, without))
    assert both["bits_per_byte"] < network["bits_per_byte"]
    assert both["network_bits_per_byte"] == pytest.approx(network["bits_per_byte"], rel=1e-6)
    assert "network_bits_per_byte" not in network


def test_the_same_memory_comes_of_any_number_of_workers(indexed, tmp_path):
    workspace, cfg, nights, model = indexed
    made = []
    for workers in (1, 3):
        workspace.store.delete_tree(layout.model(model).memory(nights[1]).path)
        remember(workspace, replace(cfg, run=replace(cfg.run, workers=workers)), model, nights[1])
        made.append(weights_of(workspace, model, nights[1]))
    assert made[0] == made[1]


def test_a_memory_is_made_once_and_again_where_settings_or_an_index_differ(indexed):
    workspace, cfg, nights, model = indexed
    first = remember(workspace, cfg, model, nights[0])
    assert remember(workspace, cfg, model, nights[0]).digest == first.digest
    shorter = replace(cfg, memory=replace(cfg.memory, max_context=3))
    assert remember(workspace, shorter, model, nights[0]).digest != first.digest
    assert load_model(workspace, model).model.memory.corpus.max_context == 3
    second = remember(workspace, cfg, model, nights[1])
    assert list(second.depends_on["indexes"]) == list(nights)


def test_the_digest_of_what_is_remembered_does_not_change_where_nights_are_merged(indexed):
    workspace, cfg, nights, model = indexed
    remember(workspace, cfg, model, nights[1])
    before = open_memory(workspace, model, nights[1])
    workspace.store.delete_tree(layout.night(nights[1]).merged_index.path)
    after = open_memory(workspace, model, nights[1])
    assert len(after.memory.corpus.parts) != len(before.memory.corpus.parts)
    assert after.digest == before.digest
    loaded = load_model(workspace, model, memory=False)
    ids = [loaded.tokenizer.encode(TEXT)]
    scores = []
    for opened in (before, after):
        both = RememberingModel(loaded.model, opened.memory).eval()
        scores.append(score_ids(both, ids, loaded.tokenizer.document_id).tolist())
    assert scores[0] == scores[1]


def test_a_workspace_without_an_index_has_the_network_alone_and_that_is_said(trained, caplog):
    space, model = trained
    workspace = Workspace(space.store)
    with caplog.at_level(logging.WARNING, logger="slimpajama"):
        report = evaluate(workspace, space.cfg, model, space.nights[:1])
    assert report.promote
    assert sum("without a memory" in record.getMessage() for record in caplog.records) == 1
    assert "prepare" in caplog.text
    figures = report.figures["languages"]["zh"]
    assert figures["bits_per_byte"] == figures["network_bits_per_byte"]
    assert not load_model(workspace, model).memory


def test_no_memory_is_made_where_the_settings_say_so_or_nothing_is_held_out(indexed):
    workspace, cfg, nights, model = indexed
    assert remember(workspace, replace(cfg, memory=replace(cfg.memory, enabled=False)), model, nights[0]) is None
    report = MEMORY.on_night.run(
        Context(workspace, replace(cfg, memory=replace(cfg.memory, enabled=False)), nights[0]), model
    )
    assert report.nights == []
    assert "no memory" in report.text()


@pytest.mark.parametrize("name", ["ids", "order", "first"])
def test_a_damaged_index_is_one_clear_error_and_no_other_likelihood(indexed, name):
    workspace, cfg, nights, model = indexed
    remember(workspace, cfg, model, nights[0])
    (path,) = [path for path in workspace.store.list(layout.night(nights[0]).index.path) if f".{name}." in path]
    data = bytearray(workspace.store.read(path))
    data[-2] ^= 1
    workspace.store.write(path, bytes(data))
    with pytest.raises(DamagedError, match="not what its manifest says"):
        load_model(Workspace(LocalStore(workspace.uri)), model)
    assert load_model(Workspace(LocalStore(workspace.uri)), model, memory=False)


def test_a_missing_index_and_a_missing_memory_are_clear_errors(indexed):
    workspace, cfg, nights, model = indexed
    remember(workspace, cfg, model, nights[0])
    with pytest.raises(ModelError, match="no memory of this night"):
        load_model(workspace, model, memory=nights[1])
    catalogue.forget(workspace.store, layout.night(nights[0]).index.path)
    with pytest.raises((InputError, StorageError), match="no index") as caught:
        load_model(workspace, model)
    assert "--no-memory" in str(caught.value)


def test_nothing_of_validation_or_test_is_remembered(indexed):
    workspace, cfg, nights, model = indexed
    remember(workspace, cfg, model, nights[1])
    corpus = open_memory(workspace, model, nights[1]).memory.corpus
    streams = [part.ids.tolist() for part in corpus.parts]
    documents = {split: set() for split in ("train", "validation", "test")}
    for night in nights:
        manifest = workspace.nights.load(night)
        for split, found in documents.items():
            for entry in manifest.entries(layout.night(night).split(split)):
                rows = read_table(workspace.store, entry, ["input_ids"])["input_ids"].to_pylist()
                found.update(tuple(ids) for ids in rows)
    remembered = set()
    for ids in streams:
        text = list(ids[1:])
        begin = 0
        for at, token in enumerate(text):
            if token == corpus.document_id:
                remembered.add(tuple(text[begin:at]))
                begin = at + 1
    assert remembered == documents["train"]
    assert not remembered & (documents["validation"] | documents["test"])


def test_its_manifest_lists_its_weights_and_how_much_it_remembers(indexed):
    workspace, cfg, nights, model = indexed
    remember(workspace, cfg, model, nights[0])
    folder = layout.model(model).memory(nights[0])
    manifest = load_manifest(workspace.store, folder.manifest)
    assert [entry.path for entry in manifest.files] == [folder.file("weights.json")]
    assert manifest.counts["tokens"] > manifest.counts["learnt_on"] > 0
    assert set(json.loads(weights_of(workspace, model, nights[0]))) == {"hidden", "hidden_bias", "out", "out_bias"}
