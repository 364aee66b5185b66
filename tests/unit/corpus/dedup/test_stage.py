"""The stage on a workspace: what it writes, what it reads of earlier nights, and that a kill does not tell."""

import hashlib
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from steps import begin_step, compare, deduplicate

from slimpajama.core.config import load_config
from slimpajama.core.errors import StorageError
from slimpajama.core.schema import CLEANED, DOCUMENTS, MINHASH, REMOVED, removed_table
from slimpajama.corpus.dedup.files import dedup_files
from slimpajama.workspace import layout
from slimpajama.workspace.manifest import entry_of
from slimpajama.workspace.nights import Nights
from slimpajama.workspace.open import Workspace, open_store
from slimpajama.workspace.parquet import read_table
from slimpajama.workspace.step import Part, Run

ZH = "第{}天，我们在北京的图书馆里读书，讨论语言模型和数据清洗，然后去{}号食堂吃饭。"
EN = "On day {} we sat in the library, read about language models and clean data, then had lunch in hall {}. "


def text(number):
    template = EN if number % 2 else ZH
    return "".join(template.format(number * 31 + k, number + 7 * k) for k in range(8))


FIRST = [
    [("web", text(1)), ("web", text(2)), ("book", text(1).upper()), ("web", text(2) + "完。")],
    [("web", text(3)), ("book", text(4)), ("web", text(4))],
]
SECOND = [
    [("web", text(2)), ("web", text(3) + " The end."), ("web", text(5))],
    [("web", text(5) + "!"), ("web", text(6))],
]


def cleaned(store, night, parts):
    stage = begin_step(store, "clean", work=layout.night(night).work("clean"), about={"night": night})
    for number, rows in enumerate(parts):
        table = [
            {
                "id": hashlib.sha256(f"{night} {number} {place}".encode()).hexdigest()[:32],
                "text": body,
                "lang": "en" if body.isascii() else "zh",
                "source": source,
                "uri": f"{source}.txt#{place}",
                "sha256": hashlib.sha256(body.encode()).hexdigest(),
                "n_chars": len(body),
                "n_bytes": len(body.encode()),
                "quality": None,
            }
            for place, (source, body) in enumerate(rows)
        ]
        name = f"part-00000-{number:05d}"
        stage.commit(name, Part({f"{stage.work}/{name}.parquet": pa.Table.from_pylist(table, CLEANED)}))
    return stage.finish()


def cleaned_ids(night, parts):
    return [
        [hashlib.sha256(f"{night} {n} {k}".encode()).hexdigest()[:32] for k in range(len(part))]
        for n, part in enumerate(parts)
    ]


def config(*overrides):
    cfg = load_config(None, list(overrides))
    sources = [{"name": "web", "uri": "w"}, {"name": "book", "uri": "b", "priority": 1}]
    return load_config(None, [*overrides, f"ingest.sources={toml(sources)}"]) if cfg else cfg


def toml(sources):
    return "[" + ", ".join("{" + ", ".join(f"{k} = {v!r}" for k, v in s.items()) + "}" for s in sources) + "]"


def refused(store, night, ids=()):
    stage = begin_step(store, "decontaminate", work=layout.night(night).work("decontaminate"), about={"ids": ids})
    rows = [{"id": id_, "night": night, "stage": "decontaminate"} for id_ in ids]
    if not stage.finished:
        stage.commit("0", Part({f"nights/{night}/removed/decontaminate-part-00000-00001.parquet": removed_table(rows)}))
        stage.finish()
    return stage.result


def both_stages(store, cfg, night, clean, ids=()):
    compared = compare(Workspace(store), cfg, night, clean)
    return [
        compared,
        (screened := refused(store, night, ids)),
        deduplicate(Workspace(store), cfg, night, clean, compared, screened),
    ]


def run_night(store, night, parts, cfg, ids=()):
    clean = cleaned(store, night, parts)
    stages = both_stages(store, cfg, night, clean, ids)
    Nights(store).publish(night, [clean, *stages], cfg)
    return stages[-1]


def rows(store, night, folder):
    return [
        row
        for path in store.list(f"nights/{night}/{folder}/")
        for row in read_table(store, entry_of(path, store.read(path))).to_pylist()
    ]


