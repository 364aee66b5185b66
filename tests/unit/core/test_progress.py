"""Progress: one line a stage where stderr is no terminal, figures for the log, nothing on stdout."""

import contextlib
import logging
import os
import pty
import re
import subprocess
import sys
import threading
import time

import pytest

from slimpajama.core import stopping
from slimpajama.core.logs import LineHandler, labels, logged_to, step_log
from slimpajama.core.progress import Bar, Live, Sink, also_to, numbered, report_to, stage, timings, track


def collected():
    said = []
    return said, LineHandler(said.append)


def test_a_finished_stage_is_one_line_with_amount_and_rate():
    said, handler = collected()
    with logged_to(handler), track("clean", total=2e6, unit="B") as bar:
        bar.advance(1.5e6)
        bar.advance(0.5e6, note="loss 1.5")
    (line,) = said
    assert line.startswith("clean")
    assert "2.0 MB in" in line
    assert "MB/s" in line
    assert line.endswith("loss 1.5")


def running_for(seconds, bar):
    bar._began -= seconds
    return bar


def test_a_running_stage_tells_amount_rate_and_time_left():
    bar = running_for(10, Bar("train", total=120_000, unit="tokens", done=60_000, note="loss 0.7"))
    assert bar.describe() == "60,000 tokens of 120,000 tokens, 6,000 tokens/s, 0:00:10 left, loss 0.7"


def test_what_an_earlier_run_did_does_not_make_this_one_look_fast():
    bar = running_for(10, Bar("train", total=100, unit="tokens", done=90, before=60))
    assert bar.describe() == "90 tokens of 100 tokens, 3.0 tokens/s, 0:00:03 left"


def test_before_the_first_unit_and_without_a_total_nothing_is_foretold():
    assert running_for(10, Bar("clean", total=2e6, unit="B")).describe() == "0.0 kB of 2.0 MB"
    assert running_for(2, Bar("tokenizer", total=0, unit="pieces", done=5)).describe() == "5 pieces, 2.5 pieces/s"


def test_a_long_stage_is_shown_now_and_then_and_at_its_end_and_a_short_one_never():
    seen = []
    with report_to(Live(lambda bar: seen.append((bar.name, bar.done)), every_s=0.05)):
        with track("short"):
            pass
        with track("long", total=3) as bar:
            for _ in range(3):
                time.sleep(0.1)
                bar.advance()
    assert len(seen) > 2
    assert {name for name, _ in seen} == {"long"}
    assert seen[-1] == ("long", 3)


def test_a_stage_that_fails_is_still_timed():
    before = len(timings)
    try:
        with track("broken"):
            raise ValueError
    except ValueError:
        pass
    assert timings[before]["name"] == "broken"


