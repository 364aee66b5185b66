"""Sixty kinds of bad input: each ends in a record or an error that says what, where and why, never in anything else.

Left out: a file without permission, since root reads it all the same (`test_discover.py` has a folder that cannot be
listed, by another way); cron and time zones, which no setting holds: Prefect refuses wrong ones of prefect.yaml. The
codec of `compress` has its property tests in `compress/test_file.py`, shingles of hostile texts in
`dedup/test_jaccard.py`.
"""

from __future__ import annotations

import io
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from bad_inputs import BOMB, CASES, CONFIGS, EXPORTED, LIMIT, NAMES, POINTERS, TEXTS, ZH, Case, jsonl, page
from hypothesis import example, given, settings
from hypothesis import strategies as st
from steps import clean, ingest

from slimpajama.cli import run
from slimpajama.core.config import CleanConfig, Config, IngestConfig, PairSourceConfig, RunConfig, SourceConfig
from slimpajama.core.errors import InputError, ModelError, SlimpajamaError, StorageError, printable, printable_lines
from slimpajama.corpus.clean.normalise import normalise
from slimpajama.corpus.ingest import read_whole
from slimpajama.corpus.pairs.records import FORMATS, Pair, read_pairs
from slimpajama.corpus.sources import archives, files, parquet, streams
from slimpajama.corpus.sources.discover import InputFile
from slimpajama.corpus.sources.records import Batch, ReadOptions, RejectedRecord
from slimpajama.model.loading import load_exported, load_model
from slimpajama.ops.export import export_model
from slimpajama.workspace.local import LocalStore
from slimpajama.workspace.manifest import entry_of
from slimpajama.workspace.nights import Nights
from slimpajama.workspace.open import Workspace
from slimpajama.workspace.parquet import read_table
from slimpajama.workspace.registry import Models
from slimpajama.workspace.store import Store, sha256