def files(store):
    return {path: store.read(path) for path in store.list() if path.endswith(".parquet")}


@pytest.fixture
def store(tmp_path):
    return open_store(str(tmp_path))


def test_kept_and_removed_are_all_documents_each_once(store):
    found = run_night(store, "n1", FIRST, config())
    kept, removed, minhash = (rows(store, "n1", folder) for folder in ("documents", "removed", "minhash"))
    assert len(kept) + len(removed) == sum(map(len, FIRST)) == len(minhash)
    assert {row["id"] for row in kept} == {row["id"] for row in minhash if row["kept"]}
    assert {row["id"] for row in removed} == {row["id"] for row in minhash if not row["kept"]}
    assert found.counts["kept"] == {"web": 2, "book": 2}
    assert found.counts["removed"] == {"web": {"exact-duplicate": 2, "near-duplicate": 1}}
    assert sum(found.counts["kept_bytes"].values()) == sum(row["n_bytes"] for row in kept)


def test_a_removed_row_says_why_and_for_whom(store):
    run_night(store, "n1", FIRST, config())
    documents = {row["id"]: row for row in rows(store, "n1", "documents")}
    removed = {row["rule"]: row for row in rows(store, "n1", "removed")}
    near, exact = removed["near-duplicate"], removed["exact-duplicate"]
    assert (near["stage"], near["night"], near["threshold"]) == ("dedup", "n1", "0.8")
    assert documents[near["duplicate_of"]]["text"] == text(2) + "完。"  # the longer one
    assert near["text"] == text(2)
    assert 0.8 <= near["jaccard"] < 1
    assert near["value"] == f"{near['jaccard']:.6f}"
    # The source of higher priority.
    assert documents[exact["duplicate_of"]]["source"] == "book"
    assert exact["jaccard"] == 1.0


def test_a_contaminated_document_is_not_kept_and_takes_the_place_of_none_in_a_later_night(store):
    cfg = config()
    run_night(store, "n0", [[("web", text(2))]], cfg)
    # text(3), the only one of its kind.
    contaminated = cleaned_ids("n1", FIRST)[1][0]
    found = run_night(store, "n1", FIRST, cfg, ids=[contaminated])
    assert contaminated not in {row["id"] for row in rows(store, "n1", "documents")}
    assert {row["id"]: row["kept"] for row in rows(store, "n1", "minhash")}[contaminated] is False
    assert [row["stage"] for row in rows(store, "n1", "removed") if row["id"] == contaminated] == ["decontaminate"]
    assert sum(found.counts["kept"].values()) == len(rows(store, "n1", "documents"))
    run_night(store, "n2", [[("web", text(3) + " The end.")]], cfg)
    assert [row["text"] for row in rows(store, "n2", "documents")] == [text(3) + " The end."]


def test_files_have_the_contracts_columns_and_the_parts_names(store):
    found = run_night(store, "n1", FIRST, config())
    for folder, prefix, schema in (
        ("documents", "", DOCUMENTS),
        ("removed", "dedup-", REMOVED),
        ("minhash", "", MINHASH),
    ):
        paths = found.paths(f"nights/n1/{folder}/")
        assert paths == [f"nights/n1/{folder}/{prefix}part-00000-{n:05d}.parquet" for n in range(2)]
        assert all(read_table(store, entry_of(path, store.read(path))).schema.equals(schema) for path in paths)


def test_a_later_night_is_compared_with_all_earlier_ones(store):
    run_night(store, "n1", FIRST, config())
    found = run_night(store, "n2", SECOND, config())
    first = {row["id"]: row for row in rows(store, "n1", "documents")}
    removed = rows(store, "n2", "removed")
    assert [row["text"] for row in rows(store, "n2", "documents")] == [text(5) + "!", text(6)]
    assert [row["duplicate_of"] in first for row in removed] == [True, True, False]
    assert found.counts["removed_for_earlier"] == 2
    clusters = {row["id"]: row["cluster"] for night in ("n1", "n2") for row in rows(store, night, "minhash")}
    assert all(clusters[row["id"]] == clusters[row["duplicate_of"]] for row in removed)


