"""A forgotten document's text stands nowhere any more, and it does not come in again."""

from __future__ import annotations

import contextlib
import io
import json
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from nights_to_forget import (
    FIRST,
    SECOND,
    SECRET,
    THIRD,
    first_night,
    id_of,
    prepare,
    rows,
    second_night,
    secret,
    settings,
    text,
    write_raw,
)
from steps import clean, ingest

from slimpajama.cli import run
from slimpajama.core.errors import ConfigError, DamagedError, InputError, LockedError, StorageError
from slimpajama.core.split import document_keys
from slimpajama.corpus import index
from slimpajama.ops.explain import explain, render
from slimpajama.ops.forget import forget
from slimpajama.ops.overview import list_nights
from slimpajama.ops.verify import verify
from slimpajama.text.tokenizer import Tokenizer
from slimpajama.workspace import layout
from slimpajama.workspace.index import open_index
from slimpajama.workspace.lineage import READ
from slimpajama.workspace.local import LocalStore
from slimpajama.workspace.manifest import entry_of, json_bytes, load_manifest
from slimpajama.workspace.nights import Nights
from slimpajama.workspace.open import Workspace
from slimpajama.workspace.parquet import parquet_bytes
from slimpajama.workspace.registry import Models
from slimpajama.workspace.store import Store, read_json, sha256
from slimpajama.workspace.tombstones import forgotten_list


def contents(root: Path) -> dict[str, bytes]:
    paths = (path for path in sorted(root.rglob("*")) if path.is_file())
    return {str(path.relative_to(root)): path.read_bytes() for path in paths if not path.name.startswith(".lock")}


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, str | bytes):
        yield value if isinstance(value, str) else value.decode("utf-8", "replace")
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from strings(inner)
    if isinstance(value, list) and value and all(isinstance(word, str) for word in value):
        yield "".join(value)


def places(root: Path, wanted: str) -> list[str]:
    """Return the files that hold a text, in a cell, as words one after the other, or as bytes."""
    found = []
    for path, data in contents(root).items():
        cells = [data.decode("utf-8", "replace")]
        if path.endswith(".parquet"):
            cells += strings(pq.read_table(root / path).to_pylist())
        if path.endswith(".arrow"):
            cells += strings(pa.ipc.open_file(root / path).read_all().to_pylist())
        if any(wanted in cell for cell in cells):
            found.append(path)
    return found


@pytest.mark.parametrize("lang", ["zh", "en"])
def test_the_text_stands_nowhere_any_more(folder: Path, store: LocalStore, lang: str) -> None:
    root = folder / "workspace"
    kinds = {path.split("/")[-2] for path in places(root, SECRET[lang])}
    shards = "train" if lang == "zh" else "test"
    # Or this test looks at too little.
    assert kinds == {"documents", "removed", "texts", shards, FIRST, SECOND}
    report = forget(Workspace(store), "id", id_of(store, secret(lang))[:10])
    assert report.nights[FIRST] == {"documents": 1, "removed": 1}
    assert report.nights[SECOND] == {"documents": 0, "removed": 3 if lang == "en" else 2}
    assert places(root, SECRET[lang]) == places(root, SECRET[lang][:8]) == places(root, secret(lang)[:60]) == []
    assert places(root, SECRET["en" if lang == "zh" else "zh"])
    assert verify(Workspace(store))[1] == {}


@pytest.mark.usefixtures("quick_pages")
def test_the_next_night_does_not_take_it_in_again(folder: Path, store: LocalStore) -> None:
    doc_id = id_of(store, secret("en"))
    forget(Workspace(store), "id", doc_id)
    write_raw(folder, FIRST, {"en": [*first_night()["en"], text("en", 70)]})  # the file grew
    manifest = prepare(store, settings(folder), THIRD)
    again = [row for row in rows(store, "removed", THIRD) if row["rule"] == "forgotten"]
    assert doc_id in [row["id"] for row in again]
    assert len(again) == 2
    assert all(row["text"] is None and row["uri"] == f"raw/en-{FIRST}.jsonl" for row in again)
    assert manifest.counts["ingest"]["removed"]["en"]["forgotten"] == 2
    assert manifest.counts["dedup"]["kept"] == {"en": 1}
    assert manifest.counts["dedup"]["removed"] == {"en": {"exact-duplicate": 20}}
    assert places(folder / "workspace", SECRET["en"]) == []
    # What was refused is no document.
    assert forget(Workspace(store), "id", doc_id).before


