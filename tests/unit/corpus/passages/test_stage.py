"""The stage over one night and several: what is counted, what is cut, what stays, and that all of it is on record."""

import contextlib
import json
from dataclasses import replace
from itertools import pairwise

import pytest
from steps import clean, compare, decontaminate, deduplicate, find_passages, ingest, run_share

from slimpajama.core.config import Config, DedupConfig, IngestConfig, RunConfig, SourceConfig
from slimpajama.core.errors import StorageError
from slimpajama.core.schema import DOCUMENTS, PASSAGES, REMOVED
from slimpajama.corpus.passages import stage
from slimpajama.corpus.passages.count import ALL, TEXT_BYTES, WINDOW_BYTES, Range, ranges
from slimpajama.ops.explain import explain, render
from slimpajama.ops.forget import forget
from slimpajama.workspace import layout
from slimpajama.workspace.claims import use_executor
from slimpajama.workspace.local import LocalStore
from slimpajama.workspace.open import Workspace
from slimpajama.workspace.parquet import read_columns
from slimpajama.workspace.step import Run

NOTICE = {
    "zh": (
        "免责声明：本网站转载的文章版权归原作者所有，内容仅代表作者本人的观点，与本网站的立场无关。"
        "责任编辑：张小明，投稿请联系编辑部。"
    ),
    "en": (
        "Disclaimer: the opinions on this page are those of its authors and not those of the paper. No part of it may"
        " be copied without a letter of consent. Whoever finds a mistake is asked to write to the editors, who are"
        " glad of each such letter and will answer it within a week, holidays excepted."
    ),
}
OWN = {
    "zh": "第{n}天的{n}号新闻说，{n}位研究人员在第{n}次会议上讨论了{n}个模型，并且把第{n}版数据放在了{n}号服务器上面。",
    "en": "On day {n} the paper of street {n} said that {n} workers had seen {n} boats with {n} boxes on river {n}.",
}


def article(lang, number, *, notice=True, times=6):
    """Return a text of its own, in which numbers differ from line to line and from text to text."""
    lines = [OWN[lang].format(n=1000 * number + 7 * line) for line in range(times)]
    return "\n".join([*lines[:2], *([NOTICE[lang]] if notice else []), *lines[2:]])


