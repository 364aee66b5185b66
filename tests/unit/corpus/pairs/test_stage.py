"""The stage on a workspace: what stays, what goes and why, and that tests are kept apart from what is learnt."""

import json

import numpy as np
import polars as pl
import pytest

from slimpajama.core.config import load_config
from slimpajama.core.errors import ConfigError, InputError
from slimpajama.corpus.pairs.stage import make_pairs
from slimpajama.workspace.open import open_workspace


def sentence(seed, n=24):
    """Return words that stand nowhere else, in both languages."""
    rng = np.random.default_rng(seed)
    english = " ".join("".join(chr(97 + c) for c in rng.integers(0, 26, 7)) for _ in range(n))
    return english, "".join(chr(0x4E00 + c) for c in rng.integers(0, 5000, 3 * n))


def pairs(n=200):
    return [dict(zip(("source", "target"), sentence(k), strict=True)) | {"group": f"file {k // 4}"} for k in range(n)]


def write(folder, rows, name="pairs.jsonl"):
    (folder / "raw").mkdir(exist_ok=True)
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (folder / "raw" / name).write_text(text, encoding="utf-8")


def config(folder, *overrides, task="translation"):
    source = f'pairs.sources=[{{name="mine", uri="raw/*.jsonl", task="{task}"}}]'
    sets = [f"workspace={folder / 'workspace'}", f"run.source_root={folder}", "dedup.threshold=0.99"]
    return load_config(None, [*sets, source, *overrides])


def made(cfg):
    name, manifest = make_pairs(open_workspace(cfg.workspace), cfg)
    paths = {split: manifest.paths(f"pairs/{name}/{split}/") for split in ("train", "validation", "test", "removed")}
    return manifest, {
        split: pl.concat([pl.read_parquet(f"{cfg.workspace}/{path}") for path in found])
        for split, found in paths.items()
        if found
    }


def test_every_pair_is_kept_or_on_record_and_groups_are_not_torn(tmp_path):
    rows = pairs()
    write(tmp_path, [*rows, rows[0], rows[1] | {"target": sentence(999)[1]}, {"source": "x"}])
    manifest, found = made(config(tmp_path, "pairs.test_share=0.2", "pairs.validation_share=0.2"))
    kept = pl.concat([found[split] for split in ("train", "validation", "test")])
    assert len(kept) + len(found["removed"]) == len(rows) + 3
    rules = dict(found["removed"].select("rule", "uri").iter_rows())
    assert rules == {
        "duplicate": "raw/pairs.jsonl#201",
        "conflicting-targets": "raw/pairs.jsonl#202",
        "empty-side": "raw/pairs.jsonl#203",
    }
    splits = [set(found[split]["group"]) for split in ("train", "validation", "test")]
    assert all(splits)
    assert sum(map(len, splits)) == len(set().union(*splits))
    assert manifest.counts["pairs"]["test"] == {"translation": {"mine": len(found["test"])}}
    partner = found["removed"].filter(pl.col("rule") == "duplicate")["duplicate_of"].item()
    assert kept.filter(pl.col("id") == partner)["source"].item() == rows[0]["source"]


def test_near_duplicates_go_and_name_their_partner(tmp_path):
    rows = pairs(8)
    near = rows[3] | {"source": rows[3]["source"] + " more", "group": "another file"}
    write(tmp_path, [*rows, near])
    _, found = made(config(tmp_path, "dedup.threshold=0.8", "pairs.test_share=0", "pairs.validation_share=0"))
    gone = found["removed"].filter(pl.col("rule") == "near-duplicate")
    assert gone["uri"].to_list()[-1:] in (["raw/pairs.jsonl#9"], ["raw/pairs.jsonl#4"])
    assert gone["jaccard"].min() >= 0.8


@pytest.mark.parametrize("side", ["source", "target"])
def test_nothing_is_learnt_that_holds_either_side_of_a_test(tmp_path, side):
    rows = pairs(120)
    cfg = config(tmp_path, "pairs.test_share=0.3", "pairs.validation_share=0")
    write(tmp_path, rows)
    _, found = made(cfg)
    copied = found["test"]["source" if side == "source" else "targets"][0]
    copied = copied if side == "source" else copied[0]
    other = dict(zip(("source", "target"), sentence(1000, 60), strict=True))
    leak = other | {side: f"{other[side]} {copied}", "group": found["train"]["group"][0].removeprefix("mine/")}
    write(tmp_path, [*rows, leak])
    _, found = made(cfg)
    gone = found["removed"].filter(pl.col("rule") == "test-overlap")
    assert gone["uri"].to_list() == ["raw/pairs.jsonl#121"]
    assert (
        found["test"].filter(pl.format("test {}", "id") == gone["value"].str.split(" of ").list.last()[0]).height == 1
    )


def test_questions_of_a_passage_share_a_split_and_answers_may_stand_anywhere(tmp_path):
    rows = [
        {"source": " ".join(sentence(n)), "question": f"{ask} {sentence(2 * n + m + 500)[m]}", "target": ["孩子"]}
        for n in range(48)
        for m, ask in enumerate(("Who saw", "谁看见了"))
    ]
    write(tmp_path, rows)
    _, found = made(config(tmp_path, "pairs.test_share=0.4", "pairs.validation_share=0", task="question-answering"))
    assert len(found["train"]) + len(found["test"]) == len(rows)
    assert not set(found["train"]["source"]) & set(found["test"]["source"])


def test_evaluation_files_are_kept_out_of_what_is_learnt(tmp_path):
    rows = pairs(40)
    write(tmp_path, rows)
    (tmp_path / "exam.jsonl").write_text(json.dumps({"text": rows[7]["target"]}) + "\n", encoding="utf-8")
    exam = 'decontaminate.evaluations=[{name="exam", uri="exam.jsonl"}]'
    _, found = made(config(tmp_path, exam, "pairs.test_share=0", "pairs.validation_share=0"))
    assert found["removed"]["rule"].to_list() == ["evaluation-overlap"]
    assert found["removed"]["uri"].item() == "raw/pairs.jsonl#8"


def test_the_same_files_give_the_same_bytes_and_are_not_read_twice(tmp_path):
    write(tmp_path, pairs(60))
    first, _ = made(config(tmp_path, f"workspace={tmp_path / 'a'}"))
    second, _ = made(config(tmp_path, f"workspace={tmp_path / 'b'}", "run.workers=3"))
    assert first == second
    (tmp_path / "raw" / "more.jsonl").write_text("{}\n", encoding="utf-8")
    changed, _ = made(config(tmp_path, f"workspace={tmp_path / 'a'}"))
    assert changed.fingerprint != first.fingerprint


def test_what_is_missing_is_said_clearly(tmp_path):
    with pytest.raises(InputError, match="no source of pairs"):
        make_pairs(open_workspace(str(tmp_path)), load_config(None, []))
    with pytest.raises(InputError, match=r"no pair is left.*no-files 1"):
        made(config(tmp_path))
    with pytest.raises(ConfigError, match="did you mean both_ways"):
        load_config(None, ['pairs.sources=[{name="a", uri="x", task="translation", both_way=true}]'])
    with pytest.raises(ConfigError, match=r"ingest\.protocols does not allow"):
        load_config(None, ['pairs.sources=[{name="a", uri="ftp://x/y", task="translation"}]'])
