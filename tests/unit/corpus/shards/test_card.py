"""The card and the Croissant file say what lies beside them, and nothing from outside gets to act in them."""

import json
from html import unescape

import pytest
import yaml

from slimpajama.core.config import Config, IngestConfig, SourceConfig
from slimpajama.core.schema import SHARDS
from slimpajama.corpus.shards.card import COLUMNS, croissant, data_card
from slimpajama.workspace.manifest import FileEntry

ROW = {"documents": 2, "bytes": 3_200_000, "words": 900, "content_words": 400, "tokens": 1_000_000}
COUNTS = {
    "documents": {"train": 3, "test": 1},
    "tokens": {"train": {"zh": 1_500_000, "en": 400_000}, "test": {"zh": 100_000}},
    "bytes": {"train": {"zh": 4_000_000, "en": 2_000_000}, "test": {"zh": 400_000}},
    "sources": {"新闻": {"zh": ROW, "en": ROW}, "b": {"zh": ROW}},
}
FILES = [
    FileEntry("nights/n/shards/test/aa.parquet", "a" * 64, 10, 1),
    FileEntry("nights/n/shards/train/bb.parquet", "b" * 64, 20, 3),
]
ENGINE = {"engine": "jieba", "version": "1"}


def config(licence="CC0-1.0"):
    return Config(ingest=IngestConfig(sources=(SourceConfig(name="news", uri="x", licence=licence),)))


def card(**settings):
    return data_card(config(**settings), "n", FILES, COUNTS, ENGINE, 8192).decode()


def test_statistics_are_by_split_language_and_source():
    text = card()
    assert "| train | 1 | 3 | 1,900,000 | 6.00 |" in text
    assert "| zh | 4 | 6.40 | 1,800 | 800 | 2,000,000 | 3.20 |" in text
    assert "| 新闻 | en | 2 | 3.20 | 900 | 400 | 1,000,000 | 3.20 |" in text
    assert "| news | CC0-1.0 |" in text


def test_the_head_names_the_files_of_each_split_that_exists():
    head = card().split("---")[1]
    configs = yaml.safe_load(head)["configs"]
    assert [item["split"] for item in configs[0]["data_files"]] == ["train", "test"]


@pytest.mark.parametrize("evil", ["<script>", "a|b", "![x](http://e)", "`x`", "line\nbreak\r\n\n# head", "\\|", "&lt;"])
def test_a_hostile_licence_is_shown_and_does_nothing(evil: str):
    assert evil not in card(licence=evil)
    (row,) = [line for line in card(licence=evil).splitlines() if line.startswith("| news |")]
    # HTML has no carriage return.
    assert unescape(row) == f"| news | {evil} |" or "\r" in evil


def test_croissant_lists_each_file_with_its_hash_and_each_column_of_each_split():
    data = json.loads(croissant(config(), "n", FILES, COUNTS))
    objects = {item["contentUrl"]: item["sha256"] for item in data["distribution"] if item["@type"] == "cr:FileObject"}
    assert objects == {"shards/test/aa.parquet": "a" * 64, "shards/train/bb.parquet": "b" * 64}
    assert [records["@id"] for records in data["recordSet"]] == ["train", "test"]
    for records in data["recordSet"]:
        assert [field["source"]["extract"]["column"] for field in records["field"]] == SHARDS.names
    assert data["conformsTo"] == "http://mlcommons.org/croissant/1.0"
    assert data["license"] == ["CC0-1.0"]


def test_every_column_is_described():
    assert list(COLUMNS) == SHARDS.names
