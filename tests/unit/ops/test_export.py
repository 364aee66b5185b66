from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tokenizers
import torch
import yaml

from slimpajama.cli import run
from slimpajama.core.config import Config, IngestConfig, SourceConfig
from slimpajama.core.errors import InputError, ModelError
from slimpajama.core.schema import DOCUMENTS
from slimpajama.model.evaluate.stage import evaluate
from slimpajama.model.loading import load_exported, load_model
from slimpajama.model.train.stage import train
from slimpajama.ops import export as export_module
from slimpajama.ops.export import export_dataset, export_model, lineage
from slimpajama.text.segment import Segmenter
from slimpajama.text.tokenizer import SEPARATOR
from slimpajama.workspace.local import LocalStore
from slimpajama.workspace.manifest import FileEntry, Manifest
from slimpajama.workspace.nights import Nights
from slimpajama.workspace.open import Workspace
from slimpajama.workspace.parquet import parquet_bytes
from slimpajama.workspace.registry import Models
from slimpajama.workspace.store import sha256

TEXTS = ["今天学习语言模型。", "The model reads data today.", "\0<|document|> 混合 text\r\n", "𠮷野家 e\u0301  "]


@pytest.fixture
def exported(trained: Any, tmp_path: Path) -> tuple[Any, str, Path]:
    space, model = trained
    export_model(Workspace(space.store), tmp_path / "out", model)
    return space, model, tmp_path / "out"


def head(card: Path) -> dict[str, Any]:
    """Return the YAML before a card."""
    _, text, _ = card.read_text(encoding="utf-8").split("---\n", 2)
    return dict(yaml.safe_load(text))


def test_an_exported_model_scores_as_the_published_one(exported: Any):
    space, model, folder = exported
    loaded, published = load_exported(folder), load_model(Workspace(space.store), model)
    assert loaded.id == model
    for text in TEXTS:
        ids = loaded.tokenizer.encode(text)
        assert ids == published.tokenizer.encode(text)
        tokens = torch.tensor([ids])
        assert torch.equal(loaded.model.nll(tokens), published.model.nll(tokens))


def test_it_loads_in_a_fresh_process_that_knows_no_workspace(exported: Any, tmp_path: Path):
    space, model, folder = exported
    folder.rename(tmp_path / "elsewhere")
    text = tmp_path / "text.txt"
    text.write_text(TEXTS[0], encoding="utf-8")
    command = [sys.executable, "-m", "slimpajama", "score", "--json", "--text", str(text)]
    here = [*command, "--workspace", space.store.uri, "--model", model]
    answers = [
        subprocess.run(c, capture_output=True, text=True, check=True, cwd=tmp_path).stdout
        for c in (here, [*command, "--model", "elsewhere"])
    ]
    assert answers[0] == answers[1]
    assert json.loads(answers[0])["bytes"] == len(TEXTS[0].encode())


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_changed_or_missing_file_is_refused_by_name(exported: Any, name: str):
    _, _, folder = exported
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[:-2] + b"!!")
    with pytest.raises(ModelError, match=rf"{name}"):
        load_exported(folder)
    (folder / name).unlink()
    with pytest.raises(ModelError, match=rf"{name}.*No such file"):
        load_exported(folder)


def test_tokenizers_alone_gives_our_ids_of_joined_words_and_every_byte_back(exported: Any):
    _, _, folder = exported
    ours, alone = load_exported(folder).tokenizer, tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    alone.encode_special_tokens = True
    segmenter = Segmenter(Config().text)
    for text in TEXTS:
        joined = alone.encode(SEPARATOR.join(segmenter.cut(text)))
        assert joined.ids == ours.encode(text)
        for ids in (joined.ids, alone.encode(text).ids):
            assert alone.decode(ids, skip_special_tokens=False) == text


def test_transformers_opens_the_tokenizer(exported: Any):
    transformers = pytest.importorskip("transformers", reason="not among the project's dependencies")
    _, _, folder = exported
    theirs, ours = transformers.PreTrainedTokenizerFast.from_pretrained(str(folder)), load_exported(folder).tokenizer
    assert theirs.bos_token_id == theirs.eos_token_id == ours.document_id
    ids = theirs.encode(SEPARATOR.join(Segmenter(Config().text).cut(TEXTS[0])), add_special_tokens=False)
    assert ids == ours.encode(TEXTS[0])
    assert theirs.decode(ids) == TEXTS[0]


