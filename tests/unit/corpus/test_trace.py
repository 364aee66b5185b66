"""Where a text comes from: every span stands where it is said to, no longer one is missed, in both languages."""

import json
import random
import shutil
from dataclasses import replace

import pytest
from nights_to_forget import FIRST, SECOND, first_night, prepare, rows, second_night, settings, text, write_raw

from slimpajama.cli import run
from slimpajama.core.errors import InputError, StorageError
from slimpajama.corpus import trace as module
from slimpajama.corpus.index import index_nights
from slimpajama.corpus.trace import trace
from slimpajama.workspace.local import LocalStore
from slimpajama.workspace.open import Workspace

LICENCES = {"zh": "CC-BY-4.0", "en": ""}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """Two nights with their index; no test may change it."""
    folder = tmp_path_factory.mktemp("trace")
    cfg, store = settings(folder), LocalStore(str(folder / "workspace"))
    sources = tuple(replace(one, licence=LICENCES[one.name]) for one in cfg.ingest.sources)
    cfg = replace(cfg, ingest=replace(cfg.ingest, sources=sources))
    for night, texts in ((FIRST, first_night()), (SECOND, second_night())):
        write_raw(folder, night, texts)
        prepare(store, cfg, night)
    index_nights(Workspace(store), cfg)
    return Workspace(store)


@pytest.fixture(scope="module")
def train(workspace):
    """Documents of the training split, by id."""
    found = {}
    for night in (FIRST, SECOND):
        ids = {row["id"] for row in rows(workspace.store, "shards/train", night)}
        found |= {row["id"]: row for row in rows(workspace.store, "documents", night) if row["id"] in ids}
    return found


def times(part, train):
    """Return how often a text stands in the documents; occurrences may overlap."""
    texts = [row["text"] for row in train.values()]
    return sum(one.startswith(part, i) for one in texts for i in range(len(one)))


def check(asked, found, train):
    """Check each span against the documents' texts."""
    stretches = [(span.start, span.end) for span in found.spans]
    lengths = [end - start for start, end in stretches]
    assert lengths == sorted(lengths, reverse=True)
    for span in found.spans:
        part = asked[span.start : span.end]
        assert span.count == times(part, train)
        assert span.documents
        for one in span.documents:
            document = train[one.id]
            assert document["text"][one.place :].startswith(part)
            assert (one.night, one.source, one.uri) == (document["night"], document["source"], document["uri"])
            assert one.licence == LICENCES[one.source]
        for longer in (asked[max(0, span.start - 1) : span.end], asked[span.start : span.end + 1]):
            assert len(longer) == len(part) or not times(longer, train)
        assert not any(
            start <= span.start and span.end <= end
            for start, end in stretches
            if (start, end) != (span.start, span.end)
        )


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("lang", ["zh", "en"])
def test_quotes_that_begin_anywhere_are_found_whole_and_where_they_are(workspace, train, lang, seed):
    draw = random.Random(seed)
    documents = [row for row in train.values() if row["source"] == lang]
    quotes = []
    for _ in range(3):
        whole = draw.choice(documents)["text"]
        begin = draw.randrange(len(whole) - 60)
        quotes.append(whole[begin : begin + draw.randint(25, 60)])
    asked = "@@@".join(["Nothing of it. 此外", *quotes, "Ω"])
    found = trace(workspace, asked)
    check(asked, found, train)
    for quote in quotes:
        begin = asked.index(quote)
        assert any(span.start <= begin and begin + len(quote) <= span.end for span in found.spans)


@pytest.mark.parametrize("lang", ["zh", "en"])
def test_words_of_which_nothing_stands_in_a_row_give_short_spans_only(workspace, train, lang):
    words = list(text(lang, 4).replace(" ", ""))
    random.Random(1).shuffle(words)
    found = trace(workspace, "".join(words))
    check("".join(words), found, train)
    assert all(span.end - span.start < 20 for span in found.spans)


def test_held_out_documents_are_not_found(workspace, train):
    for split in ("validation", "test"):
        for row in rows(workspace.store, f"shards/{split}", FIRST):
            whole = "".join(row["words"])
            assert all(span.end - span.start < len(whole) for span in trace(workspace, whole).spans)