@pytest.mark.usefixtures("quick_pages")
def test_an_unpublished_night_begins_again_without_it(folder: Path, store: LocalStore) -> None:
    write_raw(folder, THIRD, {"zh": [secret("zh"), text("zh", 70)]})
    cfg = settings(folder)
    clean(Workspace(store), cfg, THIRD, ingest(Workspace(store), cfg, THIRD))
    report = forget(Workspace(store), "id", id_of(store, secret("zh")))
    assert report.begun == [THIRD]
    assert store.list(f"nights/{THIRD}") == []
    assert prepare(store, cfg, THIRD).counts["dedup"]["kept"] == {"zh": 1}


@pytest.mark.usefixtures("quick_pages")
def test_models_that_saw_it_are_named_and_the_way_back_is_told(store: LocalStore) -> None:
    digest = Nights(store).load(FIRST).digest
    Models(store).promote("2025-12-31-tiny-a", "first")
    for model in ("2026-01-01-tiny-b", "2026-01-02-tiny-c"):
        Models(store).promote(model, "better")
    report = forget(Workspace(store), "id", id_of(store, secret("zh")))
    # The second saw none of it, but its ancestor.
    assert report.models == ["2026-01-01-tiny-b", "2026-01-02-tiny-c"]
    assert report.tuned == ["t"]
    # So no training of before goes on.
    assert Nights(store).load(FIRST).digest != digest
    assert [line.strip() for line in report.advice if "rollback" in line] == ["slimpajama models rollback"] * 2
    assert {entry.models for entry in report.documents} == {(), ("2026-01-01-tiny-b", "2026-01-02-tiny-c")}


@pytest.mark.usefixtures("quick_pages")
@pytest.mark.parametrize("lang", ["zh", "en"])
def test_a_model_that_read_other_documents_of_the_night_is_not_named(store: LocalStore, lang: str) -> None:
    doc_id = next(row["id"] for row in rows(store, "shards/train") if row["lang"] == lang)
    others = [row["id"] for row in rows(store, "shards/train") if row["id"] != doc_id]
    table = pa.table([[FIRST] * len(others), document_keys(others)], schema=READ)
    path = "models/2026-01-01-tiny-b/read.parquet"
    store.write(path, parquet_bytes(table))
    manifest = load_manifest(store, "models/2026-01-01-tiny-b/manifest.json")
    assert manifest is not None
    assert "2026-01-01-tiny-b" in forget(Workspace(store), "id", doc_id, dry_run=True).models
    files = (*manifest.files, entry_of(path, store.read(path), len(others)))
    counts = {"read": {FIRST: {"read": len(others), "documents": len(others) + 1}}}
    store.write("models/2026-01-01-tiny-b/manifest.json", json_bytes(replace(manifest, files=files, counts=counts)))
    report = forget(Workspace(store), "id", doc_id)
    assert report.models == []
    assert report.advice == []
    assert {entry.models for entry in report.documents} == {()}


@pytest.mark.usefixtures("quick_pages")
def test_a_held_out_document_was_seen_by_no_model(store: LocalStore) -> None:
    [*_, held_out] = rows(store, "shards/test")
    assert forget(Workspace(store), "id", held_out["id"]).models == []


def test_a_dry_run_changes_nothing_and_says_the_same(folder: Path, store: LocalStore) -> None:
    before = contents(folder / "workspace")
    planned = forget(Workspace(store), "id", id_of(store, secret("zh")), dry_run=True)
    assert contents(folder / "workspace") == before
    done = forget(Workspace(store), "id", id_of(store, secret("zh")))
    assert replace(planned, dry_run=False) == done
    assert not set(done.files) & set(contents(folder / "workspace"))


