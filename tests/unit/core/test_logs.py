"""Logs as JSON: one object a line whatever a text holds, with the night and the progress beside it."""

from __future__ import annotations

import contextlib
import json
import logging
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from slimpajama.core import console
from slimpajama.core.console import JsonLines
from slimpajama.core.logs import LineHandler, fields, logged_to, step_log
from slimpajama.core.progress import Sink, also_to, report_to, track


@contextlib.contextmanager
def json_to(write: Callable[[str], None]) -> Iterator[None]:
    lines = JsonLines(write)
    with logged_to(lines.handler), report_to(lines):
        yield


HOSTILE = '标题 title\n{"level": "error"}\r\u2028\u2029\x85\x9b31m\x1b]0;x\x07\ud800"'


def test_a_text_is_one_line_that_reads_back_in_both_languages():
    written: list[str] = []
    with json_to(written.append), also_to(Sink(), workspace="工作区\n", night="2026-01-01"):
        step_log("clean").warning(HOSTILE)
    (line,) = written
    assert line.isascii()
    assert line.isprintable()
    record = json.loads(line)
    assert record["message"] == " ".join(HOSTILE.split())
    assert {key: record[key] for key in ("level", "stage", "workspace", "night")} == {
        "level": "warning",
        "stage": "clean",
        "workspace": "工作区\n",
        "night": "2026-01-01",
    }
    assert record["time"].endswith("+00:00")


def test_work_that_takes_long_tells_how_far_it_is(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(console, "EVERY_S", 0.0)
    written: list[str] = []
    with json_to(written.append), track("train", total=30, unit="tokens") as bar:
        time.sleep(0.01)
        bar.advance(10, "loss 2.5")
        bar.advance(20)
    first, _, last = (json.loads(line) for line in written)
    assert (first["done"], first["total"], first["unit"], first["message"]) == (10, 30, "tokens", "loss 2.5")
    assert first["rate"] > 0
    assert first["eta_s"] >= 0
    assert last["done"] == 30
    assert last["message"].startswith("30 tokens in")
    assert "night" not in first


def test_without_a_total_there_is_no_time_left():
    written: list[str] = []
    with json_to(written.append), track("tokenizer", unit="pieces"):
        pass
    assert json.loads(written[0])["eta_s"] is None


def test_a_run_log_gets_the_same_fields_when_the_work_is_done():
    found: list[logging.LogRecord] = []
    handler = LineHandler(lambda line: None)
    handler.addFilter(lambda record: not found.append(record))
    with logged_to(handler), track("clean", total=5, unit="B") as bar:
        bar.advance(5)
    (record,) = found
    assert record.levelname == "INFO"
    assert "0.0 kB in" in record.getMessage()
    assert set(fields(record)) == {"stage", "done", "total", "unit", "rate", "eta_s"}


@pytest.mark.parametrize("form", ["json", "text"])
def test_an_error_of_the_command_line_has_the_form_of_its_other_messages(form: str, tmp_path: Path):
    command = ["train", "--workspace", str(tmp_path / "空"), "--set", f"observe.logs={form}"]
    program = [sys.executable, "-m", "slimpajama", "verify", *command[1:3], "--config", str(tmp_path / "c.toml")]
    (tmp_path / "c.toml").write_text(f'[observe]\nlogs = "{form}"\n', encoding="utf-8")
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    text = json.loads(line)["message"] if form == "json" else line.removeprefix("slimpajama: ")
    assert text.startswith(f"{tmp_path / '空'}: no such workspace")
