"""A forgotten document's text stands nowhere any more, all others stay as they are, and it does not come in again."""

from __future__ import annotations

import contextlib
import io
import json
import random
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import slimpajama.ops.report.stage as report_stage
from slimpajama.cli import run
from slimpajama.core.config import Config, load_config
from slimpajama.core.errors import ConfigError, InputError, LockedError
from slimpajama.corpus.clean.stage import clean
from slimpajama.corpus.decontaminate import decontaminate
from slimpajama.corpus.dedup.columns import read_keys, read_texts
from slimpajama.corpus.dedup.stage import compare, deduplicate
from slimpajama.corpus.ingest import ingest
from slimpajama.corpus.segment import segment
from slimpajama.corpus.shards.stage import make_shards, make_tokenizer
from slimpajama.ops.explain import explain, render
from slimpajama.ops.forget import forget
from slimpajama.ops.overview import list_nights
from slimpajama.ops.report.stage import write_report
from slimpajama.ops.verify import verify
from slimpajama.workspace.local import LocalStore
from slimpajama.workspace.manifest import Manifest, json_bytes
from slimpajama.workspace.nights import Nights
from slimpajama.workspace.open import Workspace
from slimpajama.workspace.parquet import read_table
from slimpajama.workspace.registry import Models
from slimpajama.workspace.store import Store, read_json, sha256
from slimpajama.workspace.tombstones import INDEX, forgotten_list

FIRST, SECOND, THIRD = "2026-01-01", "2026-01-02", "2026-01-03"
ZH = """在北京的图书馆里 研究人员整理了 昨天下午 一批旧报纸 新的语言模型 ，结果令人满意。 ，许多人表示支持。
工程师检查了 今年春天 古代的地图 ，下一步已经开始。 村里的医生记录了 天气数据""".split()
EN = """the library opened its doors to a group of readers while engineers were checking old maps and weather reports
of that spring and nobody at the meeting knew which of these books had been translated before""".split()
SECRET = {"zh": "张三的身份证号码是一一零一零五", "en": "Jane Roe of Elm Street owes"}


def text(lang: str, seed: int) -> str:
    draw = random.Random(seed)
    if lang == "zh":
        return "".join(draw.choice(ZH) for _ in range(40))
    return "".join(" ".join(draw.choice(EN) for _ in range(12)).capitalize() + ". " for _ in range(8)).strip()


def secret(lang: str) -> str:
    """A text like the others, with personal data in it."""
    other = text(lang, 1000)
    return other[:60] + SECRET[lang] + other[60:]


def first_night() -> dict[str, list[str]]:
    return {lang: [text(lang, n) for n in range(20)] + [secret(lang), secret(lang)[:-4]] for lang in ("zh", "en")}


def second_night() -> dict[str, list[str]]:
    """A near copy, an exact one, new text; in English one that holds all of the first night's, which is held out."""
    around = f"{text('en', 80)} {secret('en')} {text('en', 81)}"
    new = {lang: [secret(lang)[4:], secret(lang)] + [text(lang, n) for n in range(50, 60)] for lang in ("zh", "en")}
    return {"zh": new["zh"], "en": [*new["en"], around]}


def write_raw(folder: Path, night: str, texts: dict[str, list[str]]) -> None:
    for lang, some in texts.items():
        path = folder / "raw" / f"{lang}-{night}.jsonl"
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join(json.dumps({"text": one}, ensure_ascii=False) for one in some), encoding="utf-8")


def settings(folder: Path) -> Config:
    return load_config(
        None,
        [
            'ingest.sources=[{name="zh", uri="raw/zh-*"}, {name="en", uri="raw/en-*"}]',
            f'run.source_root="{folder}"',
            "run.workers=1",
            "tokenizer.vocab_size=400",
            "shards.test_share=0.1",
            "shards.validation_share=0.1",
        ],
    )


def prepare(store: Store, cfg: Config, night: str) -> Manifest:
    made = [ingest(Workspace(store), cfg, night)]
    made.append(clean(Workspace(store), cfg, night, made[0]))
    made.append(compare(Workspace(store), cfg, night, made[1]))
    made.append(decontaminate(Workspace(store), cfg, night, made[1], made[2]))
    made.append(deduplicate(Workspace(store), cfg, night, *made[1:4]))
    if made[4].paths(f"nights/{night}/documents/"):
        words = segment(Workspace(store), cfg, night, made[4])
        tokenizer = make_tokenizer(Workspace(store), cfg, night, made[4], words)
        made += [words, tokenizer, make_shards(Workspace(store), cfg, night, made[4], words, tokenizer)]
    return Nights(store).publish(night, made, cfg)


def write_model(store: Store, model: str, nights: list[str], started_from: str = "") -> None:
    about = {"night": nights[-1], "nights": dict.fromkeys(nights, ""), "started_from": started_from}
    store.write(f"models/{model}/manifest.json", json_bytes(Manifest("train", model, (), {}, about)))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two nights with their reports, and models; no test may change it: use `folder`."""
    folder = tmp_path_factory.mktemp("forget")
    store = LocalStore(str(folder / "workspace"))
    for night, texts in ((FIRST, first_night()), (SECOND, second_night())):
        write_raw(folder, night, texts)
        prepare(store, settings(folder), night)
        write_report(Workspace(store), night)
    write_model(store, "2025-12-31-tiny-a", ["2025-12-31"])
    write_model(store, "2026-01-01-tiny-b", [FIRST], "2025-12-31-tiny-a")
    write_model(store, "2026-01-02-tiny-c", [SECOND], "2026-01-01-tiny-b")
    store.write("tuned/t/manifest.json", json_bytes(Manifest("tune", "t", (), {}, {"base": "2026-01-02-tiny-c"})))
    return folder


@pytest.fixture
def folder(built: Path, tmp_path: Path) -> Path:
    return shutil.copytree(built, tmp_path / "copy")


@pytest.fixture
def store(folder: Path) -> LocalStore:
    return LocalStore(str(folder / "workspace"))


@pytest.fixture
def quick_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports without plots, which take half a second each."""
    monkeypatch.setattr(report_stage, "night_page", lambda report: report)
    monkeypatch.setattr(report_stage, "html", lambda page: json.dumps(page, ensure_ascii=False))


def rows(store: Store, folder: str, night: str = FIRST) -> list[dict[str, Any]]:
    paths = Nights(store).load(night).paths(f"nights/{night}/{folder}/")
    return [row for path in paths for row in read_table(store, path).to_pylist()]


def id_of(store: Store, wanted: str, night: str = FIRST) -> str:
    [found] = [row["id"] for row in rows(store, "documents", night) if row["sha256"] == sha256(wanted.encode())]
    return str(found)


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
    """Return band keys and text of each row of minhash, as later nights find them."""
    manifest, found = Nights(store).load(night), {}
    for path in manifest.paths(f"nights/{night}/minhash/"):
        name = path.replace("/minhash/", "/texts/").replace(".parquet", ".arrow")
        assert {name, path.replace("/minhash/", "/bands/")} <= set(manifest.paths(""))
        ids = read_table(store, path)["id"].to_pylist()
        with store.open(path.replace("/minhash/", "/bands/")) as file:
            keys = read_keys(file, range(37)).T.tolist()
        with store.open(name) as file:
            texts = read_texts(file, np.arange(len(ids))).to_pylist()
        found |= {doc_id: (keys[n], texts[n]) for n, doc_id in enumerate(ids)}
    return found


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
    assert "张三" not in json.dumps(read_json(store, INDEX), ensure_ascii=False)
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
