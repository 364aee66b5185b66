"""What a training reads is looked at first: a shard that no model can be given is named with what is wrong in it."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from slimpajama.core.config import TrainConfig
from slimpajama.core.errors import InputError, SlimpajamaError
from slimpajama.core.schema import SHARDS
from slimpajama.model.train.data import TrainingData
from slimpajama.workspace.local import LocalStore
from slimpajama.workspace.manifest import FileEntry, Manifest
from slimpajama.workspace.parquet import parquet_bytes
from slimpajama.workspace.store import sha256

NIGHT, VOCABULARY = "2026-01-01", 300
ROW = {
    "id": "x",
    "lang": "zh",
    "source": "s",
    "words": ["今天"],
    "content_words": ["今天"],
    "input_ids": [7, 299],
    "content_mask": "11",
    "n_bytes": 6,
}


def data_of(root: Path, content: bytes, split: str = "train") -> TrainingData:
    store, path = LocalStore(str(root)), f"nights/{NIGHT}/shards/{split}/a.parquet"
    store.write(path, content)
    manifest = Manifest("night", "x", (FileEntry(path, sha256(content), len(content)),), {}, {})
    return TrainingData(store, {NIGHT: manifest}, NIGHT, b"", VOCABULARY)


def shard(**changed: object) -> bytes:
    return parquet_bytes(pa.Table.from_pylist([ROW | changed], schema=SHARDS))


def read(data: TrainingData, split: str) -> None:
    if split == "train":
        data.rows(TrainConfig(batch_tokens=4), 2, 0).batch()
    else:
        data.held_out()


@pytest.mark.parametrize("split", ["train", "validation"])
def test_a_whole_shard_is_read(tmp_path: Path, split: str):
    read(data_of(tmp_path, shard(), split), split)


@pytest.mark.parametrize("split", ["train", "validation"])
def test_ids_outside_the_vocabulary_are_refused_before_a_model_sees_them(tmp_path: Path, split: str):
    with pytest.raises(InputError, match=r"shards/\w+/a\.parquet: .*below 300.*300"):
        read(data_of(tmp_path, shard(input_ids=[7, 300]), split), split)


@pytest.mark.parametrize("split", ["train", "validation"])
def test_a_column_of_another_type_is_named_with_both_types(tmp_path: Path, split: str):
    other = pa.table({"lang": ["zh"], "input_ids": [[1, 2]], "content_mask": ["11"]})
    with pytest.raises(InputError, match=r"another schema.*input_ids list<.*uint16.*input_ids list<.*int64"):
        read(data_of(tmp_path, parquet_bytes(other), split), split)


def test_a_missing_column_is_named(tmp_path: Path):
    other = pa.Table.from_pylist([ROW], schema=SHARDS).drop_columns("content_mask")
    with pytest.raises(InputError, match=r"content_mask string.*content_mask missing"):
        read(data_of(tmp_path, parquet_bytes(other)), "train")


def test_a_mask_that_is_not_as_long_as_the_ids_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match="not as long"):
        read(data_of(tmp_path, shard(content_mask="1")), "train")


@pytest.mark.parametrize("cut", [0, 3, -20])
def test_what_is_no_parquet_file_is_named(tmp_path: Path, cut: int):
    with pytest.raises(InputError, match=r"a\.parquet: a shard that cannot be read"):
        read(data_of(tmp_path, shard()[:cut]), "train")


def test_a_file_that_its_manifest_does_not_know_is_refused(tmp_path: Path):
    data = data_of(tmp_path, shard())
    data.store.write(f"nights/{NIGHT}/shards/train/a.parquet", shard(lang="en"))
    with pytest.raises(SlimpajamaError, match="not what its manifest says"):
        read(data, "train")


def test_without_validation_documents_there_is_nothing_to_hold_out(tmp_path: Path):
    assert data_of(tmp_path, shard()).held_out() == {}
