"""Markdown pieces show corpus text as it is: no structure, no HTML, nothing hidden."""

from __future__ import annotations

import base64
import re
from typing import Any

from slimpajama.ops.report.artifacts import artifacts, descriptions

Reports = dict[str, dict[str, Any]]


def test_every_table_row_has_as_many_cells_as_its_head(reports: Reports) -> None:
    for report in reports.values():
        for text in artifacts(report, "/w").values():
            for table in re.findall(r"(?:^\|.*\n?)+", text, re.MULTILINE):
                widths = {line.count("|") for line in table.strip().split("\n")}
                assert len(widths) == 1


def test_hostile_text_makes_no_element_but_our_own(reports: Reports) -> None:
    ours = re.compile(
        r'</?(table|tr|b)>|<br>|</t[hd]>|<t[hd] align="left" valign="top" colspan="[123]">'
        r'|<img alt="loss curve" src="data:image/svg\+xml;base64,[\w+/=]+">'
    )
    made = artifacts(reports["2026-01-02"], "/w")
    assert set(made) == {
        "verdict",
        "problems",
        "funnel",
        "removed",
        "duplicates",
        "training",
        "samples",
        "applications",
        "flow",
    }
    assert not re.search(r"<|!\[", "".join(ours.sub("", text) for name, text in made.items() if name != "flow"))
    assert "javascript:" not in "".join(made.values())


def test_differences_of_duplicates_are_bold_and_keep_the_blanks_around_them(reports: Reports) -> None:
    (pair, *_) = reports["2026-01-02"]["duplicates"]["pairs"]
    sides = {
        "kept": pair["kept"]
        | {"segments": [{"text": "今天 ", "differs": False}, {"text": "<b>下雪", "differs": True}]},
        "removed": pair["removed"] | {"segments": [{"text": "the end", "differs": False}]},
    }
    report = reports["2026-01-02"] | {"duplicates": reports["2026-01-02"]["duplicates"] | {"pairs": [pair | sides]}}
    text = artifacts(report, "/w")["duplicates"]
    assert "<br>今天 <b>＜b＞下雪</b></td>" in text
    assert "<br>the end</td>" in text


def test_every_piece_ends_with_the_file_that_it_was_made_of(reports: Reports) -> None:
    for uri, target in (("/数据/a b_c", "file:///%E6%95%B0%E6%8D%AE/a%20b_c"), ("s3://b/p", "s3://b/p")):
        made = artifacts(reports["2026-01-02"], uri)
        path = "reports/2026-01-02/report.html"
        assert made["verdict"].endswith(f"[report.html]({target}/{path}) `{uri}/{path}`\n")
        assert all(text.rstrip().endswith("`") for text in made.values())


def test_what_was_restored_and_how_much_natural_text_repeats_is_said(reports: Reports) -> None:
    made = artifacts(reports["2026-01-02"], "/w")
    assert "| zh, tokens | 99.70 % | 99.70 % |" in made["verdict"]
    assert "| zh, whole documents | 25.00 % | 25.00 % |" in made["verdict"]
    assert "Held-out text of the same length repeats itself by en 3.1 %, zh 1.2 %." in made["samples"]


def test_only_unusual_measures_are_listed(reports: Reports) -> None:
    usual = {
        "measure": "bytes a kept document",
        "tonight": 3.0,
        "median": 3.0,
        "low": 2.9,
        "high": 3.1,
        "unusual": False,
    }
    report = reports["2026-01-02"] | {"drift": [usual | {"measure": "kept of <b>", "unusual": True}, usual]}
    funnel = artifacts(report, "/w")["funnel"]
    assert "1 unusual" in funnel
    assert "| ⚠ kept of ＜b＞ | 3.000 | 3.000 | 2.900 | 3.100 |" in funnel
    assert "bytes a kept document" not in funnel
    assert "nothing unusual" in artifacts(report | {"drift": [usual]}, "/w")["funnel"]
    assert "too few" in artifacts(report | {"drift": []}, "/w")["funnel"]


def test_the_loss_curve_is_an_image_within_the_text(reports: Reports) -> None:
    text = artifacts(reports["2026-01-02"], "/w")["training"]
    data = re.search(r'src="data:image/svg\+xml;base64,([^"]+)"', text)
    assert data is not None
    assert base64.b64decode(data[1]).startswith(b"<svg")


def test_a_night_without_training_has_the_pieces_that_it_can_have(reports: Reports) -> None:
    made = artifacts(reports["2026-01-03"], "/w")
    assert set(made) == {"verdict", "funnel", "removed", "duplicates", "flow"}
    assert "nothing trained" in made["verdict"]


def test_names_of_pieces_can_stand_in_artifact_keys(reports: Reports) -> None:
    names = artifacts(reports["2026-01-02"], "/w")
    assert all(re.fullmatch(r"[a-z0-9-]+", name) for name in names)


def test_each_piece_has_a_finding_and_none_a_path_or_markup(reports: Reports) -> None:
    for report in reports.values():
        found = descriptions(report)
        assert set(artifacts(report, "/w")) <= set(found)
        assert not re.search(r"/w|[<>`\[\]\n]", "".join(found.values()))
    found = descriptions(reports["2026-01-02"])
    levels = reports["2026-01-02"]["funnel"]["levels"]
    assert found["funnel"].startswith(f"{levels[-1]['documents']} of {levels[0]['documents']} documents kept, ")
    assert found["verdict"].startswith("new champion: ")
    assert "tokens in" in found["training"]
    assert "translation" in found["applications"]
    most = max(reports["2026-01-02"]["rules"], key=lambda rule: rule["documents"])
    assert f"most by {most['rule']} ({most['documents']})" in found["removed"]