def test_a_bar_counts_right_from_several_threads():
    with track("threads") as bar:
        workers = [threading.Thread(target=lambda: [bar.advance() for _ in range(1000)]) for _ in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    assert bar.done == 4000


def test_a_flow_inside_a_flow_reports_once():
    outer, outer_handler = collected()
    inner, inner_handler = collected()
    with also_to(outer_handler), also_to(inner_handler):
        step_log("train").info("once")
    assert outer == ["train         once"]
    assert inner == []


def test_without_a_terminal_only_plain_lines_reach_stderr():
    program = (
        "from slimpajama.core.console import console\nfrom slimpajama.core.progress import track\n"
        "with console():\n with track('ingest') as bar:\n  bar.advance(3)\nprint('data')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "data\n"
    assert done.stderr.splitlines()[0].startswith("ingest")
    assert "\x1b" not in done.stderr


def test_what_an_earlier_run_did_counts_for_no_rate():
    said, handler = collected()
    with logged_to(handler), track("train", total=2e9, unit="tokens") as bar:
        bar.resume(1e9)
        time.sleep(0.01)
    assert "1,000,000,000 tokens in" in said[0]
    assert said[0].endswith("  0 tokens/s")


def test_observers_are_opened_and_closed_once_with_the_error_that_ended_the_run():
    heard = []

    class Listener(Sink):
        def open(self):
            heard.append("open")

        def close(self, error):
            heard.append(error)

    def run():
        with also_to(Listener(), night="n1"), also_to(Listener(), night="n2"):
            heard.append(dict(labels))
            raise broken

    broken = ValueError("坏了 broken")
    with pytest.raises(ValueError, match="broken"):
        run()
    assert heard == ["open", {"night": "n1"}, broken]
    assert labels == {}


def on_terminal(program, columns):
    """Return the lines that a program writes to a terminal of that width, escapes left out."""
    leader, follower = pty.openpty()
    environment = os.environ | {"COLUMNS": str(columns)}
    with subprocess.Popen([sys.executable, "-c", program], stderr=follower, env=environment) as run:
        os.close(follower)
        shown = b""
        # The end of a terminal is an error on Linux.
        with contextlib.suppress(OSError):
            while data := os.read(leader, 4096):
                shown += data
    os.close(leader)
    assert run.returncode == 0
    return re.sub(r"\x1b\[[\d;?]*\w", "", shown.decode()).replace("\r", "\n").split("\n")


def test_on_a_terminal_messages_stand_above_and_each_stage_leaves_one_line():
    program = """
from slimpajama.core.console import console
from slimpajama.core import stopping
from slimpajama.core.logs import step_log
from slimpajama.core.progress import track, stage, numbered
with console(), numbered(["ingest", "compare"]), stage("compare"):
    for _ in range(3):
        with track("compare", total=3, unit="pairs") as bar:
            step_log("compare").info("a [bold]message[/bold]")
            bar.advance(3)
"""
    lines = on_terminal(program, 120)
    assert lines.count("compare       a [bold]message[/bold]") == 3
    (told,) = (number for number, line in enumerate(lines) if "9 pairs in" in line)
    assert "2 of 2" in lines[told]
    assert not any(line.startswith("compare") for line in lines[told + 1 :])


def test_at_80_columns_the_time_left_is_what_stays():
    program = """
import time
from slimpajama.core.console import console
from slimpajama.core.progress import track, stage, numbered
with console(), numbered([*map(str, range(14)), "decontaminate"]), stage("decontaminate"):
    with track("decontaminate", total=9_000_000_000, unit="tokens") as bar:
        bar._began -= 5000
        bar.advance(6_000_000_000, note="损失 loss 0.770, 高 a long note that no terminal of this width has room for")
        time.sleep(0.3)
"""
    shown = [line for line in on_terminal(program, 80) if "left" in line]
    assert shown
    assert all("stage 15 of 15" in line and re.search(r"0:41:\d\d left", line) for line in shown)


def test_the_parts_of_a_stage_are_one_line_and_a_line_each_at_the_debug_level():
    lines = {level: [] for level in (logging.INFO, logging.DEBUG)}
    handlers = [LineHandler(lines[level].append, level=level) for level in lines]
    with logged_to(*handlers), numbered(["clean", "compare"]), stage("compare"):
        for unit in ("parts", "pairs", "pairs"):
            with track("compare", unit=unit) as bar:
                bar.advance(2)
    (line,) = lines[logging.INFO]
    assert line.startswith("compare       2 parts, 4 pairs in")
    assert line.endswith("s  2 of 2")
    assert len(lines[logging.DEBUG]) == 4


def test_a_stage_that_an_earlier_run_finished_says_so_and_one_without_work_says_nothing():
    said, handler = collected()
    with logged_to(handler):
        with stage("clean") as one:
            one.skipped = True
        with stage("gate"):
            pass
    assert said == ["clean         finished before, skipped"]


@pytest.mark.parametrize("planned", [["ingest", "清洗 clean"], []])
def test_ctrl_c_says_where_what_is_kept_and_how_to_go_on(planned, monkeypatch):
    monkeypatch.setattr(stopping, "_at", stopping.AGAIN)
    with contextlib.suppress(ValueError), stage("ingest"):
        raise ValueError
    assert stopping.stopped() == "stopped; run again to go on"
    with numbered(["ingest"]):
        with stage("ingest"):
            pass
        assert stopping.stopped() == "stopped: finished stages are kept; the same command goes on there"
    with contextlib.suppress(KeyboardInterrupt), numbered(planned), stage("清洗 clean"):
        raise KeyboardInterrupt
    place = ", stage 2 of 2" if planned else ""
    kept = "what it has finished and the stages before are kept; the same command goes on there"
    assert stopping.stopped() == f"stopped in 清洗 clean{place}: {kept}"
    with contextlib.suppress(KeyboardInterrupt), track("verify"):
        raise KeyboardInterrupt
    assert stopping.stopped() == "stopped in verify; run again"
