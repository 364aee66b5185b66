import os
from pathlib import Path

import pyarrow as pa
import pytest
from steps import begin_step, segment

from slimpajama.core.config import Config, RunConfig, TextConfig
from slimpajama.core.errors import ConfigError
from slimpajama.core.schema import DOCUMENTS, WORDS
from slimpajama.corpus import segment as module
from slimpajama.text.segment import Segmenter
from slimpajama.workspace.local import LocalStore
from slimpajama.workspace.manifest import Manifest, entry_of
from slimpajama.workspace.open import Workspace
from slimpajama.workspace.parquet import read_table
from slimpajama.workspace.step import Part
from slimpajama.workspace.store import Store

TEXTS = {
    "a": ("今天天气很好，我们去公园。", "zh"),
    "b": ("The quick brown fox.", "en"),
    "c": ("中文 and English", "mixed"),
}


def documents(store: Store, texts: dict[str, tuple[str, str]]) -> Manifest:
    """Publish each text as a part of its own, the way the deduplication does."""
    stage = begin_step(store, "dedup", work="nights/n/work/dedup", about={"texts": texts})
    for id_, (text, lang) in texts.items():
        row = {"id": id_, "text": text, "lang": lang, "n_bytes": len(text.encode())}
        table = pa.Table.from_pylist([dict.fromkeys(DOCUMENTS.names) | row], schema=DOCUMENTS)
        stage.commit(
            id_, Part({f"nights/n/documents/part-{id_}.parquet": table}, {"kept_bytes": {"s": row["n_bytes"]}})
        )
    return stage.finish()


def run(folder: Path, cfg: Config) -> tuple[Store, Manifest]:
    store = LocalStore(str(folder))
    return store, segment(Workspace(store), cfg, "n", documents(store, TEXTS))


def test_every_part_of_documents_has_a_part_of_words_with_the_same_name_and_rows(tmp_path: Path):
    store, words = run(tmp_path, Config())
    assert [path.rsplit("/", 1)[1] for path in words.paths("nights/n/")] == [f"part-{id_}.parquet" for id_ in TEXTS]
    for path, (id_, (text, _)) in zip(words.paths("nights/n/"), TEXTS.items(), strict=True):
        table = read_table(store, entry_of(path, store.read(path)))
        assert table.schema.equals(WORDS)
        (row,) = table.to_pylist()
        assert row["id"] == id_
        assert [*row["lengths"]] == [len(word.encode()) for word in Segmenter(TextConfig()).cut(text)]


def test_counts_are_those_of_the_words_by_language(tmp_path: Path):
    store, words = run(tmp_path, Config())
    (row,) = read_table(store, words.files[0]).to_pylist()
    assert words.counts["documents"] == {"zh": 1, "en": 1, "mixed": 1}
    assert words.counts["bytes"] == {lang: len(text.encode()) for text, lang in TEXTS.values()}
    assert words.counts["words"]["zh"] == len(row["lengths"])


def test_workers_do_not_change_a_byte(tmp_path: Path):
    digests = set()
    for workers in (1, 3):
        cfg = Config()
        cfg = Config(run=type(cfg.run)(workers=workers))
        digests.add(run(tmp_path / str(workers), cfg)[1].digest)
    assert len(digests) == 1


def test_another_segmenter_setting_runs_the_stage_again(tmp_path: Path):
    first = run(tmp_path, Config())[1]
    assert run(tmp_path, Config())[1] == first
    assert run(tmp_path, Config(text=TextConfig(hmm=False)))[1].fingerprint != first.fingerprint


def with_dictionary(folder: Path, lines: str) -> Config:
    (folder / "words.txt").write_text(lines, encoding="utf-8")
    return Config(text=TextConfig(user_dictionary="words.txt"), run=RunConfig(source_root=str(folder)))


def test_the_user_dictionary_decides_words_and_its_content_is_in_the_fingerprint(tmp_path: Path):
    plain = run(tmp_path, Config())[1]
    store, words = run(tmp_path, with_dictionary(tmp_path, "今天天气很好\n"))
    (row,) = read_table(store, words.files[0]).to_pylist()
    assert row["lengths"][0] == len("今天天气很好".encode())
    edited = run(tmp_path, with_dictionary(tmp_path, "今天天气\n"))[1]
    assert len({plain.fingerprint, words.fingerprint, edited.fingerprint}) == 3


def test_a_user_dictionary_that_cannot_be_read_is_one_clear_error(tmp_path: Path):
    with_dictionary(tmp_path, "")
    (tmp_path / "words.txt").unlink()
    with pytest.raises(ConfigError, match=r"words\.txt: No such file"):
        run(tmp_path, Config(text=TextConfig(user_dictionary="words.txt"), run=RunConfig(source_root=str(tmp_path))))


def test_a_user_dictionary_is_a_regular_file_of_bounded_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    cfg = with_dictionary(tmp_path, "今天天气很好\n")
    monkeypatch.setattr(module, "DICTIONARY_BYTES", 8)
    with pytest.raises(ConfigError, match=r"words\.txt: more than 8 bytes"):
        run(tmp_path, cfg)
    os.mkfifo(tmp_path / "pipe")
    for file in (tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(ConfigError, match="a device or a pipe"):
            run(tmp_path, Config(text=TextConfig(user_dictionary=str(file))))


def test_a_bad_line_of_the_user_dictionary_costs_that_line_and_no_message_quotes_it(tmp_path: Path, caplog):
    caplog.set_level("WARNING", logger="slimpajama")
    cfg = with_dictionary(tmp_path, f"今天天气很好\n密码 12345678901\n{'pass phrase' * 9}\n")
    store, words = run(tmp_path, cfg)
    (row,) = read_table(store, words.files[0]).to_pylist()
    assert row["lengths"][0] == len("今天天气很好".encode())
    assert words.depends_on["lines_left_out"] == [2, 3]
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith("words.txt: 2 lines are no entries of a user dictionary and are left out: 2, 3; expected")
    assert not any(word in said for word in ("密码", "phrase"))
