"""Progress: one line a stage where stderr is no terminal, figures for the log, nothing on stdout."""

import contextlib
import os
import pty
import re
import subprocess
import sys
import threading
import time

import pytest

from slimpajama.core.logs import LineHandler, labels, logged_to, step_log
from slimpajama.core.progress import Bar, Live, Sink, also_to, report_to, timings, track


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


def test_on_a_terminal_a_message_stands_above_the_bar_and_the_bar_says_how_it_ended():
    program = """
from slimpajama.core.console import console
from slimpajama.core.logs import step_log
from slimpajama.core.progress import track
with console(), track("ingest", total=3) as bar:
    step_log("compare").info("a [bold]message[/bold]")
    bar.advance(3)
"""
    leader, follower = pty.openpty()
    with subprocess.Popen([sys.executable, "-c", program], stderr=follower, env=os.environ | {"COLUMNS": "120"}) as run:
        os.close(follower)
        shown = b""
        # The end of a terminal is an error on Linux.
        with contextlib.suppress(OSError):
            while data := os.read(leader, 4096):
                shown += data
    os.close(leader)
    assert run.returncode == 0
    lines = re.sub(r"\x1b\[[\d;?]*\w", "", shown.decode()).replace("\r", "\n").split("\n")
    message = lines.index("compare       a [bold]message[/bold]")
    bars = [number for number, line in enumerate(lines) if line.startswith("ingest")]
    assert bars[-1] > message
    assert "3 documents" in lines[bars[-1]]
    assert not any("documents in" in line for line in lines)
