"""The index of the corpus: the training split and nothing else, the same bytes after any kill, merged now and then."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from nights_to_forget import FIRST, SECOND, first_night, prepare, rows, second_night, settings, write_raw

from slimpajama.core.config import Config, RunConfig
from slimpajama.core.errors import InputError
from slimpajama.corpus import index
from slimpajama.corpus.index import index_nights
from slimpajama.text.suffixes import Suffixes, longest, suffixes_of
from slimpajama.text.tokenizer import Tokenizer
from slimpajama.workspace.index import open_index
from slimpajama.workspace.local import LocalStore
from slimpajama.workspace.manifest import json_bytes, load_manifest
from slimpajama.workspace.open import Workspace
from slimpajama.workspace.step import Run


@pytest.fixture
def space(tmp_path):
    """A workspace with two nights of real texts, each of several shards."""
    cfg, store = settings(tmp_path), LocalStore(str(tmp_path / "workspace"))
    cfg = replace(cfg, shards=replace(cfg.shards, target_mb=0.003))
    for night, texts in ((FIRST, first_night()), (SECOND, second_night())):
        write_raw(tmp_path, night, texts)
        prepare(store, cfg, night)
    return Workspace(store), cfg


@pytest.fixture
def plain():
    return Config(run=RunConfig(workers=1))


@pytest.fixture
def few_tokens(monkeypatch):
    """Let a part hold a few shards only."""
    monkeypatch.setattr(index, "PART_TOKENS", 2000)


def contents(store):
    return {path: store.read(path) for path in store.list("nights") if "/index/" in path}


def texts_of(workspace, night):
    """Return the ids of the documents in a night's index, with their texts."""
    [found] = open_index(workspace, [night])
    tokenizer = Tokenizer.load(workspace.store.read(found.tokenizer.path))
    texts = {}
    for part in found.parts:
        ids, _, _, document_id = part.arrays
        begins = part.documents["begin"].to_numpy()
        ends = [*begins[1:].tolist(), len(ids) - 1]
        assert (ids[begins] == document_id).all()
        assert ids[-1] == document_id
        for doc_id, begin, end in zip(part.documents["id"].to_pylist(), begins.tolist(), ends, strict=True):
            texts[doc_id] = tokenizer.decode(ids[begin + 1 : end])
    return texts


def test_it_holds_the_training_split_and_nothing_of_the_held_out_ones(space, few_tokens):
    workspace, cfg = space
    assert index_nights(workspace, cfg).nights == [FIRST, SECOND]
    for night in (FIRST, SECOND):
        kept = {row["id"]: row["text"] for row in rows(workspace.store, "documents", night)}
        train = {row["id"] for row in rows(workspace.store, "shards/train", night)}
        held_out = {
            row["id"] for split in ("validation", "test") for row in rows(workspace.store, f"shards/{split}", night)
        }
        # Or this test looks at too little.
        assert train
        assert held_out
        assert train | held_out == set(kept)
        assert texts_of(workspace, night) == {doc_id: kept[doc_id] for doc_id in train}
    [found] = open_index(workspace, [FIRST, SECOND])
    assert len(found.parts) > 4


def test_every_suffix_stands_in_its_order(space, few_tokens):
    workspace, cfg = space
    index_nights(workspace, cfg)
    for part in open_index(workspace, [FIRST, SECOND])[0].parts:
        ids, order, first, _ = part.arrays
        suffixes = [ids[i:].tolist() for i in order]
        assert suffixes == sorted(suffixes)
        assert (np.diff(first) == np.bincount(ids, minlength=len(first) - 1)).all()


@pytest.mark.parametrize("killed_at", range(1, 10, 2))
def test_a_kill_at_any_unit_ends_in_the_same_bytes(space, few_tokens, monkeypatch, killed_at):
    workspace, cfg = space
    index_nights(workspace, cfg)
    wanted = contents(workspace.store)
    for path in [*wanted, *workspace.store.list("published/nights")]:
        if "/index/" in path:
            workspace.store.delete(path)
    real, calls = Run.commit, Counter()

    def commit(run, key, part):
        calls["all"] += 1
        if calls["all"] == killed_at:
            # After some of its files.
            run.store.write(next(iter(part.files)), b"half")
            raise KeyboardInterrupt
        real(run, key, part)

    monkeypatch.setattr(Run, "commit", commit)
    with pytest.raises(KeyboardInterrupt):
        index_nights(workspace, cfg)
    monkeypatch.setattr(Run, "commit", real)
    index_nights(workspace, cfg)
    assert contents(workspace.store) == wanted


def test_what_has_an_index_is_left_as_it_is(space):
    workspace, cfg = space
    assert index_nights(workspace, cfg).nights == [FIRST, SECOND]
    before = contents(workspace.store)
    report = index_nights(workspace, cfg)
    assert (report.nights, report.merged, contents(workspace.store)) == ([], [], before)


def test_a_night_without_an_index_is_an_error_that_says_what_makes_one(space):
    workspace, cfg = space
    with pytest.raises(InputError, match=f"{FIRST}.*`slimpajama prepare`"):
        open_index(workspace, [FIRST])
    index_nights(workspace, cfg, only=[FIRST])
    assert open_index(workspace, [FIRST])
    with pytest.raises(InputError, match=SECOND):
        open_index(workspace, [FIRST, SECOND])