def test_only_files_that_a_manifest_lists_are_compared_with(store):
    run_night(store, "n1", [[("web", text(1))]], config())
    path = "nights/n1/minhash/part-00000-00000.parquet"
    store.write(path.replace("00000.parquet", "00001.parquet"), store.read(path))
    run_night(store, "n2", [[("web", text(1))]], config())
    assert [row["duplicate_of"] for row in rows(store, "n2", "removed")] == [rows(store, "n1", "documents")[0]["id"]]


@pytest.mark.parametrize(
    "setting", ["dedup.num_perm=128", "dedup.ngram_chars=9", "dedup.sketch=datasketch", "dedup.seed=3"]
)
def test_a_night_of_other_settings_is_compared_with_by_its_texts(store, setting):
    extra = ["dedup.bands=16"]
    run_night(store, "n1", FIRST, config())
    run_night(store, "n2", SECOND, config(setting, *extra))
    assert [row["text"] for row in rows(store, "n2", "documents")] == [text(5) + "!", text(6)]


@pytest.mark.parametrize("workers", [1, 4])
def test_a_kill_at_any_commit_leaves_the_same_bytes(tmp_path, workers, monkeypatch):
    class Killed(BaseException):
        pass

    def nights(store, cfg):
        run_night(store, "n1", FIRST, cfg)
        run_night(store, "n2", SECOND, cfg)

    calm = open_store(str(tmp_path / "calm"))
    nights(calm, config())
    commit = Run.commit
    # Two sketches, two decisions, two parts.
    for allowed in range(6):
        store = open_store(str(tmp_path / f"killed-{allowed}"))
        cfg, done = config(f"run.workers={workers}"), []
        run_night(store, "n1", FIRST, cfg)
        clean = cleaned(store, "n2", SECOND)

        def dying(self, key, part, allowed=allowed, done=done):
            if len(done) == allowed:
                raise Killed
            done.append(key)
            commit(self, key, part)

        monkeypatch.setattr(Run, "commit", dying)
        with pytest.raises(Killed):
            both_stages(store, cfg, "n2", clean)
        monkeypatch.setattr(Run, "commit", commit)
        Nights(store).publish("n2", [clean, *both_stages(store, cfg, "n2", clean)], cfg)
        assert files(store) == files(calm)


@pytest.mark.parametrize("kind", ["minhash", "bands", "texts"])
@pytest.mark.parametrize("damage", ["swapped", "short", "gone", "garbage"])
def test_a_damaged_file_of_an_earlier_night_is_named_and_not_compared_with(store, kind, damage):
    run_night(store, "n1", FIRST, config())
    first, second = store.list(f"nights/n1/{kind}/")
    data = store.read(first)
    if damage == "gone":
        store.delete(first)
    else:
        garbage = bytes(8) + data[8:-60] + bytes(52) + data[-8:]
        store.write(first, {"swapped": store.read(second), "short": data[:-3], "garbage": garbage}[damage])
    with pytest.raises(StorageError, match=rf"{first}: .*slimpajama verify"):
        run_night(store, "n2", SECOND, config())


def test_the_stage_does_not_depend_on_memory_or_workers(tmp_path):
    published = []
    for number, memory in enumerate(("dedup.memory_mb=1000", "dedup.memory_mb=1")):
        store = open_store(str(tmp_path / str(number)))
        for night, parts in (("n1", FIRST), ("n2", SECOND)):
            found = run_night(store, night, parts, config(memory, f"run.workers={1 + number}"))
        published.append((files(store), found.counts))
    assert published[0] == published[1]


def growing():
    """Return three nights' new documents in both languages: new ones, and versions and copies of earlier ones."""
    nights = []
    for night in range(3):
        new = [("web", text(n)) for n in range(100 + 20 * night, 120 + 20 * night)]
        old = [("web", text(n) + " Once more, 再来一次。") for n in range(100, 100 + 20 * night, 3)]
        copies = [("book", text(n).upper()) for n in range(101, 100 + 20 * night, 5)]
        nights.append([new, old + copies])
    return nights