class Memory:
    """A store in memory that remembers how it was before each change: what a kill would have left."""

    uri = "memory"
    is_fenced = False

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files, self.before = dict(files), list[dict[str, bytes]]()

    def read(self, path: str) -> bytes:
        return self.files[path]

    def open(self, path: str) -> io.BytesIO:
        return io.BytesIO(self.files[path])

    def exists(self, path: str) -> bool:
        return path in self.files

    def list(self, prefix: str = "") -> list[str]:
        return sorted(path for path in self.files if path.startswith(prefix))

    def write(self, path: str, data: bytes) -> None:
        self.before.append(dict(self.files))
        self.files[path] = data

    def read_versioned(self, path: str) -> tuple[bytes | None, str]:
        data = self.files.get(path)
        return data, sha256(data) if data is not None else ""

    def swap(self, path: str, data: bytes, version: str) -> bool:
        assert version == self.read_versioned(path)[1]
        self.write(path, data)
        return True

    def delete(self, path: str) -> None:
        self.before.append(dict(self.files))
        self.files.pop(path, None)

    def delete_tree(self, prefix: str) -> None:
        for path in self.list(f"{prefix}/"):
            self.delete(path)

    def lock(self, owner: str) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def name(self, path: str, digest: str = "") -> str:
        return path

    def learn(self, manifest: str, digests: Iterable[tuple[str, str]]) -> None:
        pass

    def write_listed(self, path: str, data: bytes, digest: str) -> None:
        self.write(path, data)

    def publish(self, path: str, data: bytes) -> None:
        self.write(path, data)

    def give_up(self, folder: str) -> None:
        self.delete(f"{folder}/manifest.json")
        self.delete_tree(folder)


@pytest.mark.usefixtures("quick_pages")
def test_a_kill_at_any_change_ends_in_the_same_bytes(folder: Path, store: LocalStore) -> None:
    doc_id = id_of(store, secret("zh"))
    write_raw(folder, THIRD, {"zh": [secret("zh")]})
    ingest(Workspace(store), settings(folder), THIRD)
    whole = Memory(contents(Path(store.uri)))
    forget(Workspace(cast(Store, whole)), "id", doc_id)
    assert len(whole.before) > 40
    for left in whole.before:
        again = Memory(left)
        forget(Workspace(cast(Store, again)), "id", doc_id)
        assert again.files == whole.files


@pytest.mark.usefixtures("quick_pages")
def test_after_a_kill_any_next_run_finishes_and_no_night_takes_it_in_meanwhile(folder: Path, store: LocalStore) -> None:
    doc_id = id_of(store, secret("zh"))
    whole = Memory(contents(Path(store.uri)))
    forget(Workspace(cast(Store, whole)), "id", doc_id)
    # The list is written, and two files are anew.
    for path, data in whole.before[3].items():
        store.write(path, data)
    assert doc_id in forgotten_list(store).unfinished
    assert verify(Workspace(store))[1] == {}
    write_raw(folder, THIRD, {"zh": [secret("zh"), text("zh", 70)]})
    assert prepare(store, settings(folder), THIRD).counts["ingest"]["removed"]["zh"]["forgotten"] == 1
    assert "finished" in render(explain(Workspace(store), doc_id))
    forget(Workspace(store), "id", id_of(store, secret("en")))
    assert forgotten_list(store).unfinished == ()
    assert places(folder / "workspace", SECRET["zh"]) == []


@pytest.mark.usefixtures("quick_pages")
def test_by_hash_and_by_pattern_the_same_goes_and_no_pattern_is_kept(folder: Path, store: LocalStore) -> None:
    by_hash = forget(Workspace(store), "sha256", sha256(secret("zh").encode()), dry_run=True)
    with pytest.raises(ConfigError, match=r"4 of \d+ records.*--yes"):
        forget(Workspace(store), "pattern", "张三的身份证号码是[一零五]+", dry_run=True)
    by_pattern = forget(Workspace(store), "pattern", "张三的身份证号码是[一零五]+", sure=True)
    assert by_pattern.files == by_hash.files
    assert {entry.id for entry in by_pattern.documents} == {entry.id for entry in by_hash.documents}
    assert "张三" not in json.dumps(read_json(store, layout.FORGOTTEN), ensure_ascii=False)
    with pytest.raises(InputError, match="no such document"):
        forget(Workspace(store), "pattern", "张三的身份证号码是", sure=True)
    assert forget(Workspace(store), "sha256", sha256(secret("zh").encode())).before


@pytest.mark.parametrize(
    ("by", "value", "error", "told"),
    [
        ("id", "zz", InputError, "at least 6 hex digits"),
        ("id", "0123456789", InputError, "no such document"),
        ("sha256", "0" * 63, ConfigError, "64 hex digits"),
        ("sha256", "0" * 64, InputError, "no such document"),
        ("pattern", "(", ConfigError, "not a regular expression"),
        ("pattern", "nobody wrote this", InputError, "no such document"),
    ],
)
def test_what_is_malformed_or_not_there_is_refused(
    folder: Path, store: LocalStore, by: str, value: str, error: type[Exception], told: str
) -> None:
    before = contents(folder / "workspace")
    with pytest.raises(error, match=told):
        forget(Workspace(store), by, value)
    assert contents(folder / "workspace") == before