@pytest.fixture
def many(tmp_path, two_nights, more_nights):
    """A workspace with nine nights of about the same size."""
    store = LocalStore(str(tmp_path / "many"))
    tokenizer = next(two_nights.glob("nights/*/tokenizer/tokenizer.json")).read_bytes()
    names = [f"2026-02-{day:02d}" for day in range(1, 10)]
    for number, night in enumerate(names):
        more_nights(store, night, number, tokenizer)
    return Workspace(store), names


def occurrences(workspace, nights, words):
    """Return by night how often words stand in the index, and in how many parts it was looked for."""
    [found] = open_index(workspace, nights)
    ids = np.array(Tokenizer.load(workspace.store.read(found.tokenizer.path)).encode("".join(words)), np.uint16)
    counts = Counter()
    for part in found.parts:
        suffixes = Suffixes(*part.arrays)
        length, lo, hi = longest(suffixes, ids, 0, len(ids))
        places = suffixes.order[lo:hi] if length == len(ids) else []
        rows = np.searchsorted(part.documents["begin"].to_numpy(), places, "right") - 1
        counts.update(part.documents["night"].take(rows).to_pylist())
    return counts, len(found.parts)


def test_many_nights_are_asked_in_few_files_and_answer_as_each_alone(many, plain):
    workspace, nights = many
    for night in nights:
        index_nights(workspace, plain, only=[night])
    singly = Counter()
    words = ["今天", "学习"]
    for night in nights:
        counts, parts = occurrences(workspace, [night], words)
        assert parts == 1
        singly += counts
    assert set(singly) == set(nights)
    index_nights(workspace, plain)
    together, parts = occurrences(workspace, nights, words)
    assert together == singly
    assert parts <= 4
    # What a rollback asks: the nights up to some day.
    some, _ = occurrences(workspace, nights[:5], words)
    assert some == {night: singly[night] for night in nights[:5]}


def test_nights_that_come_one_by_one_are_merged_as_they_come(tmp_path, two_nights, more_nights, plain):
    workspace = Workspace(LocalStore(str(tmp_path / "growing")))
    tokenizer = next(two_nights.glob("nights/*/tokenizer/tokenizer.json")).read_bytes()
    nights = [f"2026-02-{day:02d}" for day in range(1, 13)]
    expected, most = Counter(), 0
    for number, night in enumerate(nights):
        more_nights(workspace.store, night, number, tokenizer)
        assert index_nights(workspace, plain).nights == [night]
        again = index_nights(workspace, plain)
        assert (again.nights, again.merged) == ([], [])
        expected += occurrences(workspace, [night], ["今天", "学习"])[0]
        counts, parts = occurrences(workspace, nights[: number + 1], ["今天", "学习"])
        assert counts == expected
        most = max(most, parts)
    assert most <= 4


def test_a_merged_index_is_not_asked_when_it_is_of_other_documents(many, plain, more_nights):
    workspace, nights = many
    index_nights(workspace, plain)
    merged = [path for path in workspace.store.list("nights") if path.endswith("merged/manifest.json")]
    assert merged
    counts, _ = occurrences(workspace, nights, ["a"])
    tokenizer = workspace.store.read(f"nights/{nights[0]}/tokenizer/tokenizer.json")
    more_nights(workspace.store, nights[0], 77, tokenizer)
    with pytest.raises(InputError, match=nights[0]):
        open_index(workspace, nights)
    index_nights(workspace, plain)
    again, _ = occurrences(workspace, nights, ["a"])
    assert again[nights[1]] == counts[nights[1]]
    assert open_index(workspace, nights)


def test_nights_of_two_tokenizers_have_two_indexes(many, plain, more_nights):
    workspace, nights = many
    data = workspace.store.read(f"nights/{nights[0]}/tokenizer/tokenizer.json")
    more_nights(workspace.store, "2026-03-01", 3, data.rstrip() + b"\n\n")
    index_nights(workspace, plain)
    found = open_index(workspace, [*nights, "2026-03-01"])
    assert [one.nights for one in found] == [tuple(nights), ("2026-03-01",)]


def test_an_index_by_another_tokenizer_is_not_asked_but_made_again(many, plain):
    workspace, nights = many
    index_nights(workspace, plain)
    path = f"nights/{nights[0]}/index/manifest.json"
    manifest = load_manifest(workspace.store, path)
    made_of = manifest.depends_on | {"tokenizer": 64 * "0"}
    other = replace(manifest, fingerprint="of another one", depends_on=made_of)
    workspace.store.write(path, json_bytes(other))
    with pytest.raises(InputError, match=nights[0]):
        open_index(workspace, nights)
    assert index_nights(workspace, plain).nights == [nights[0]]
    assert load_manifest(workspace.store, path) == manifest


def test_ids_that_the_vocabulary_lacks_are_refused(many, plain, monkeypatch):
    workspace, _ = many
    monkeypatch.setattr(index, "suffixes_of", lambda ids, vocab_size, first: suffixes_of(ids, 30, first))
    with pytest.raises(InputError, match="cannot be indexed: ids must be below 30"):
        index_nights(workspace, plain)
