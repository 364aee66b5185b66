"""Shards: every document once, exactly its text, near-duplicates on one side, the same bytes with any workers."""

import pyarrow as pa
import pytest
from steps import begin_step, make_shards, make_tokenizer, segment

from slimpajama.core.config import load_config
from slimpajama.core.errors import StorageError
from slimpajama.core.schema import DOCUMENTS, MINHASH, SHARDS
from slimpajama.text.tokenizer import Tokenizer
from slimpajama.workspace import layout
from slimpajama.workspace.manifest import entry_of
from slimpajama.workspace.nights import Nights
from slimpajama.workspace.open import Workspace, open_store
from slimpajama.workspace.parquet import read_table
from slimpajama.workspace.step import Part
from slimpajama.workspace.store import sha256

ZH = "第{}天，我们在北京的图书馆里读书，讨论语言模型和数据清洗。"
EN = "On day {} we sat in the library, read the books and talked about language models."


def documents(part):
    rows = []
    for n in range(60):
        number = part * 60 + n
        text = (ZH if n % 2 else EN).format(number) * (1 + n % 3)
        rows.append(
            {
                "id": f"{number * 7919 % 100_000:032x}",
                "text": text,
                "lang": "zh" if n % 2 else "en",
                "source": "s",
                "uri": f"f#{number}",
                "sha256": "",
                "n_chars": len(text),
                "n_bytes": len(text.encode()),
                "night": "n",
                "quality": None,
            }
        )
    return rows


def prepare(store, night="n", workers=1, **settings):
    overrides = [
        "tokenizer.vocab_size=400",
        "shards.test_share=0.2",
        "shards.validation_share=0.2",
        f"run.workers={workers}",
    ]
    cfg = load_config(None, overrides + [f"{key.replace('__', '.')}={value}" for key, value in settings.items()])
    stage = begin_step(store, "dedup", work=layout.night(night).work("dedup"), about={})
    for part in range(2):
        rows = documents(part)
        # A quarter is one cluster.
        clusters = [row["id"] if n % 4 else rows[0]["id"] for n, row in enumerate(rows)]
        minhash = [
            {"id": row["id"], "content": b"0" * 16, "cluster": cluster, "kept": True}
            for row, cluster in zip(rows, clusters, strict=True)
        ]
        minhash.insert(3, {"id": "f" * 32, "content": b"1" * 16, "cluster": "f" * 32, "kept": False})
        files = {
            f"nights/{night}/documents/part-{part:05d}.parquet": pa.Table.from_pylist(rows, DOCUMENTS),
            f"nights/{night}/minhash/part-{part:05d}.parquet": pa.Table.from_pylist(minhash, MINHASH),
        }
        size = sum(row["n_bytes"] for row in rows)
        stage.commit(f"{part}", Part(files, {"kept_bytes": {"s": size}}))
    kept = stage.finish()
    words = segment(Workspace(store), cfg, night, kept)
    tokenizer = make_tokenizer(Workspace(store), cfg, night, kept, words)
    shards = make_shards(Workspace(store), cfg, night, kept, words, tokenizer)
    return cfg, [kept, words, tokenizer, shards]


def rows_of(store, manifest, split=""):
    paths = manifest.paths(f"nights/n/shards/{split}")
    return [
        row | {"path": path}
        for path in paths
        for row in read_table(store, entry_of(path, store.read(path))).to_pylist()
    ]


@pytest.fixture
def made(tmp_path):
    store = open_store(str(tmp_path))
    cfg, stages = prepare(store, shards__target_mb=0.003)
    return store, cfg, stages


def test_every_document_is_in_exactly_one_shard(made):
    store, _, stages = made
    ids = [row["id"] for row in rows_of(store, stages[-1])]
    assert sorted(ids) == sorted(row["id"] for part in range(2) for row in documents(part))


def test_words_and_tokens_are_exactly_the_text(made):
    store, cfg, stages = made
    texts = {row["id"]: row["text"] for part in range(2) for row in documents(part)}
    tokenizer = Tokenizer.load(store.read("nights/n/tokenizer/tokenizer.json"), cfg.text)
    for row in rows_of(store, stages[-1]):
        assert "".join(row["words"]) == texts[row["id"]]
        assert tokenizer.decode(row["input_ids"]) == texts[row["id"]]
        assert row["n_bytes"] == len(texts[row["id"]].encode())
        assert row["input_ids"] == tokenizer.encode(texts[row["id"]])


def test_the_mask_flags_exactly_the_tokens_of_content_words(made):
    store, cfg, stages = made
    tokenizer = Tokenizer.load(store.read("nights/n/tokenizer/tokenizer.json"), cfg.text)
    for row in rows_of(store, stages[-1]):
        kept = [token for token, content in zip(row["input_ids"], row["content_mask"], strict=True) if content == "1"]
        assert tokenizer.decode(kept) == "".join(row["content_words"])
        assert "".join(row["content_words"]) != "".join(row["words"])