@pytest.mark.usefixtures("quick_pages")
def test_a_copy_that_is_forgotten_names_the_document_that_stays(store: LocalStore) -> None:
    kept = id_of(store, secret("en"))
    copy = next(row["id"] for row in rows(store, "removed") if row["duplicate_of"] == kept)
    report = forget(Workspace(store), "id", copy)
    assert [entry.id for entry in report.documents] == [copy]
    assert report.alike == [kept]
    assert explain(Workspace(store), kept)["forgotten"] is None


@pytest.mark.usefixtures("quick_pages")
def test_explain_says_that_it_was_forgotten_and_nights_how_many_were(store: LocalStore) -> None:
    doc_id = id_of(store, secret("zh"))
    forget(Workspace(store), "id", doc_id)
    story = explain(Workspace(store), doc_id[:8])
    assert (story["id"], story["records"]) == (doc_id, [])
    assert (story["forgotten"]["after"], story["forgotten"]["nights"]) == (SECOND, [FIRST])
    assert f"after night {SECOND}, chosen by id" in render(story)
    assert [row.get("forgotten") for row in list_nights(Workspace(store))] == [1, 0]
    assert "forgotten since: 1." in store.read(f"nights/{FIRST}/README.md").decode()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ([], 2),
        (["aaaaaa", "--pattern", "x"], 2),
        (["--sha256", "00"], 2),
        (["aaaaaa"], 1),
        (["--pattern", "张三", "--yes", "--dry-run", "--json"], 0),
    ],
)
def test_the_command_wants_one_choice(
    store: LocalStore, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int
) -> None:
    assert run(["forget", *arguments, "--workspace", store.uri]) == code
    out = capsys.readouterr().out
    assert [entry["by"] for entry in json.loads(out)["documents"]] == ["pattern"] * 4 if code == 0 else out == ""


@pytest.mark.usefixtures("quick_pages")
def test_a_report_whose_model_is_gone_is_written_without_it(folder: Path, store: LocalStore) -> None:
    path = f"reports/{SECOND}/manifest.json"
    found = read_json(store, path)
    store.write(path, json_bytes(found | {"about": found["about"] | {"model": "cleaned-up"}}))
    forget(Workspace(store), "id", id_of(store, secret("zh")))
    assert read_json(store, path)["about"]["model"] == ""
    assert places(folder / "workspace", SECRET["zh"]) == []


