"""Documents for a question, in both languages, by the words that carry content."""

import pyarrow as pa
import pytest

from slimpajama.apps.tune.retrieve import CorpusIndex
from slimpajama.core.config import TextConfig
from slimpajama.core.errors import InputError
from slimpajama.core.schema import DOCUMENTS
from slimpajama.text.segment import Segmenter
from slimpajama.workspace.local import LocalStore
from slimpajama.workspace.manifest import FileEntry, Manifest
from slimpajama.workspace.nights import Nights
from slimpajama.workspace.open import Workspace
from slimpajama.workspace.parquet import parquet_bytes
from slimpajama.workspace.store import sha256

from ...conftest import CONFIG

TEXTS = {
    "tides": "The tides are made by the moon. Ships wait in the harbour for high water.",
    "tea": "Green tea is dried soon after it was picked, so that it stays green.",
    "潮汐": "潮汐是月球引起的。船只在港口等待涨潮。",
    "茶": "绿茶采摘后很快烘干，所以保持绿色。茶叶产自中国。",
}


@pytest.fixture
def store(tmp_path):
    """Two nights of two documents each, as `shards` and `dedup` publish them."""
    store, segmenter = LocalStore(str(tmp_path / "workspace")), Segmenter(TextConfig())
    for number, ids in enumerate((["tides", "潮汐"], ["tea", "茶"])):
        night, entries = f"n{number}", []
        documents = [{"id": id_, "text": TEXTS[id_], "uri": f"{id_}.txt#1", "lang": "en"} for id_ in ids]
        words = [[word for word in segmenter.cut(TEXTS[id_]) if len(word) > 1] for id_ in ids]
        files = {
            f"nights/{night}/documents/a.parquet": pa.Table.from_pylist(documents, schema=DOCUMENTS),
            f"nights/{night}/shards/train/a.parquet": pa.table({"id": ids, "content_words": words}),
        }
        for path, table in files.items():
            data = parquet_bytes(table)
            store.write(path, data)
            entries.append(FileEntry(path, sha256(data), len(data), len(table)))
        Nights(store).publish(night, [Manifest("shards", night, tuple(entries), {}, {})], CONFIG)
    return store


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("What makes the TIDES?", "tides"),
        ("绿茶怎么烘干？", "茶"),
        ("港口的船只在等什么？", "潮汐"),
        ("when is tea picked", "tea"),
    ],
)
def test_the_document_that_speaks_of_it_comes_first(store, question, expected):
    found = CorpusIndex(Workspace(store), TextConfig()).search(question, k=2)
    assert found[0].id == expected
    assert found[0].text == TEXTS[expected]
    assert found[0].uri == f"{expected}.txt#1"
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)


def test_a_question_whose_words_stand_nowhere_finds_nothing(store):
    index = CorpusIndex(Workspace(store), TextConfig())
    assert index.search("what is the") == []
    assert index.search("西瓜 zebra") == []


def test_an_empty_workspace_is_said_to_be_one(tmp_path):
    with pytest.raises(InputError, match="no document to ask"):
        CorpusIndex(Workspace(LocalStore(str(tmp_path))), TextConfig())