class Space:
    """A workspace and its raw files."""

    def __init__(self, folder, **dedup):
        self.folder, self.workspace = folder, Workspace(LocalStore(str(folder / "w")))
        source = SourceConfig(name="web", uri="*.jsonl")
        self.cfg = Config(
            workspace=str(folder / "w"),
            ingest=IngestConfig(sources=(source,), part_mb=0.002),
            dedup=DedupConfig(**dedup),
            run=RunConfig(source_root=str(folder), workers=1),
        )

    def night(self, name, texts):
        """Publish a night of some texts as far as documents go, and return the manifest of the step."""
        lines = [json.dumps({"text": text}, ensure_ascii=False) for text in texts]
        (self.folder / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
        arguments = self.workspace, self.cfg, name
        raw = ingest(*arguments)
        cleaned = clean(*arguments, raw)
        compared = compare(*arguments, cleaned)
        steps = [cleaned, compared, decontaminate(*arguments, cleaned, compared)]
        self.before, found = steps, find_passages(*arguments, *steps)
        made = [raw, *steps, found, deduplicate(*arguments, *steps)]
        self.workspace.nights.publish(name, made, self.cfg)
        return found

    def rows(self, night, kind, schema):
        entries = self.workspace.nights.load(night).entries(layout.night(night).within(kind))
        return read_columns(self.workspace.store, entries, schema, schema.names).to_pylist()

    def texts(self, night):
        return [row["text"] for row in self.rows(night, "documents", DOCUMENTS)]

    def passages(self, night):
        return self.rows(night, "passages", PASSAGES)


@pytest.mark.parametrize("lang", ["zh", "en"])
def test_what_stands_in_enough_documents_is_reported_and_stays(lang, tmp_path):
    space, texts = Space(tmp_path), [article(lang, n) for n in range(5)]
    found = space.night("n1", [*texts, article(lang, 9, notice=False)])
    assert space.texts("n1") == [*texts, article(lang, 9, notice=False)]
    rows, ids = space.passages("n1"), [row["id"] for row in space.rows("n1", "documents", DOCUMENTS)]
    assert [row["id"] for row in rows] == ids[:5]
    for row, text in zip(rows, texts, strict=True):
        assert row["text"] == text[row["begin"] : row["end"]] == f"{NOTICE[lang]}\n"
        assert (row["documents"], row["cut"], row["other_night"]) == (5, False, "n1")
    assert [row["other"] for row in rows] == [ids[4], *[ids[0]] * 4]
    assert len({row["key"] for row in rows}) == 1
    size = 5 * len(f"{NOTICE[lang]}\n".encode())
    assert found.counts == {
        "passages": {"web": 5},
        "documents": {"web": 5},
        "bytes": {"web": size},
        "taken": 0,
        "removed": {},
    }


@pytest.mark.parametrize("lang", ["zh", "en"])
def test_a_document_fewer_and_nothing_is_reported(lang, tmp_path):
    space = Space(tmp_path)
    found = space.night("n1", [article(lang, n) for n in range(4)])
    assert space.passages("n1") == []
    assert found.counts["passages"] == {}


@pytest.mark.parametrize("lang", ["zh", "en"])
def test_all_but_the_first_document_lose_what_is_cut(lang, tmp_path):
    space, texts = Space(tmp_path, cut_passages=True), [article(lang, n) for n in range(6)]
    space.night("n1", texts)
    left = [texts[0], *(article(lang, n, notice=False) for n in range(1, 6))]
    assert space.texts("n1") == left
    for row, text in zip(space.rows("n1", "documents", DOCUMENTS), left, strict=True):
        assert (row["n_chars"], row["n_bytes"]) == (len(text), len(text.encode()))
    assert [row["cut"] for row in space.passages("n1")] == [False, *[True] * 5]
    counts = space.workspace.nights.load("n1").counts
    assert counts["passages"]["taken"] == 5 * len(f"{NOTICE[lang]}\n".encode())
    assert sum(counts["dedup"]["kept_bytes"].values()) == sum(len(text.encode()) for text in left)


@pytest.mark.parametrize("lang", ["zh", "en"])
def test_a_document_that_is_too_short_without_its_passages_is_removed_and_says_so(lang, tmp_path):
    space = Space(tmp_path, cut_passages=True)
    short = f"{NOTICE[lang]}\n{OWN[lang].format(n=77)[:40]}"
    space.night("n1", [article(lang, n) for n in range(5)] + [short])
    assert len(space.texts("n1")) == 5
    (row,) = [row for row in space.rows("n1", "removed", REMOVED) if row["stage"] == "passages"]
    assert (row["rule"], row["text"], row["night"]) == ("repeated-passages", short, "n1")
    assert "content characters" in row["value"]
    assert row["threshold"] == f"at least {70 if lang == 'zh' else 200}"
    counts = space.workspace.nights.load("n1").counts["passages"]
    assert counts["removed"] == {"web": {"repeated-passages": 1}}
    story = explain(space.workspace, row["id"])["records"][0]
    assert (story["status"], story["stage"], story["rule"]) == ("removed", "passages", "repeated-passages")
    assert story["rules"][-1]["passed"] is False
    assert all(rule["passed"] for rule in story["rules"][:-1])


@pytest.mark.parametrize("lang", ["zh", "en"])
def test_documents_of_all_nights_count_and_the_first_one_keeps_what_is_cut(lang, tmp_path):
    space = Space(tmp_path, cut_passages=True)
    texts = [article(lang, n) for n in range(8)]
    for number, night in enumerate(("n1", "n2", "n3", "n4")):
        space.night(night, texts[number : number + 1])
        assert space.passages(night) == []
    first = space.rows("n1", "documents", DOCUMENTS)[0]["id"]
    for number, night in enumerate(("n5", "n6"), 4):
        space.night(night, [texts[number]])
        (row,) = space.passages(night)
        assert (row["documents"], row["cut"]) == (number + 1, True)
        assert (row["other"], row["other_night"]) == (first, "n1")
        assert space.texts(night) == [article(lang, number, notice=False)]
    story = explain(space.workspace, row["id"])
    (passage,) = story["records"][0]["passages"]
    assert passage["text"].strip() == NOTICE[lang]
    assert f"one is {first} of n1" in render(story)
    assert "cut out" in render(story)


def test_rules_are_told_of_the_document_as_it_was_cleaned(tmp_path):
    space = Space(tmp_path, cut_passages=True)
    space.cfg = replace(space.cfg, clean=replace(space.cfg.clean, thresholds={"gopher-few-words": 150}))
    texts = [article("en", n) for n in range(5)]
    space.night("n1", [*texts[:4], article("en", 4, times=7)])
    row = space.rows("n1", "documents", DOCUMENTS)[-1]
    rules = {rule["rule"]: rule for rule in explain(space.workspace, row["id"])["records"][0]["rules"]}
    assert float(rules["gopher-few-words"]["value"].split()[0]) > row["quality"]["words"]


def test_a_document_that_did_not_stay_is_not_the_first_of_a_later_night(tmp_path):
    space = Space(tmp_path, cut_passages=True, passage_documents=2, passage_tokens=20)
    # What is left of the second one is too short; the sentence behind the notice stands nowhere else.
    only = "此外还有一句只在这里出现过一次的话，它说的是今天的天气很好，大家都很高兴。"
    space.night("n1", [article("zh", 1), f"{NOTICE['zh']}\n{only}"])
    assert len(space.texts("n1")) == 1
    text = f"{article('zh', 2, notice=False)}\n{only}"
    space.night("n2", [text])
    assert space.texts("n2") == [text]


def test_a_night_of_which_nothing_is_left_has_no_passages(tmp_path):
    space = Space(tmp_path)
    space.night("n1", [article("zh", n) for n in range(5)])
    found = space.night("n2", ["太短"])
    assert space.passages("n2") == []
    assert found.counts["passages"] == {}


def test_a_duplicate_does_not_count(tmp_path):
    space, texts = Space(tmp_path), [article("zh", n) for n in range(4)]
    space.night("n1", [*texts, texts[0]])
    assert space.passages("n1") == []


def test_what_was_cut_out_is_found_and_forgotten_by_a_pattern_too(tmp_path):
    space = Space(tmp_path, cut_passages=True)
    space.night("n1", [*(article("zh", n) for n in range(6)), article("zh", 9, notice=False)])
    forgotten = forget(space.workspace, "pattern", "免责声明", sure=True)
    assert len(forgotten.documents) == 6
    assert space.texts("n1") == [article("zh", 9, notice=False)]
    assert space.passages("n1") == []
    # They do not count any more.
    space.night("n2", [article("zh", n) for n in range(10, 14)])
    assert space.passages("n2") == []


def test_nights_of_other_settings_are_not_counted_and_that_is_said(tmp_path, caplog):
    space, texts = Space(tmp_path), [article("zh", n) for n in range(6)]
    space.night("n1", texts[:4])
    space.cfg = replace(space.cfg, dedup=replace(space.cfg.dedup, passage_tokens=40))
    with caplog.at_level("INFO"):
        space.night("n2", texts[4:])
    assert space.passages("n2") == []
    assert "1 earlier nights have no windows of 40 tokens: not counted" in caplog.text


@pytest.mark.parametrize("damage", ["cut", "flipped", "gone"])
def test_damaged_windows_of_an_earlier_night_stop_the_step_with_one_error(damage, tmp_path):
    space = Space(tmp_path)
    space.night("n1", [article("zh", n) for n in range(4)])
    path, *_ = sorted((tmp_path / "w" / "nights" / "n1" / "windows").glob("*.parquet"))
    data = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(data[:-9] if damage == "cut" else data[:100] + bytes([data[100] ^ 1]) + data[101:])
    with pytest.raises(StorageError, match="windows"):
        space.night("n2", [article("zh", 5)])


def test_ranges_cover_all_hashes_and_shrink_with_memory():
    for memory in (10**9, 10**7, 10**5):
        found = ranges(10**8, memory)
        assert found[0].low == 0
        assert found[-1].high == ALL.high
        assert all(one.high == other.low for one, other in pairwise(found))
        assert 10**8 / TEXT_BYTES * WINDOW_BYTES / len(found) <= memory


def published(space):
    return {entry.path: entry.sha256 for entry in space.workspace.nights.load("n2").files}


@pytest.mark.parametrize(("workers", "bits"), [(1, 4), (3, 1), (2, 0)])
def test_workers_and_memory_change_no_byte(workers, bits, tmp_path, monkeypatch):
    spaces = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        space = Space(tmp_path / name, cut_passages=True)
        if name == "b":
            space.cfg = replace(space.cfg, run=replace(space.cfg.run, workers=workers))
            step = ALL.high >> bits
            some = [Range(low, low + step) for low in range(0, ALL.high, step)]
            monkeypatch.setattr(stage, "ranges", lambda *_, some=some: some)
        for number, night in enumerate(("n1", "n2")):
            space.night(night, [article(lang, n) for n in range(7 * number, 7 * number + 7) for lang in ("zh", "en")])
        spaces.append(space)
    assert spaces[1].passages("n2")
    assert published(spaces[0]) == published(spaces[1])


def test_a_kill_after_any_unit_changes_no_byte(tmp_path, monkeypatch):
    class KilledError(Exception):
        pass

    commit, kills = Run.commit, []

    def killed(run, key, part):
        commit(run, key, part)
        if run.name == "passages" and (run.night, key) not in kills:
            kills.append((run.night, key))
            raise KilledError

    spaces, texts = [], [article(lang, n) for n in range(7) for lang in ("zh", "en")]
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        spaces.append(Space(tmp_path / name, cut_passages=True))
        if name == "b":
            monkeypatch.setattr(Run, "commit", killed)
        for night, some in (("n1", texts[:4]), ("n2", texts[4:])):
            for _ in range(60):
                with contextlib.suppress(KilledError):
                    spaces[-1].night(night, some)
                    break
    assert {key.partition("-")[0] for _, key in kills} == {"windows", "count", "find"}
    assert spaces[1].passages("n2")
    assert published(spaces[0]) == published(spaces[1])


def test_other_processes_make_units_of_each_pass(tmp_path):
    spaces, helped = [], []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        space = Space(tmp_path / name, cut_passages=True)
        texts = [article(lang, n) for n in range(7) for lang in ("zh", "en")]
        space.night("n1", texts[:4])
        spaces.append(space)

        def others(step, keys, space=space):
            if step == "passages":
                run_share(space.workspace, space.cfg, "n2", step, keys[1:])
                helped.extend(keys[1:])
                yield keys[1:]

        with use_executor(others) if name == "b" else contextlib.nullcontext():
            space.night("n2", texts[4:])
    assert {key.partition("-")[0] for key in helped} >= {"windows", "find"}
    assert spaces[1].passages("n2")
    assert published(spaces[0]) == published(spaces[1])
