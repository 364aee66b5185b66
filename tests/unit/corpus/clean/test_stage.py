from pathlib import Path
from typing import Literal

import pyarrow as pa
import pytest
from steps import begin_step, clean

from slimpajama.core.config import CleanConfig, Config, RunConfig
from slimpajama.core.errors import ConfigError
from slimpajama.core.schema import CLEANED, RAW
from slimpajama.corpus.clean.normalise import rewrite
from slimpajama.workspace.local import LocalStore
from slimpajama.workspace.manifest import Manifest, entry_of
from slimpajama.workspace.open import Workspace
from slimpajama.workspace.parquet import read_table
from slimpajama.workspace.step import Part
from slimpajama.workspace.store import Store, sha256

TEXTS = {
    "a": "\ufeff这是一篇关于天气的文章。\r\n" * 10,
    "b": "Cafe\u0301 in the old town, where the coffee is always good and strong. " * 8,
    "c": "太短了。",
    "d": "Погода в Москве сегодня хорошая, светит солнце, но завтра обещают сильный дождь и ветер. Жители города "
    "готовятся к выходным, а в магазинах много людей: все хотят купить зонты и тёплую одежду до начала осени. "
    "Синоптики говорят, что такая погода продержится до конца недели.",
}
CFG = Config(clean=CleanConfig(languages=("zh", "en")))


def raw(store: Store) -> Manifest:
    """Publish each text as a part of its own, the way ingest does."""
    stage = begin_step(store, "ingest", work="nights/n/work/ingest", about={})
    for id_, text in TEXTS.items():
        row = {"id": id_, "source": "s", "uri": f"x#{id_}", "sha256": sha256(text.encode()), "text": text}
        table = pa.Table.from_pylist([row], schema=RAW)
        stage.commit(id_, Part({f"{stage.work}/part-{id_}.parquet": table}, {"bytes": {"s": len(text.encode())}}))
    return stage.finish()


def run(folder: Path, cfg: Config = CFG) -> tuple[Store, Manifest]:
    store = LocalStore(str(folder))
    return store, clean(Workspace(store), cfg, "n", raw(store))


def test_kept_documents_are_normalised_measured_and_keep_the_hash_of_the_raw_text(tmp_path: Path):
    store, manifest = run(tmp_path)
    tables = [read_table(store, entry) for entry in manifest.entries("nights/n/work/clean/")]
    assert all(table.schema.equals(CLEANED) for table in tables)
    rows = {row["id"]: row for table in tables for row in table.to_pylist()}
    assert set(rows) == {"a", "b"}
    assert rows["a"]["text"] == "\n".join(["这是一篇关于天气的文章。"] * 10)
    assert "Café in" in rows["b"]["text"]
    assert (rows["a"]["lang"], rows["b"]["lang"]) == ("zh", "en")
    assert rows["a"]["sha256"] == sha256(TEXTS["a"].encode())
    assert rows["a"]["n_chars"] == len(rows["a"]["text"])
    assert rows["a"]["n_bytes"] == len(rows["a"]["text"].encode())
    assert rows["a"]["quality"]["content_chars"] == 110
    assert rows["a"]["quality"]["han_share"] == 1.0
    assert rows["b"]["quality"]["lang_en"] > 0.9


def test_removed_documents_say_which_rule_they_broke_and_by_how_much(tmp_path: Path):
    store, manifest = run(tmp_path)
    rows = {
        row["id"]: row
        for entry in manifest.entries("nights/n/removed/")
        for row in read_table(store, entry).to_pylist()
    }
    assert {id_: row["rule"] for id_, row in rows.items()} == {"c": "short-document", "d": "language"}
    assert (rows["c"]["value"], rows["c"]["threshold"]) == ("3 content characters", "at least 70")
    assert rows["d"]["value"] == rows["d"]["lang"] == "ru"
    assert {(row["stage"], row["night"], row["source"]) for row in rows.values()} == {("clean", "n", "s")}
    assert rows["c"]["text"] == "太短了。"


def test_counts_add_up_to_what_came_in(tmp_path: Path):
    _, manifest = run(tmp_path)
    assert manifest.counts["documents"] == {"s": 2}
    assert manifest.counts["languages"] == {"zh": 1, "en": 1}
    assert manifest.counts["removed"] == {"s": {"short-document": 1, "language": 1}}


@pytest.mark.parametrize("preset", ["slimpajama", "chinese"])
def test_workers_do_not_change_a_byte(tmp_path: Path, preset: Literal["slimpajama", "chinese"]):
    cfg = CleanConfig(preset=preset, mask_pii=True, simplify=True)
    manifests = [run(tmp_path / str(n), Config(clean=cfg, run=RunConfig(workers=n)))[1] for n in (1, 2)]
    assert manifests[0].digest == manifests[1].digest


def test_every_signal_is_measured_whatever_the_preset(tmp_path: Path):
    for preset in ("slimpajama", "none"):
        store, manifest = run(tmp_path / preset, Config(clean=CleanConfig(preset=preset)))
        for path in manifest.paths("nights/n/work/clean/"):
            assert all(
                None not in row["quality"].values()
                for row in read_table(store, entry_of(path, store.read(path))).to_pylist()
            )


def test_a_line_repeated_ten_times_is_removed_by_the_chinese_preset_with_value_and_threshold(tmp_path: Path):
    store, manifest = run(tmp_path, Config(clean=CleanConfig(preset="chinese")))
    rows = {
        row["id"]: row
        for entry in manifest.entries("nights/n/removed/")
        for row in read_table(store, entry).to_pylist()
    }
    assert (rows["a"]["rule"], rows["a"]["threshold"]) == ("gopher-dup-lines", "at most 0.287")
    assert float(rows["a"]["value"]) == 0.9
    assert manifest.depends_on["rules"]["gopher-dup-5gram"] == {"other": 0.15, "han": 0.198}


def test_options_rewrite_the_text_before_it_is_measured():
    texts = pa.array(["Ａ１：聯絡電話13812345678。", "Mail a@example.com", "無"], pa.large_string())
    cfg = CleanConfig(fold_width=True, simplify=True, mask_pii=True)
    rewritten, masked = rewrite(texts, cfg)
    assert rewritten.to_pylist() == ["A1：联络电话<PHONE>。", "Mail <EMAIL>", "无"]
    assert masked == {"phone": 1, "email": 1}
    assert rewrite(texts, CleanConfig())[0].to_pylist() == texts.to_pylist()
    also = CleanConfig(mask_also=("qq",))
    numbers = pa.array(["QQ：12345678，电话13812345678", "my QQ 12345678"], pa.large_string())
    assert rewrite(numbers, also)[0].to_pylist() == ["QQ：<QQ>，电话13812345678", "my QQ <QQ>"]


def test_a_night_that_masks_nothing_depends_on_nothing_of_masking(tmp_path: Path):
    plain, masked, also = (
        run(tmp_path / name, Config(clean=cfg))[1].depends_on
        for name, cfg in {
            "plain": CleanConfig(),
            "masked": CleanConfig(mask_pii=True),
            "also": CleanConfig(mask_also=("qq",)),
        }.items()
    )
    assert "pii" not in plain
    assert "mask_also" not in plain["settings"]
    assert masked["pii"] == also["pii"]
    assert also["mask_also"] == ["qq"]


def test_a_threshold_of_no_rule_stops_the_stage(tmp_path: Path):
    with pytest.raises(ConfigError, match="no such rule"):
        run(tmp_path, Config(clean=CleanConfig(thresholds={"gopher-words": 1})))
