"""A workspace with two small published nights and a trained model, for the stages that come after the data."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from slimpajama.core.config import (
    Config,
    EvaluateConfig,
    GenerateConfig,
    IngestConfig,
    ModelConfig,
    SourceConfig,
    TokenizerConfig,
    TrainConfig,
)
from slimpajama.core.schema import SHARDS
from slimpajama.workspace.local import LocalStore
from slimpajama.workspace.manifest import FileEntry, Manifest
from slimpajama.workspace.nights import Nights
from slimpajama.workspace.open import Workspace
from slimpajama.workspace.parquet import parquet_bytes
from slimpajama.workspace.store import Store, sha256

NIGHTS = ("2026-01-01", "2026-01-02")
WORDS = {
    "zh": ["我们", "今天", "学习", "语言", "模型", "，", "数据", "很", "好", "。", "北京", "的", "天气"],
    "en": [" the", " model", " reads", " data", " and", " learns", ",", " today", ".", " weather", " is", " fine"],
}
CONFIG = Config(
    ingest=IngestConfig(sources=(SourceConfig(name="book", uri="book/*", licence="CC0-1.0"),)),
    model=ModelConfig(preset="tiny", row_tokens=32),
    train=TrainConfig(tokens=4096, batch_tokens=256, precision="fp32", checkpoint_seconds=0.05),
    evaluate=EvaluateConfig(max_mb_per_language=0.004, bootstrap=200),
    generate=GenerateConfig(prompts=("今天", "The"), max_tokens=12),
)


@dataclass(frozen=True)
class Space:
    """A store with published nights, and the settings that made it."""

    store: LocalStore
    cfg: Config
    nights: tuple[str, ...]


def documents(seed: int, n: int) -> list[tuple[str, str, list[str]]]:
    """Return (id, language, words) of random but learnable text in both languages."""
    rng = np.random.default_rng(seed)
    made = []
    for number in range(n):
        lang = ("zh", "en")[number % 2]
        steps = np.cumsum(rng.integers(0, 3, int(rng.integers(30, 120)))) % len(WORDS[lang])
        made.append((f"{seed:04x}{number:028x}", lang, [WORDS[lang][step] for step in steps]))
    return made


def write_night(store: Store, night: str, seed: int, tokenizer_json: bytes) -> None:
    """Publish a night of shards as `slimpajama.corpus.shards.stage` would."""
    from slimpajama.corpus.shards.stage import encode_words
    from slimpajama.text.tokenizer import Tokenizer

    encoder, entries = Tokenizer.load(tokenizer_json), []
    files: dict[str, pa.Table | bytes] = {f"nights/{night}/tokenizer/tokenizer.json": tokenizer_json}
    for place, (split, n) in enumerate((("train", 60), ("validation", 12), ("test", 40))):
        rows = documents(10 * seed + place, n)
        words = pa.array([row[2] for row in rows], pa.list_(pa.string()))
        indices = pa.ListArray.from_arrays(words.offsets, words.values.dictionary_encode())
        carries = np.array([len(word.strip()) > 1 for word in indices.values.dictionary.to_pylist()])
        _, ids, mask = encode_words(indices, carries, encoder)
        columns = {
            "id": [row[0] for row in rows],
            "lang": [row[1] for row in rows],
            "source": [("book", "web")[number % 3 == 0] for number in range(n)],
            "words": words,
            "content_words": words,
            "input_ids": ids,
            "content_mask": mask,
            "n_bytes": [len("".join(row[2]).encode()) for row in rows],
        }
        files[f"nights/{night}/shards/{split}/{split}-00000-of-00001.parquet"] = pa.table(columns, schema=SHARDS)
    for path, content_ in files.items():
        data = content_ if isinstance(content_, bytes) else parquet_bytes(content_)
        store.write(path, data)
        entries.append(FileEntry(path, sha256(data), len(data)))
    Nights(store).publish(night, [Manifest("shards", f"{seed}", tuple(entries), {}, {"seed": seed})], CONFIG)


@pytest.fixture(scope="session")
def more_nights() -> Callable[..., None]:
    """`write_night`, for a test that needs more of them."""
    return write_night


@pytest.fixture(scope="session")
def config() -> Config:
    """The settings of these nights and models."""
    return CONFIG


@pytest.fixture(scope="session")
def two_nights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace that no test may change: use `workspace`."""
    from slimpajama.text.tokenizer import SEPARATOR, train_tokenizer

    root = tmp_path_factory.mktemp("nights")
    joined = [SEPARATOR.join(words) for _, _, words in documents(99, 40)]
    tokenizer_json = train_tokenizer(joined, TokenizerConfig(vocab_size=300))
    for number, night in enumerate(NIGHTS):
        write_night(LocalStore(str(root)), night, number, tokenizer_json)
    return root


@pytest.fixture
def workspace(two_nights: Path, tmp_path: Path) -> Space:
    """A fresh copy of the two nights, without a model."""
    root = shutil.copytree(two_nights, tmp_path / "workspace")
    return Space(LocalStore(str(root)), CONFIG, NIGHTS)


@pytest.fixture(scope="session")
def one_model(two_nights: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The two nights with the first night's model; no test may change it: use `trained`."""
    import torch

    from slimpajama.model.train.stage import train

    torch.set_num_threads(1)
    root = shutil.copytree(two_nights, tmp_path_factory.mktemp("model") / "workspace")
    return root, train(Workspace(LocalStore(str(root))), CONFIG, NIGHTS[:1], NIGHTS[0]).model


@pytest.fixture
def trained(one_model: tuple[Path, str], tmp_path: Path) -> tuple[Space, str]:
    """A fresh copy of the two nights with the first night's model, and that model's id."""
    root = shutil.copytree(one_model[0], tmp_path / "trained")
    return Space(LocalStore(str(root)), CONFIG, NIGHTS), one_model[1]
