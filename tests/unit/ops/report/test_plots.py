"""Figures are the same bytes every time, hold nothing active, and take any data."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from xml.etree import ElementTree

from slimpajama.ops.report.plots import length_histogram, loss_curve

CURVE = [
    {"step": n, "tokens": 1000 * n, "total": 9.0 / n, "continue": 8.0 / n, "restore": 1.0 / n} for n in range(1, 30)
]
VALIDATION = [{"step": n, "tokens": 1000 * n, "zh": 3.0 - n / 50, "en": 2.9 - n / 50} for n in (10, 20)]
EDGES = [100.0, 200.0, 400.0, 800.0]


def test_the_same_data_gives_the_same_bytes_in_another_process() -> None:
    counts = {"zh": [1, 2, 3], "en": [3, 2, 1]}
    program = (
        "from slimpajama.ops.report.plots import length_histogram, loss_curve\n"
        f"print(loss_curve({CURVE}, {VALIDATION}) + length_histogram({EDGES}, {counts}))"
    )
    environment = os.environ | {"PYTHONHASHSEED": "1"}
    there = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, check=True).stdout
    assert there.decode() == loss_curve(CURVE, VALIDATION) + length_histogram(EDGES, counts) + "\n"


def test_a_figure_is_one_svg_element_without_metadata_date_or_script() -> None:
    for svg in (loss_curve(CURVE, VALIDATION), length_histogram(EDGES, {"zh": [1, 0, 2]})):
        root = ElementTree.fromstring(svg)
        tags = {element.tag.split("}")[1] for element in root.iter()}
        assert root.tag.endswith("}svg")
        assert not tags & {"metadata", "script", "image", "style", "a", "foreignObject"}


def test_ids_of_two_figures_do_not_meet_and_every_reference_has_its_target() -> None:
    pages = [loss_curve(CURVE, VALIDATION), length_histogram(EDGES, {"zh": [1, 0, 2]})]
    ids = [set(re.findall(r'\sid="([^"]+)"', svg)) for svg in pages]
    references = [set(re.findall(r'(?:url\(#|href="#)([^)"]+)', svg)) for svg in pages]
    assert not ids[0] & ids[1]
    assert references[0] <= ids[0]
    assert references[1] <= ids[1]


def test_every_loss_but_the_total_and_every_language_has_its_line() -> None:
    svg = loss_curve(CURVE, VALIDATION)
    assert all(f">{name}</text>" in svg for name in ("continue", "restore", "zh", "en"))
    assert ">total</text>" not in svg


def test_many_languages_are_pooled_after_the_four_largest() -> None:
    svg = length_histogram(EDGES, {f"l{n}": [n, n, n] for n in range(1, 8)})
    names = re.findall(r">(l\d|other)</text>", svg)
    assert names == ["l7", "l6", "l5", "l4", "other"]


def test_a_hostile_language_name_does_not_leave_its_text_element() -> None:
    svg = length_histogram(EDGES, {"</text><script>": [1, 1, 1]})
    assert "script" not in {element.tag.split("}")[1] for element in ElementTree.fromstring(svg).iter()}


def test_a_run_without_validation_and_one_with_a_single_point_are_drawn() -> None:
    assert loss_curve(CURVE[:1], []).startswith("<svg")
    assert loss_curve([], []).startswith("<svg")