def test_a_span_in_many_documents_tells_some_of_them_and_how_often_it_stands(workspace, train):
    asked = "古代的地图研究人员"
    found = trace(workspace, asked, min_tokens=1, max_documents=2)
    check(asked, found, train)
    assert max(span.count for span in found.spans) > 2
    assert all(len(span.documents) <= 2 for span in found.spans)
    assert all(len({one.id for one in span.documents}) == len(span.documents) for span in found.spans)
    assert trace(workspace, asked, min_tokens=10_000).spans == []


def test_more_occurrences_than_are_looked_at_are_counted(workspace, train, monkeypatch):
    asked, exact = "，古代的地图，", trace(workspace, "，古代的地图，", min_tokens=2)
    monkeypatch.setattr(module, "OCCURRENCES", 3)
    found = trace(workspace, asked, min_tokens=2)
    assert found.spans
    for span in found.spans:
        assert span.count == times(asked[span.start : span.end], train)
    assert max(span.count for span in exact.spans) > 3


@pytest.mark.parametrize("asked", ["", " ", "\x1f", "<|document|>", "\ud800", "😀" * 50, "\x00\x1b[2J"])
def test_any_text_can_be_asked_for(workspace, train, asked):
    check(asked, trace(workspace, asked), train)


def test_offsets_count_characters_beyond_the_basic_plane_and_across_scripts(workspace, train):
    whole = next(row["text"] for row in train.values() if row["source"] == "zh")
    asked = f"😀é{whole[3:60]}😀"
    found = trace(workspace, asked)
    check(asked, found, train)
    assert (found.spans[0].start, found.spans[0].end) == (2, 59)


def test_without_a_night_or_an_index_it_says_what_to_run(tmp_path, workspace):
    with pytest.raises(InputError, match="nothing is published yet"):
        trace(Workspace(LocalStore(str(tmp_path))), "text")


def test_the_command_prints_spans_for_people_and_for_programs(workspace, train, capsys):
    document = next(row for row in train.values() if row["source"] == "zh")
    quote = document["text"][:40]
    assert run(["trace", quote, "--workspace", workspace.uri, "--json"]) == 0
    value = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert value["spans"][0]["start"] == 0
    assert value["spans"][0]["end"] == 40
    assert value["spans"][0]["documents"][0]["id"] == document["id"]
    assert run(["trace", f"{quote}\x1b[2J", "--workspace", workspace.uri]) == 0
    shown = capsys.readouterr().out
    assert quote in shown
    assert "\x1b" not in shown
    assert "CC-BY-4.0" in shown


def test_a_text_that_is_no_utf8_or_is_given_twice_is_refused(workspace, tmp_path, capsys):
    (tmp_path / "bad.txt").write_bytes("今天".encode("gb18030"))
    assert run(["trace", "--text", str(tmp_path / "bad.txt"), "--workspace", workspace.uri]) == 1
    assert "not UTF-8 at byte 0" in capsys.readouterr().err
    assert run(["trace", "x", "--text", str(tmp_path / "bad.txt"), "--workspace", workspace.uri]) == 2
    assert run(["trace", "--workspace", workspace.uri]) == 2


def test_damage_is_an_error_and_never_another_answer(workspace, tmp_path, train):
    copy = LocalStore(str(shutil.copytree(workspace.uri, tmp_path / "copy")))
    path = next(path for path in copy.list(f"nights/{FIRST}/index") if path.endswith(".order.npy"))
    data = bytearray(copy.read(path))
    data[300] ^= 1
    copy.write(path, bytes(data))
    with pytest.raises(StorageError, match="not what its manifest says"):
        trace(Workspace(copy), "今天的天气很好")
    documents = next(path for path in copy.list(f"nights/{SECOND}/documents"))
    copy.delete(documents)
    quote = next(row["text"] for row in train.values() if row["night"] == SECOND)
    with pytest.raises(StorageError):
        trace(Workspace(copy), quote, nights=[SECOND])
    copy.delete(f"nights/{FIRST}/index/manifest.json")
    with pytest.raises(InputError, match=f"{FIRST}.*`slimpajama prepare`"):
        trace(Workspace(copy), "今天的天气很好")