def test_a_workspace_that_a_run_holds_is_left_alone(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    with store.lock("a night"):
        # As another process sees it.
        monkeypatch.setattr("slimpajama.workspace.local.held", set())
        with pytest.raises(LockedError):
            forget(Workspace(store), "id", id_of(store, secret("zh")))


@pytest.mark.usefixtures("quick_pages")
def test_a_check_beside_it_raises_no_false_alarm(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    doc_id, found, publish, delete = id_of(store, secret("zh")), [], LocalStore._publish, LocalStore.delete

    def slow(change: Any) -> Any:
        def changed(self: LocalStore, *arguments: Any, **options: Any) -> Any:
            time.sleep(0.01)
            return change(self, *arguments, **options)

        return changed

    monkeypatch.setattr(LocalStore, "_publish", slow(publish))
    monkeypatch.setattr(LocalStore, "delete", slow(delete))
    with ThreadPoolExecutor(1) as pool:
        forgetting = pool.submit(forget, Workspace(store), "id", doc_id)
        while not forgetting.done():
            found.append(verify(Workspace(LocalStore(store.uri)))[1])
        forgetting.result()
    assert len(found) > 3
    assert [bad for bad in found if bad] == []


@pytest.mark.usefixtures("quick_pages")
@pytest.mark.parametrize("kind", ["documents", "minhash", "texts", "bands", "shards", "README.md"])
def test_damaged_files_are_not_sealed_under_a_new_hash(store: LocalStore, kind: str) -> None:
    doc_id = id_of(store, secret("zh"))
    entries = Nights(store).load(FIRST).entries(f"nights/{FIRST}/{kind}")
    for entry in entries:
        data = bytearray(store.read(entry.path))
        data[len(data) // 2] ^= 1
        store.write(entry.path, bytes(data))
    with pytest.raises(DamagedError, match=f"{FIRST}/{kind}.*not what its manifest says"):
        forget(Workspace(store), "id", doc_id)
    assert set(verify(Workspace(store))[1]) >= {entry.path for entry in entries}


@pytest.mark.usefixtures("quick_pages")
def test_without_its_list_nothing_forgotten_comes_in_again(folder: Path, store: LocalStore) -> None:
    forget(Workspace(store), "id", id_of(store, secret("en")))
    write_raw(folder, THIRD, {"en": [secret("en"), text("en", 70)]})
    whole = store.read(layout.FORGOTTEN)
    store.write(layout.FORGOTTEN, whole.replace(b'"sha256": "', b'"sha256": "0', 1))
    with pytest.raises(DamagedError, match=r"forgotten/index\.json: damaged"):
        prepare(store, settings(folder), THIRD)
    store.delete(layout.FORGOTTEN)
    with pytest.raises(StorageError, match=r"forgotten/index\.json: missing, and was published"):
        prepare(store, settings(folder), THIRD)
    assert list(verify(Workspace(store))[1]) == [layout.FORGOTTEN]


def indexed_texts(workspace: Workspace, nights: list[str]) -> list[str]:
    """Return the text of every stream of tokens that lies in an index's folder, listed or not."""
    [found] = open_index(workspace, nights)
    tokenizer = Tokenizer.load(workspace.store.read(found.tokenizer.path))
    streams = [path for path in workspace.store.list("nights") if path.endswith(".ids.npy")]
    return [tokenizer.decode(np.load(io.BytesIO(workspace.store.read(path)))) for path in streams]


@pytest.mark.usefixtures("quick_pages")
@pytest.mark.parametrize("merges", [False, True])
def test_its_tokens_stand_in_no_index_any_more_and_other_parts_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, merges: bool
) -> None:
    folder = tmp_path
    workspace, cfg, nights = Workspace(LocalStore(str(folder / "workspace"))), settings(folder), [FIRST, SECOND]
    if not merges:
        cfg = replace(cfg, shards=replace(cfg.shards, target_mb=0.003))
        monkeypatch.setattr(index, "PART_TOKENS", 2000)
    else:
        monkeypatch.setattr(index, "LARGER", 3)
    for night, texts in ((FIRST, first_night()), (SECOND, second_night())):
        write_raw(folder, night, texts)
        prepare(workspace.store, cfg, night)
    index.index_nights(workspace, cfg)
    assert any("/merged/" in path for path in workspace.store.list("nights")) == merges
    assert any(SECRET["zh"] in text for text in indexed_texts(workspace, nights))
    before = contents(folder / "workspace")
    forget(workspace, "id", id_of(workspace.store, secret("zh")))
    after = contents(folder / "workspace")
    assert not any(SECRET["zh"][:8] in text for text in indexed_texts(workspace, nights))
    assert verify(workspace)[1] == {}
    parts = [path for path in before if path.endswith(".order.npy") and "/merged/" not in path]
    gone = [path for path in parts if path not in after]
    assert len(gone) == 1
    assert len(parts) > 1
    # As if it had never been there: what is made anew comes out the same.
    for path in [path for path in after if "/index/" in path]:
        workspace.store.delete(path)
    index.index_nights(workspace, cfg)
    again = contents(folder / "workspace")
    assert {path: data for path, data in again.items() if "/index/" in path} == {
        path: data for path, data in after.items() if "/index/" in path
    }


@pytest.mark.usefixtures("quick_pages")
def test_a_forgetting_that_was_broken_off_before_the_index_is_ended(
    store: LocalStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace, cfg = Workspace(store), settings(folder)
    index.index_nights(workspace, cfg)
    doc_id = id_of(store, secret("zh"))
    real = index._part
    monkeypatch.setattr(index, "_part", lambda *given: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        forget(workspace, "id", doc_id)
    monkeypatch.setattr(index, "_part", real)
    with pytest.raises(InputError, match="no index of the documents that it holds now"):
        open_index(workspace, [FIRST])
    forget(workspace, "id", doc_id)
    assert not any(SECRET["zh"][:8] in text for text in indexed_texts(workspace, [FIRST, SECOND]))
