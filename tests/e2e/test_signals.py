"""How a run ends that is told to: Ctrl-C, SIGTERM, a closed terminal, SIGKILL; and several first runs at once."""

import json
import os
import re
import signal
import subprocess
import sys

import pytest
from servers import ROOT
from small_corpus import write_corpus

sys.path.append(str(ROOT))

from benchmarks.attacks import signals
from slimpajama.workspace.open import open_workspace


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("raw"))


@pytest.mark.parametrize("step", ["clean", "shards", "train"])
def test_ctrl_c_ends_a_step_at_once_with_one_line_and_no_process_is_left(raw, tmp_path, step):
    planned = signals.Try("INT", step)
    assert signals.broken_by(planned, signals.one(tmp_path, raw, planned)) == []
    # The workspace is free again.
    with open_workspace(str(tmp_path / "w")).store.lock("next"):
        pass


@pytest.mark.parametrize("after", [0.3, 3.0])
def test_ctrl_c_ends_a_start_at_once_with_one_line(raw, tmp_path, after):
    planned = signals.Try("INT", "", after)
    assert signals.broken_by(planned, signals.one(tmp_path, raw, planned)) == []


@pytest.mark.parametrize("kind", ["TERM", "HUP", "KILL"])
def test_no_process_is_left_of_a_run_that_is_ended(raw, tmp_path, kind):
    planned = signals.Try(kind, "ingest")
    end = signals.one(tmp_path, raw, planned)
    assert end.code == -signals.SIGNALS[kind]
    assert end.left == []


def test_ctrl_c_gives_a_lease_on_s3_back(raw, tmp_path, s3, s3_uri):
    planned = signals.Try("INT", "ingest")
    assert signals.broken_by(planned, signals.one(tmp_path, raw, planned, workspace=s3_uri)) == []
    with open_workspace(s3_uri).store.lock("next"):
        pass


def test_ctrl_c_ends_a_training_of_several_processes(raw, tmp_path):
    config = raw / "config.toml"
    several = raw / "several" / "config.toml"
    several.parent.mkdir()
    text = re.sub(r"(?m)^tokens = .*", "tokens = 100_000_000\nprocesses = 2", config.read_text(encoding="utf-8"))
    several.write_text(text.replace('uri = "', 'uri = "../'), encoding="utf-8")
    # The processes have begun by then, or are about to.
    planned = signals.Try("INT", "", 8.0, "2 processes")
    end = signals.one(tmp_path, several.parent, planned)
    assert signals.broken_by(planned, end) == []
    assert end.code == signals.INTERRUPTED


def test_code_that_does_not_listen_is_ended_all_the_same():
    """A C function that computes lets no handler run until it returns."""
    program = """
import ctypes, os, signal, sys
from slimpajama.core import stopping
stopping.GRACE_S = 0.5
with stopping.ends_on_ctrl_c():
    print("there", flush=True)
    while True:
        try:
            ctypes.CDLL(None).sleep(60)
        except KeyboardInterrupt:
            pass
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdout.readline() == "there\n"
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 130
    assert said.strip() == "slimpajama: stopped; run again to go on"


def test_ctrl_c_that_a_library_takes_for_an_error_of_its_own_is_still_ctrl_c():
    program = """
import time
from slimpajama.core import stopping
with stopping.ends_on_ctrl_c():
    try:
        print("there", flush=True)
        time.sleep(60)
    except KeyboardInterrupt as error:
        raise ValueError("cannot be built") from error
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdout.readline() == "there\n"
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert (process.returncode, said) == (130, "slimpajama: stopped; run again to go on\n")


def test_a_system_call_that_polars_would_let_begin_again_is_ended():
    program = """
import subprocess
from slimpajama.core import stopping
stopping.GRACE_S = 30
with stopping.ends_on_ctrl_c():
    import polars
    polars.DataFrame({"a": [1]}).lazy().select(polars.col("a") + 1).collect()
    with subprocess.Popen(["sleep", "60"]) as child:
        try:
            print("there", flush=True)
            child.wait()
        except KeyboardInterrupt:
            child.kill()
            print("stopped by hand", flush=True)
"""
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout.readline() == "there\n"
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=20)
    assert said == "stopped by hand\n"


def test_several_first_runs_at_once_share_a_new_home_of_prefect(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
    environment |= {"PREFECT_HOME": str(tmp_path / "home")}
    runs = [
        subprocess.Popen(
            [sys.executable, "-m", "slimpajama", "clean-up", "--json", "--workspace", tmp_path / f"w{number}"],
            env=environment,
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(3)
    ]
    for run in runs:
        said, problem = run.communicate(timeout=600)
        assert run.returncode == 0, problem
        assert json.loads(said)["runs"] == 0


@pytest.mark.parametrize("named_by", ["a file", "a variable"])
def test_a_server_that_is_gone_troubles_a_run_only_where_a_variable_names_it(tmp_path, named_by):
    gone = "http://127.0.0.1:9/api"
    (tmp_path / "prefect.toml").write_text(f'[api]\nurl = "{gone}"\nauth_string = "a:b"\n')
    environment = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
    environment |= {"PREFECT_HOME": str(tmp_path / "home")}
    environment |= {"PREFECT_API_URL": gone} if named_by == "a variable" else {}
    done = subprocess.run(
        [sys.executable, "-m", "slimpajama", "clean-up", "--workspace", tmp_path / "w"],
        env=environment,
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert "Traceback" not in done.stderr
    assert f"Prefect's server does not answer at {gone}: this run brings its own" in done.stderr or (
        f"{gone}: Prefect's server does not answer" in done.stderr
    )
    assert done.returncode == (1 if named_by == "a variable" else 0)