def test_the_card_has_results_decision_licences_and_lineage(trained: Any, tmp_path: Path):
    space, first = trained
    Models(space.store).promote(first, "the first | one")
    second = train(Workspace(space.store), space.cfg, space.nights, space.nights[1], first).model
    report = evaluate(Workspace(space.store), space.cfg, second, space.nights, first)
    found = export_model(Workspace(space.store), tmp_path / "out", second)
    assert found["files"] == sorted(path.name for path in (tmp_path / "out").iterdir())
    chain = lineage(space.store, second)
    assert [entry["model"] for entry in chain] == [second, first]
    assert chain[0]["nights"] == list(space.nights)
    for entry in chain:
        file = Path(space.store.uri) / "models" / entry["model"] / "model.safetensors"
        assert entry["sha256"] == sha256(file.read_bytes())
    assert json.loads((tmp_path / "out" / "lineage.json").read_text()) == chain
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    for lang, figures in report.figures["languages"].items():
        assert lang in card
        assert f"{figures['bits_per_byte']:.4f}" in card
    assert ("The gate: promote" if report.promote else "The gate: keep") in card
    assert chain[1]["sha256"] in card
    about = head(tmp_path / "out" / "README.md")
    assert about["licences"] == ["CC0-1.0"]
    assert about["language"] == ["zh", "en"]
    assert about["library_name"] == "slimpajama"


def test_an_ancestor_that_is_gone_is_named_as_gone(trained: Any):
    space, first = trained
    second = train(Workspace(space.store), space.cfg, space.nights, space.nights[1], first).model
    (Path(space.store.uri) / "models" / first / "manifest.json").unlink()
    assert lineage(space.store, second)[1] == {"model": first, "night": "", "nights": [], "sha256": ""}


def test_without_a_champion_and_a_name_there_is_nothing_to_export(trained: Any, tmp_path: Path):
    space, model = trained
    with pytest.raises(ModelError, match="no champion yet"):
        export_model(Workspace(space.store), tmp_path / "out")
    Models(space.store).promote(model, "first")
    assert export_model(Workspace(space.store), tmp_path / "out")["model"] == model


def document(number: int, night: str, lang: str) -> dict[str, Any]:
    text = {"zh": f"第{number}篇，今天天气很好。", "en": f"Text {number}, the weather is fine."}[lang]
    sizes = {"n_chars": len(text), "n_bytes": len(text.encode()), "sha256": sha256(text.encode())}
    base = {"id": f"{night}-{number:03d}", "text": text, "lang": lang, "source": "book", "uri": f"book#{number}"}
    return base | sizes | {"night": night, "quality": None}


@pytest.fixture
def corpus(tmp_path: Path) -> LocalStore:
    """Two nights of two files of documents; of each night, document 3 is held out for test, 4 for validation."""
    store = LocalStore(str(tmp_path / "workspace"))
    cfg = Config(ingest=IngestConfig(sources=(SourceConfig(name="book", uri="b/*", licence="CC|BY-4.0"),)))
    for night in ("n1", "n2"):
        rows = [document(i, night, ("zh", "en")[i % 2]) for i in range(8)]
        tables = {
            f"documents/{part}": pa.Table.from_pylist(rows[4 * part : 4 * part + 4], DOCUMENTS) for part in range(2)
        } | {
            f"shards/{split}/{split}-0": pa.table({"id": [rows[i]["id"] for i in chosen]})
            for split, chosen in {"train": [0, 1, 2, 5, 6, 7], "test": [3], "validation": [4]}.items()
        }
        entries = []
        for name, table in tables.items():
            data = parquet_bytes(table)
            store.write(f"nights/{night}/{name}.parquet", data)
            entries.append(FileEntry(f"nights/{night}/{name}.parquet", sha256(data), len(data), table.num_rows))
        Nights(store).publish(night, [Manifest("shards", night, tuple(entries), {}, {})], cfg)
    return store


def rows_of(folder: Path, split: str) -> list[dict[str, Any]]:
    return [row for path in sorted((folder / "data").glob(f"{split}-*")) for row in pq.read_table(path).to_pylist()]