def test_three_nights_keep_what_one_build_keeps_but_for_the_version_that_came_first(tmp_path):
    """Earlier nights come first: of a family the night it appeared decides, where one build would take the longest."""
    apart, whole = open_store(str(tmp_path / "apart")), open_store(str(tmp_path / "whole"))
    for number, parts in enumerate(growing()):
        before = files(apart)
        run_night(apart, f"n{number}", [part for part in parts if part], config())
        # A night never changes what earlier ones published.
        assert files(apart).items() >= before.items()
    run_night(whole, "n", [part for parts in growing() for part in parts if part], config())

    def families(store, nights):
        minhash = [row for night in nights for row in rows(store, night, "minhash")]
        number = {row["text"]: k for k in range(100, 160) for row in [{"text": text(k)}]}
        kept = [row["text"] for night in nights for row in rows(store, night, "documents")]
        return sorted(number[t.split(" Once more")[0]] if not t.isupper() else t for t in kept), len(minhash)

    kept, documents = families(apart, ["n0", "n1", "n2"])
    # The first version of each.
    assert kept == list(range(100, 160))
    assert documents == sum(len(part) for parts in growing() for part in parts)
    clusters = {row["cluster"] for row in rows(whole, "n", "minhash")}
    # One of each there, too.
    assert len(rows(whole, "n", "documents")) == len(clusters) == 60
    assert len({row["cluster"] for night in ("n0", "n1", "n2") for row in rows(apart, night, "minhash")}) == 60


def ingested(store, night, inputs):
    """Leave the manifest that ingest would."""
    about = {"inputs": [{"source": "web", "path": path, "bytes": 1, "sha256": sha} for path, sha in inputs.items()]}
    return begin_step(store, "ingest", work=layout.night(night).work("ingest"), about=about).finish()


def test_an_edited_file_is_on_record_and_a_deleted_one_leaves_its_documents(store):
    inputs = {"n1": {"raw/a.txt": "1", "raw/b.txt": "2"}, "n2": {"raw/a.txt": "3"}}
    # As it was, a little, altogether.
    edited = [("web", text(1)), ("web", text(2) + "改"), ("web", text(60))]
    parts = {"n1": [[("web", text(1)), ("web", text(2)), ("web", text(3))], [("web", text(9))]], "n2": [edited]}
    for night in ("n1", "n2"):
        read, clean = ingested(store, night, inputs[night]), cleaned(store, night, parts[night])
        stages = both_stages(store, config(), night, clean)
        Nights(store).publish(night, [read, clean, *stages], config())
    found = stages[-1]
    assert found.depends_on["edited"] == {"web": ["raw/a.txt"]}
    assert found.counts["removed"] == {"web": {"exact-duplicate": 1, "near-duplicate": 1}}
    assert [row["text"] for row in rows(store, "n2", "documents")] == [text(60)]
    assert [row["text"] for row in rows(store, "n1", "documents")] == [text(1), text(2), text(3), text(9)]


def test_a_pair_that_is_not_verified_is_recorded_without_a_similarity(store):
    run_night(store, "n1", FIRST, config("dedup.preset=slimpajama"))
    removed = {row["rule"]: row for row in rows(store, "n1", "removed")}
    near = removed["near-duplicate"]
    assert (near["jaccard"], near["value"], near["threshold"]) == (None, "shares a band key", "9 bands of 13 rows")
    assert removed["exact-duplicate"]["jaccard"] == 1.0


def test_dedup_of_files_against_a_workspace_names_its_documents(tmp_path):
    store = open_store(str(tmp_path / "workspace"))
    run_night(store, "n1", FIRST, config())
    before, new = files(store), tmp_path / "new.jsonl"
    lines = [{"id": "near", "text": text(1) + " Once more."}, {"id": "new", "text": text(50)}]
    new.write_text("".join(json.dumps(line) + "\n" for line in lines))
    dedup_files([new], tmp_path / "out", config().dedup, against=str(tmp_path / "workspace"))
    kept, removed = (pq.read_table(tmp_path / "out" / name).to_pylist() for name in ("kept", "removed"))
    of = {row["text"]: row["id"] for row in rows(store, "n1", "documents")}
    assert [row["id"] for row in kept] == ["new"]
    assert [(row["id"], row["duplicate_of"]) for row in removed] == [("near", of[text(1).upper()])]
    assert removed[0]["jaccard"] >= 0.8
    assert files(store) == before
