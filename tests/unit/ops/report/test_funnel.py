import pyarrow as pa

from slimpajama.ops.report.funnel import LEVELS, history_row, night_funnel

COUNTS = {
    "ingest": {"documents": {"zh-news": 8, "en-docs": 4}, "bytes": {"zh-news": 800, "en-docs": 400}},
    "clean": {"documents": {"zh-news": 7, "en-docs": 4}, "bytes": {"zh-news": 700}, "languages": {"zh": 7, "en": 4}},
    "decontaminate": {"removed": {"zh-news": {"evaluation-overlap": 1, "held-out-overlap": 1}}, "bytes": 200},
    "dedup": {"kept": {"zh-news": 2, "en-docs": 4}, "kept_bytes": {"zh-news": 200, "en-docs": 400}},
}
KEPT = pa.table({"source": ["zh-news"] * 2 + ["en-docs"] * 4, "lang": ["zh"] * 2 + ["en"] * 4, "n_bytes": [100] * 6})


def test_contaminated_documents_are_unique_but_not_kept_in_all_and_by_source_and_language():
    funnel = night_funnel(COUNTS, KEPT, {}, {"zh": 2})
    levels = {level["name"]: (level["documents"], level["bytes"]) for level in funnel["levels"]}
    assert list(levels) == list(LEVELS)
    assert (levels["clean"], levels["unique"], levels["kept"]) == ((11, 700), (8, 800), (6, 600))
    assert {row["name"]: row["documents"][2:] for row in funnel["sources"]} == {
        "zh-news": [7, 4, 2],
        "en-docs": [4, 4, 4],
    }
    assert {row["name"]: row["documents"][2:] for row in funnel["languages"]} == {"zh": [7, 4, 2], "en": [4, 4, 4]}
    assert history_row("n", COUNTS)["documents"] == [12, 12, 11, 8, 6]


def test_what_is_too_short_without_passages_is_unique_but_not_kept_and_what_is_cut_is_no_kept_text():
    counts = COUNTS | {"passages": {"removed": {"en-docs": {"repeated-passages": 1}}, "taken": 70}}
    funnel = night_funnel(counts, KEPT, {}, {"zh": 2, "en": 1})
    levels = {level["name"]: (level["documents"], level["bytes"]) for level in funnel["levels"]}
    assert (levels["unique"], levels["kept"]) == ((9, 870), (6, 600))
    assert {row["name"]: row["documents"][2:] for row in funnel["languages"]} == {"zh": [7, 4, 2], "en": [4, 5, 4]}


def test_a_night_of_a_version_without_decontamination_has_all_unique_documents_kept():
    counts = {name: value for name, value in COUNTS.items() if name != "decontaminate"}
    assert [level["documents"] for level in night_funnel(counts, KEPT, {}, {})["levels"]][-2:] == [6, 6]