def test_every_kept_document_is_in_the_dataset_once_in_the_split_of_its_shards(corpus: LocalStore, tmp_path: Path):
    found = export_dataset(Workspace(corpus), tmp_path / "out")
    assert found["documents"] == {"train": 12, "validation": 2, "test": 2}
    for split, numbers in {"train": [0, 1, 2, 5, 6, 7], "validation": [4], "test": [3]}.items():
        expected = [document(i, night, ("zh", "en")[i % 2]) for night in ("n1", "n2") for i in numbers]
        assert rows_of(tmp_path / "out", split) == expected
    names = sorted(path.name for path in (tmp_path / "out" / "data").iterdir())
    assert names == [f"{split}-00000-of-00001.parquet" for split in ("test", "train", "validation")]


def test_only_the_chosen_nights_are_exported_and_an_unknown_one_is_refused(corpus: LocalStore, tmp_path: Path):
    export_dataset(Workspace(corpus), tmp_path / "out", ["n2"])
    assert {row["night"] for split in ("train", "test") for row in rows_of(tmp_path / "out", split)} == {"n2"}
    with pytest.raises(InputError, match="no such night"):
        export_dataset(Workspace(corpus), tmp_path / "other", ["n3"])
    assert not (tmp_path / "other").exists()


def test_large_splits_are_several_files_with_their_number_in_the_name(
    corpus: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    whole = export_dataset(Workspace(corpus), tmp_path / "one")
    monkeypatch.setattr(export_module, "FILE_BYTES", 1)
    assert export_dataset(Workspace(corpus), tmp_path / "many")["documents"] == whole["documents"]
    names = sorted(path.name for path in (tmp_path / "many" / "data").glob("train-*"))
    assert names == [f"train-{i:05d}-of-00004.parquet" for i in range(4)]
    assert rows_of(tmp_path / "many", "train") == rows_of(tmp_path / "one", "train")


def test_the_same_corpus_gives_the_same_bytes(corpus: LocalStore, tmp_path: Path):
    for name in "ab":
        export_dataset(Workspace(corpus), tmp_path / name)
    files = [{p.relative_to(tmp_path / n): p.read_bytes() for p in (tmp_path / n).rglob("*.*")} for n in "ab"]
    assert files[0] == files[1]


def test_datasets_opens_the_folder(corpus: LocalStore, tmp_path: Path):
    datasets = pytest.importorskip("datasets", reason="comes with the extra `eval`")
    export_dataset(Workspace(corpus), tmp_path / "out")
    opened = datasets.load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    assert {split: len(rows) for split, rows in opened.items()} == {"train": 12, "validation": 2, "test": 2}
    assert opened["test"][0]["text"] == document(3, "n1", "en")["text"]


def test_the_card_names_splits_languages_and_licences_and_does_nothing_else(corpus: LocalStore, tmp_path: Path):
    export_dataset(Workspace(corpus), tmp_path / "out")
    about = head(tmp_path / "out" / "README.md")
    assert about["language"] == ["en", "zh"]
    assert about["licences"] == ["CC|BY-4.0"]
    paths = {entry["split"]: entry["path"] for entry in about["configs"][0]["data_files"]}
    assert paths == {split: f"data/{split}-*.parquet" for split in ("train", "validation", "test")}
    assert "| CC&#124;BY-4.0 |" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize("what", ["model", "dataset"])
def test_a_folder_that_holds_something_is_refused_and_left_alone(trained: Any, tmp_path: Path, what: str):
    space, model = trained
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    write = {"model": partial(export_model, model_id=model), "dataset": export_dataset}[what]
    with pytest.raises(InputError, match=r"is not empty: expected a folder that is new or empty"):
        write(Workspace(space.store), tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_after_a_failure_nothing_is_there(corpus: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "empty").mkdir()
    before = sorted(tmp_path.iterdir())

    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export_module, "_write", full)
    with pytest.raises(InputError, match="No space left"):
        export_dataset(Workspace(corpus), tmp_path / "empty")
    assert sorted(tmp_path.iterdir()) == before
    assert not list((tmp_path / "empty").iterdir())


def test_the_command_exports_either_a_model_or_the_corpus(
    trained: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    space, model = trained
    common = ["--workspace", space.store.uri, "--json"]
    assert run(["export", "--format", "hf", str(tmp_path / "m"), "--model", model, *common]) == 0
    assert json.loads(capsys.readouterr().out)["model"] == model
    assert run(["generate", "--prompt", "今天", "--model", str(tmp_path / "m"), "--seed", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["model"] == model
    for wrong in ([], ["x", "--dataset", "y"], ["--format", "gguf", "x"]):
        assert run(["export", *wrong, *common]) == 2