def test_a_cluster_is_never_torn_apart(made):
    store, _, stages = made
    twins = {row["id"] for part in range(2) for n, row in enumerate(documents(part)) if n % 4 == 0 and part == 0}
    splits = {row["path"].split("/")[3] for row in rows_of(store, stages[-1]) if row["id"] in twins}
    assert len(splits) == 1


def test_each_split_has_about_its_share_and_training_is_cut_into_several_shards(made):
    counts = made[2][-1].counts["documents"]
    # 92 clusters at 20 % each: within four standard deviations (15) of 18, the big cluster (30 documents) besides
    assert 3 <= counts["test"] <= 18 + 15 + 30
    assert 3 <= counts["validation"] <= 18 + 15 + 30
    assert sum(counts.values()) == 120
    assert len(made[2][-1].paths("nights/n/shards/train/")) > 1


def test_documents_of_a_shard_are_mixed_across_parts(made):
    store, _, stages = made
    order = [row["id"] for row in rows_of(store, stages[-1], "train")]
    written = [row["id"] for part in range(2) for row in documents(part)]
    assert order != sorted(order, key=written.index)


def test_the_bytes_do_not_depend_on_the_number_of_workers(tmp_path):
    def run(workers):
        store = open_store(str(tmp_path / str(workers)))
        _, stages = prepare(store, workers=workers)
        return [[(entry.path, entry.sha256) for entry in stage.files] for stage in stages]

    assert run(1) == run(4)


def test_a_later_night_keeps_the_vocabulary_and_a_changed_setting_makes_a_new_one(made):
    store, cfg, stages = made
    Nights(store).publish("n", stages, cfg)
    _, later = prepare(store, "n2")
    first = Nights(store).load("n").paths("nights/n/tokenizer/")[0]
    assert later[2].files[0].sha256 == next(e.sha256 for e in stages[2].files)
    assert store.read(first) == store.read("nights/n2/tokenizer/tokenizer.json")
    _, reset = prepare(store, "n3", tokenizer__vocab_size=350)
    assert reset[2].files[0].sha256 != later[2].files[0].sha256


def test_a_damaged_vocabulary_is_not_carried_on(made):
    store, cfg, stages = made
    Nights(store).publish("n", stages, cfg)
    path = Nights(store).load("n").paths("nights/n/tokenizer/")[0]
    # The same vocabulary, and other bytes.
    store.write(path, store.read(path) + b" ")
    with pytest.raises(StorageError, match=rf"{path}: the file is not what its manifest says.*slimpajama verify"):
        prepare(store, "n2")


def test_a_night_that_kept_nothing_does_not_lose_the_vocabulary(made):
    store, cfg, stages = made
    Nights(store).publish("n", stages, cfg)
    Nights(store).publish(
        "n2", [begin_step(store, "dedup", work=layout.night("n2").work("dedup"), about={}).finish()], cfg
    )
    _, later = prepare(store, "n3")
    assert later[2].files[0].sha256 == stages[2].files[0].sha256
    assert later[2].counts == stages[2].counts


def test_a_shard_is_named_by_its_content_and_its_rows_are_on_record(made):
    store, _, stages = made
    shards = [entry for entry in stages[-1].files if "/shards/" in entry.path and "/work/" not in entry.path]
    assert len(shards) >= 5
    for entry in shards:
        data = store.read(entry.path)
        assert entry.path.rsplit("/", 1)[1] == f"{sha256(data)[:16]}.parquet"
        table = read_table(store, entry)
        assert table.schema.equals(SHARDS)
        assert entry.rows == len(table) > 0


def test_shards_have_about_the_target_size(made):
    sizes = [
        sum(row["n_bytes"] for row in read_table(made[0], entry_of(path, made[0].read(path))).to_pylist())
        for path in made[2][-1].paths("nights/n/shards/train/")
    ]
    # 3 kB of text a shard, documents of 80 to 250 bytes, drawn by hash.
    assert max(sizes) < 3 * 3000


def test_the_card_and_the_croissant_file_are_published_with_the_night(made):
    store, cfg, stages = made
    night = Nights(store).publish("n", stages, cfg)
    assert {"nights/n/README.md", "nights/n/croissant.json"} <= {entry.path for entry in night.files}
    assert store.read("nights/n/README.md").decode().count("| s | ") == 2  # one source, two languages


def test_counts_by_source_are_those_of_the_rows(made):
    store, _, stages = made
    rows = [row for row in rows_of(store, stages[-1]) if row["lang"] == "zh"]
    assert stages[-1].counts["sources"]["s"]["zh"] == {
        "documents": len(rows),
        "bytes": sum(row["n_bytes"] for row in rows),
        "words": sum(len(row["words"]) for row in rows),
        "content_words": sum(len(row["content_words"]) for row in rows),
        "tokens": sum(len(row["input_ids"]) for row in rows),
    }
