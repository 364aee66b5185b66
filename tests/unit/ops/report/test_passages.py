"""The report counts a night's repeated passages and quotes the most frequent ones, whatever they say."""

import pytest

from slimpajama.core.page import Page, html
from slimpajama.core.schema import PASSAGES
from slimpajama.ops.report.passages import SHOWN, passages, repeated_passages
from slimpajama.workspace.local import LocalStore
from slimpajama.workspace.manifest import Manifest, entry_of
from slimpajama.workspace.parquet import parquet_bytes

HOSTILE = "<script>alert(1)</script> 责任编辑：某某"
NOTHING = {"passages": {}, "documents": {}, "bytes": {}, "taken": 0, "removed": {}}


def row(number, key, documents, text, *, cut=True):
    known = {"id": f"{number:032x}", "source": "web", "lang": "zh", "begin": 0, "end": len(text), "n_bytes": len(text)}
    return known | {"key": key, "documents": documents, "cut": cut, "other": "", "other_night": "n", "text": text}


def night(tmp_path, rows, counts, *, stages=True):
    import pyarrow as pa

    store, data = LocalStore(str(tmp_path)), parquet_bytes(pa.Table.from_pylist(rows, PASSAGES))
    store.write("nights/n/passages/part.parquet", data)
    made = {"passages": {"windows": {"tokens": 50}, "documents": 5}} if stages else {}
    manifest = Manifest("night", "", (), {"passages": counts}, {"stages": made})
    entries = [entry_of("nights/n/passages/part.parquet", data, len(rows))] if rows else []
    return repeated_passages(store, entries, manifest)


def shown(found):
    report = {"passages": found, "funnel": {"levels": [{"bytes": 1000}] * 5}}
    return html(Page("Night n", "", "", "", [], [passages(report)], "0"))


@pytest.fixture
def found(tmp_path):
    rows = [row(n, 7, 9, HOSTILE, cut=n > 0) for n in range(3)] + [row(9, 8, 30, "页脚 " * 30)]
    rows += [row(100 + n, 100 + n, 5, f"line {n}") for n in range(2 * SHOWN)]
    counts = {
        "passages": {"web": len(rows)},
        "documents": {"web": 4},
        "bytes": {"web": 250},
        "taken": 99,
        "removed": {},
    }
    return night(tmp_path, rows, counts)


def test_the_most_frequent_passages_come_first_with_what_became_of_them(found):
    first, second, *rest = found["most"]
    assert (first["documents"], first["here"], first["cut"]) == (30, 1, 1)
    assert (second["documents"], second["here"], second["cut"], second["id"]) == (9, 3, 2, "0" * 32)
    assert len(rest) == SHOWN - 2
    assert (found["passages"], found["documents"], found["bytes"], found["taken"]) == (28, 4, 250, 99)
    assert found["cut"] == 27


def test_what_a_passage_says_is_shown_and_never_runs(found):
    page = shown(found)
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "25.0 % of the text" in page


def test_a_night_without_passages_and_one_of_an_earlier_version_say_so(tmp_path):
    assert "There are none." in shown(night(tmp_path, [], NOTHING))
    assert night(tmp_path, [], NOTHING, stages=False) is None
    assert "Repeated passages" not in shown(None)