@pytest.fixture(autouse=True)
def small_bombs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds of a sixteenth, so that what goes beyond them is made in no time."""
    monkeypatch.setattr(streams, "BOMB_BYTES", BOMB)
    monkeypatch.setattr(parquet, "BOMB_BYTES", BOMB)
    monkeypatch.setattr(archives, "BOMB_BYTES", BOMB)
    monkeypatch.setattr(parquet, "AT_ONCE", BOMB)


def read(name: str, data: bytes, options: ReadOptions) -> tuple[list[str], list[RejectedRecord]]:
    found = list(files.read(lambda: io.BytesIO(data), name, options))
    for batch in found:
        batch.table.validate(full=True)
    texts = [text for batch in found for text in batch.table["text"].to_pylist()]
    return texts, [bad for batch in found for bad in batch.rejected]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.group}-{case.what}")
def test_a_bad_file_gives_what_can_be_read_and_says_what_cannot(case: Case):
    texts, bad = read(case.name, case.make(), ReadOptions(max_document_bytes=LIMIT))
    assert tuple(texts) == case.texts
    assert [(item.place, item.rule) for item in bad] == [(place, rule) for place, rule, _ in case.bad]
    for item, (_, _, value) in zip(bad, case.bad, strict=True):
        assert item.value.startswith(value)
        assert item.value.isprintable()


def make_names(folder: Path) -> None:
    os.mkfifo(folder / "pipe.txt")
    (folder / "device.txt").symlink_to("/dev/zero")
    (folder / "self.txt").symlink_to("self.txt")
    (folder / "nowhere.txt").symlink_to("not-there")
    (folder / "folder.txt").mkdir()
    (folder / "folder.txt" / "loop").symlink_to(folder)
    (folder / "folder.txt" / "round").symlink_to(".")
    for name, rule in NAMES.items():
        if rule in ("", "unknown-format") or name == "gone.txt":
            full = os.fsencode(folder) + b"/" + (name if isinstance(name, bytes) else name.encode())
            try:
                with open(full, "wb") as file:
                    file.write(f"{ZH} {name!r}".encode())
            except OSError:
                # This disk takes UTF-8 names only.
                assert isinstance(name, bytes)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, list[dict[str, Any]], list[dict[str, Any]]]:
    """Everything at once through ingest and cleaning: the workspace, what was read, what is on record."""
    root = tmp_path_factory.mktemp("bad")
    for name in ("cases", "texts", "names", "good"):
        (root / name).mkdir()
    for case in CASES:
        (root / "cases" / case.name).write_bytes(case.make())
    for number, (_, text, _) in enumerate(TEXTS):
        (root / "texts" / f"{number:02d}.txt").write_text(text, encoding="utf-8", newline="")
    make_names(root / "names")
    (root / "good" / "good.jsonl").write_bytes(jsonl(*(f"{ZH * 9} {number}" for number in range(500))))
    sources = [SourceConfig(name=name, uri=f"{name}/**/*") for name in ("cases", "good", "names", "texts")]
    cfg = Config(
        ingest=IngestConfig(sources=tuple(sources), max_document_mb=LIMIT / 1e6, part_mb=1.0),
        clean=CleanConfig(preset="none", languages=("zh", "zh-Hant", "en", "mixed", "unknown")),
        run=RunConfig(source_root=str(root), workers=2),
    )

    def take(file: InputFile, options: ReadOptions) -> Iterator[Batch]:
        if file.path.endswith("gone.txt"):
            Path(file.location).unlink()
        return read_whole(file, options)

    store = LocalStore(str(root / "workspace"))
    with pytest.MonkeyPatch.context() as patch:
        for module, name in (
            (streams, "BOMB_BYTES"),
            (archives, "BOMB_BYTES"),
            (parquet, "BOMB_BYTES"),
            (parquet, "AT_ONCE"),
        ):
            patch.setattr(module, name, BOMB)
        raw = ingest(Workspace(store), cfg, "n", take=take)
    cleaned = clean(Workspace(store), cfg, "n", raw)
    removed = [manifest.paths("nights/n/removed/") for manifest in (raw, cleaned)]
    return store, rows(store, raw.paths("nights/n/work/")), rows(store, removed[0] + removed[1])


def rows(store: Store, paths: list[str]) -> list[dict[str, Any]]:
    return [row for path in paths for row in read_table(store, entry_of(path, store.read(path))).to_pylist()]


def test_all_at_once_good_files_are_read_and_every_bad_one_is_on_record(whole: Any):
    _, raw, removed = whole
    assert sum(row["source"] == "good" for row in raw) == 500
    for case in CASES:
        path = f"cases/{case.name}"
        assert Counter(row["text"] for row in raw if row["uri"].partition("#")[0] == path) == Counter(case.texts)
        on_record = [row for row in removed if row["uri"].partition("#")[0] == path and row["stage"] == "ingest"]
        assert Counter(row["rule"] for row in on_record) == Counter(rule for _, rule, _ in case.bad)
    assert all(row["value"] and row["value"].isprintable() for row in removed)


def test_files_of_any_name_are_read_once_and_what_is_no_file_is_on_record(whole: Any):
    _, raw, removed = whole
    read_ = Counter(row["uri"].rpartition("#")[0] for row in raw if row["source"] == "names")
    rules = {row["uri"]: row["rule"] for row in removed if row["source"] == "names" and row["stage"] == "ingest"}
    assert rules.keys().isdisjoint(read_)
    for name, rule in NAMES.items():
        shown = "names/" + (name if isinstance(name, str) else name.decode("utf-8", "backslashreplace"))
        if rule not in ("", "folder"):
            assert rules.pop(shown) == rule
        elif not rule and isinstance(name, str):
            assert read_[shown] == 1
    assert not rules
    assert set(read_.values()) == {1}


@pytest.mark.parametrize("number", range(len(TEXTS)), ids=[text[0] for text in TEXTS])
def test_a_strange_text_is_kept_or_removed_by_a_rule(whole: Any, number: int):
    _, _, removed = whole
    _, text, rule = TEXTS[number]
    found = [row["rule"] for row in removed if row["uri"].partition("#")[0] == f"texts/{number:02d}.txt"]
    assert found == ([rule] if rule else [])
    kept = normalise(text)
    assert normalise(kept) == kept
    assert not set("\x1b\x07\x9b\u202e\ufffe\u200b") & set(kept)
    assert "\x1b" not in printable_lines(text) + printable(text)


@pytest.mark.parametrize(("toml", "said"), [case[1:] for case in CONFIGS], ids=[case[0] for case in CONFIGS])
def test_a_wrong_configuration_ends_with_code_2_and_one_printable_line(
    toml: bytes, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "c.toml").write_bytes(toml)
    assert run(["nights", "--config", str(tmp_path / "c.toml")]) == 2
    out, err = capsys.readouterr()
    assert said in err
    assert "docs/configuration.md" in err
    assert (err.endswith("\n"), err[:-1].isprintable(), out) == (True, True, "")


def test_a_configuration_with_a_byte_order_mark_is_read(tmp_path: Path):
    (tmp_path / "c.toml").write_bytes(b'\xef\xbb\xbfworkspace = "nowhere"\r\n')
    assert run(["nights", "--config", str(tmp_path / "c.toml")]) == 1  # no such workspace


def test_a_configuration_without_end_is_given_up(capsys: pytest.CaptureFixture[str]):
    assert run(["nights", "--config", "/dev/zero"]) == 2
    assert "more than 1000000 bytes" in capsys.readouterr().err


@pytest.fixture(scope="module")
def exported(one_model: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("exported") / "model"
    export_model(Workspace(LocalStore(str(one_model[0]))), folder, one_model[1])
    return {name: (folder / name).read_bytes() for name in ("config.json", "tokenizer.json", "model.safetensors")}


@pytest.mark.parametrize(
    ("name", "change", "said"), [case[1:] for case in EXPORTED], ids=[case[0] for case in EXPORTED]
)
def test_a_wrong_model_is_refused_before_it_takes_memory(
    name: str, change: Callable[[bytes], bytes], said: str, exported: dict[str, bytes], tmp_path: Path
):
    found = exported | {name: change(exported[name])}
    assert found[name] != exported[name]
    # Whoever makes such a file makes its hash.
    if name != "config.json":
        config = json.loads(found["config.json"])
        config["sha256"][name] = sha256(found[name])
        found["config.json"] = json.dumps(config).encode()
    for file, data in found.items():
        (tmp_path / file).write_bytes(data)
    with pytest.raises(ModelError) as caught:
        load_exported(tmp_path)
    assert said in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize(("path", "data", "said"), [case[1:] for case in POINTERS], ids=[case[0] for case in POINTERS])
def test_a_wrong_pointer_is_refused_by_name(path: str, data: bytes, said: str, tmp_path: Path):
    store = LocalStore(str(tmp_path))
    store.write(path, data)
    use: dict[str, Callable[[], object]] = {
        "models/champion.json": lambda: load_model(Workspace(store)),
        "tuned/current.json": lambda: Models(store).tuned_tasks(),
        "nights/index.json": lambda: Nights(store).published(),
    }
    with pytest.raises(SlimpajamaError) as caught:
        use[path]()
    assert said in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize(
    "manifest",
    [
        b"[]",
        b'{"name": 5}',
        b'{"name": "n", "fingerprint": "", "files": [[]], "counts": {}, "about": {}}',
        b'{"name": "n", "fingerprint": "", "files": [], "counts": {}, "about": []}',
        b'{"name": "n", "fingerprint": "", "files": [], "counts": {}, "about": {"x": %b}}' % (b"[" * 300 + b"]" * 300),
    ],
)
def test_a_wrong_manifest_is_refused_by_name(manifest: bytes, tmp_path: Path):
    store = LocalStore(str(tmp_path))
    store.write("models/m/manifest.json", manifest)
    with pytest.raises(StorageError, match=r"models/m/manifest\.json: not a manifest.*verify"):
        load_model(Workspace(store), "m")


@pytest.mark.parametrize("path", ["../../etc/passwd", "/etc/passwd", "a\0b"])
def test_no_path_leaves_the_workspace(path: str, tmp_path: Path):
    with pytest.raises(StorageError, match="path leaves the workspace"):
        LocalStore(str(tmp_path)).read(path)


def test_the_page_of_bad_inputs_lists_every_one_and_the_manual_every_rule():
    listed = page()
    rows = [line for line in listed.splitlines() if line.startswith("| ") and not line.startswith(("| what", "| name"))]
    assert len(rows) == sum(map(len, (CASES, TEXTS, NAMES, CONFIGS, EXPORTED, POINTERS)))
    assert listed.replace("\n", "").isprintable()
    docs = Path(__file__).resolve().parents[2] / "docs"
    manual = "".join((docs / name).read_text(encoding="utf-8") for name in ("bad-inputs.md", "formats.md"))
    rules = {rule for case in CASES for _, rule, _ in case.bad} | {rule for *_, rule in TEXTS} | set(NAMES.values())
    assert [rule for rule in sorted(rules - {"", "folder"}) if f"`{rule}`" not in manual] == []


def test_a_message_holds_no_escape_whoever_brought_it():
    error = InputError("cannot be \x1b[31m", where="\x1b]0;", found="\x9b1m", expected="\x07")
    assert str(error).isprintable()


FUZZED = sorted({case.name for case in CASES if case.name != "archive.tar"})
SMALL = {case.name: data for case in CASES if len(data := case.make()) < 3000}


@given(st.sampled_from(FUZZED), st.binary(max_size=200))
# Each once raised what no reader meant to.
@example("utf16.html", b"<meta charset=undefined>a")
@example("utf16.html", b"<meta charset=idna>\xff")
@example("many.parquet", b"PAR1\x00\x00\x00\x00PAR1")
@example("tail.jsonl.bz2", b"BZh9\x17\x72\x45\x38\x50\x90\x00\x00\x00\x00")
@example("cut.warc", b"WARC/1.0\r\nContent-Length: -1\r\n\r\n")
@settings(max_examples=100)
def test_any_bytes_give_records_and_nothing_else(name: str, data: bytes):
    texts, bad = read(name, data, ReadOptions(max_document_bytes=500, batch_bytes=100, id_field="id"))
    assert texts or bad
    assert all(item.value.isprintable() for item in bad)


@given(st.sampled_from(sorted(SMALL)), st.integers(0, 3000), st.binary(min_size=1, max_size=4))
@settings(max_examples=100)
def test_a_bad_file_may_be_damaged_on_top(name: str, place: int, noise: bytes):
    data = bytearray(SMALL[name])
    data[place % (len(data) + 1) :][: len(noise)] = noise
    texts, bad = read(name, bytes(data), ReadOptions(max_document_bytes=LIMIT))
    assert texts or bad


DEEP_TMX = b'<tmx><body><tu><tuv xml:lang="en"><seg>' + b"<hi>" * 5000 + b"x"
DEEP_TMX += b"</hi>" * 5000 + b"</seg></tuv></tu></body></tmx>"


@given(st.sampled_from(sorted(FORMATS)), st.binary(max_size=200))
# Longer than any field may be.
@example(".csv", b"source,target\n" + b"x" * 20_000_000)
@example(".csv", b"source,target\na\rb,c\n")
@example(".tmx", DEEP_TMX)
@settings(max_examples=100)
def test_any_bytes_give_pairs_or_records(suffix: str, data: bytes):
    source = PairSourceConfig(name="p", uri="p", task="translation")
    found = list(read_pairs(lambda: io.BytesIO(data), f"a{suffix}", source))
    assert found
    assert all(isinstance(item, Pair) or item.value.isprintable() for item in found)


@pytest.mark.parametrize("name", ["many.parquet", "dictionary.parquet", "statistics.parquet", "lists.parquet"])
def test_a_parquet_file_of_pairs_is_bounded_as_one_of_documents_is(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(parquet, "AT_ONCE", BOMB)
    (case,) = [case for case in CASES if case.name == name]
    source = PairSourceConfig(name="p", uri="p", task="translation", fields={"source": "text", "target": "text"})
    found = list(read_pairs(lambda: io.BytesIO(case.make()), name, source))
    assert [item.rule for item in found if isinstance(item, RejectedRecord)] == [case.bad[-1][1]]
    # There is no bound to a single text of a pair.
    assert len(found) < 10
