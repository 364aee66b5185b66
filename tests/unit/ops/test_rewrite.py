"""A night without some documents: all other rows stay as they are, with their keys and texts."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from nights_to_forget import FIRST, SECOND, THIRD, id_of, prepare, rows, secret, settings, text, write_raw

from slimpajama.corpus.dedup.columns import read_keys, read_texts
from slimpajama.corpus.passages.count import read_windows
from slimpajama.ops.forget import forget
from slimpajama.ops.verify import verify
from slimpajama.workspace.local import LocalStore
from slimpajama.workspace.manifest import entry_of
from slimpajama.workspace.nights import Nights
from slimpajama.workspace.open import Workspace
from slimpajama.workspace.parquet import read_table
from slimpajama.workspace.store import Store, read_json


@pytest.mark.usefixtures("quick_pages")
def test_all_other_rows_are_as_they_were_and_in_the_same_order(store: LocalStore) -> None:
    tables = ("documents", "removed", "minhash", "shards/train", "shards/validation", "shards/test")
    before = {(night, table): rows(store, table, night) for night in (FIRST, SECOND) for table in tables}
    schema = pq.read_schema(io.BytesIO(store.read(Nights(store).load(FIRST).paths(f"nights/{FIRST}/shards/train/")[0])))
    keys = {night: beside(store, night) for night in (FIRST, SECOND)}
    gone = {entry.id for entry in forget(Workspace(store), "id", id_of(store, secret("zh"))).documents}
    assert len(gone) == 4
    for (night, table), old in before.items():
        assert rows(store, table, night) == [row for row in old if row["id"] not in gone]
        assert beside(store, night) == {doc_id: at for doc_id, at in keys[night].items() if doc_id not in gone}
    for path in Nights(store).load(FIRST).paths(f"nights/{FIRST}/shards/"):
        assert pq.read_schema(io.BytesIO(store.read(path))).equals(schema, check_metadata=True)


def beside(store: Store, night: str) -> dict[str, tuple[Any, ...]]:
    """Return band keys, text and windows of each row of minhash, as later nights find them."""
    manifest, found = Nights(store).load(night), {}
    for path in manifest.paths(f"nights/{night}/minhash/"):
        name = path.replace("/minhash/", "/texts/").replace(".parquet", ".arrow")
        assert {name, path.replace("/minhash/", "/bands/")} <= set(manifest.paths(""))
        ids = read_table(store, entry_of(path, store.read(path)))["id"].to_pylist()
        with store.open(path.replace("/minhash/", "/bands/")) as file:
            keys = read_keys(file, range(37)).T.tolist()
        with store.open(name) as file:
            texts = read_texts(file, np.arange(len(ids))).to_pylist()
        with store.open(path.replace("/minhash/", "/windows/")) as file:
            windows = read_windows(file)
        of_rows = [windows.hashes[windows.rows == n].tolist() for n in range(len(ids))]
        assert sum(map(len, of_rows)) == len(windows.hashes)
        found |= {doc_id: (keys[n], texts[n], of_rows[n]) for n, doc_id in enumerate(ids)}
    return found


@pytest.mark.usefixtures("quick_pages")
def test_the_description_lists_the_shards_that_are_there(store: LocalStore) -> None:
    forget(Workspace(store), "id", id_of(store, secret("zh")))
    described = read_json(store, f"nights/{FIRST}/croissant.json")["distribution"]
    hashes = {item["name"]: item["sha256"] for item in described if "sha256" in item}
    shards = [entry for entry in Nights(store).load(FIRST).files if "/shards/" in entry.path]
    assert hashes == {entry.path.removeprefix(f"nights/{FIRST}/"): entry.sha256 for entry in shards}


@pytest.mark.usefixtures("quick_pages")
def test_a_night_of_which_nothing_is_left_can_still_be_read_and_followed(folder: Path, store: LocalStore) -> None:
    forget(Workspace(store), "pattern", "(?s).*", sure=True)
    assert rows(store, "documents") == rows(store, "minhash") == rows(store, "shards") == []
    write_raw(folder, THIRD, {"en": [text("en", 0), text("en", 70)]})
    assert prepare(store, settings(folder), THIRD).counts["dedup"]["kept"] == {"en": 1}
    assert verify(Workspace(store))[1] == {}
