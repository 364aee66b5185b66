"""Standard streams that cannot fail a process, limits that are named, and errors of the machine in one line."""

import errno
import json
import os
import subprocess
import sys

import pytest

from slimpajama.core.errors import ConfigError, StorageError
from slimpajama.core.machine import of_machine, require_machine

PRINT = """
import sys
from slimpajama.core.machine import steady_streams
steady_streams()
print({text!r}, flush=True)
sys.stderr.write("message 消息\\n")
"""


def started(script, redirected="", **environment):
    """Run a script by a shell that redirects its streams; return the process."""
    command = ["bash", "-c", f'exec "$0" -c "$1" {redirected}', sys.executable, script]
    return subprocess.run(command, capture_output=True, check=False, env=os.environ | environment)


def cli(*arguments, redirected="", before=""):
    """Run the command line by a shell; return the process."""
    shell = f'{before} "$0" -m slimpajama "$@" {redirected}'
    return subprocess.run(
        ["bash", "-c", shell, sys.executable, *arguments], capture_output=True, check=False, text=True, timeout=60
    )


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("ascii", b"\\u4eca\\U0001f600\\udcff caf\\xe9"),
        ("gbk", b"\xbd\xf1\\U0001f600\\udcff caf\xa8\xa6"),
        ("utf-8", "今😀\\udcff café".encode()),
    ],
)
def test_a_letter_that_a_terminal_lacks_is_spelt_out(encoding, shown):
    done = started(PRINT.format(text="今😀\udcff café"), PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stdout.strip()) == (0, shown)


@pytest.mark.parametrize("stderr", ["2>/dev/full", "2>&-", "2> >(true)"])
def test_what_stderr_does_not_take_is_lost_and_nothing_else(stderr):
    done = started(PRINT.format(text="数据 data"), stderr)
    assert (done.returncode, done.stdout.decode()) == (0, "数据 data\n")


@pytest.mark.parametrize("stdout", [">/dev/full", ">&-", "<&- >&-"])
def test_what_stdout_does_not_take_is_an_error_of_one_kind(stdout):
    done = started(PRINT.format(text="数据 data"), stdout)
    assert done.returncode != 0
    assert "OutputError: stdout: cannot be written" in done.stderr.decode()


def test_no_file_takes_the_number_of_a_stream_that_was_closed(tmp_path):
    script = PRINT.format(text="") + f"file = open({str(tmp_path / 'a')!r}, 'w')\nraise SystemExit(file.fileno())"
    assert started(script.replace("flush=True", ""), "<&- 2>&-").returncode > 2


def test_names_are_utf_8_in_any_locale_and_the_terminal_keeps_its_encoding(tmp_path):
    (tmp_path / "原文").touch()
    script = f"""
import os, sys
from slimpajama.core.machine import use_utf8
use_utf8()
print(os.listdir({str(tmp_path)!r}) == [chr(0x539f) + chr(0x6587)], sys.stdout.encoding, sys.argv)
"""
    done = started(script, LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert done.stdout.decode().split() == ["True", "ascii", "['-c']"], done.stderr


def test_a_full_stdout_fails_a_command_that_only_shows_and_no_other(tmp_path):
    (tmp_path / "in.jsonl").write_text(json.dumps({"text": "今天天气很好"}) + "\n", encoding="utf-8")
    for redirected in (">/dev/full", ">&-"):
        shows = cli("nights", "--workspace", str(tmp_path), redirected=redirected)
        assert (shows.returncode, shows.stderr.count("\n")) == (1, 1), shows.stderr
        assert "slimpajama: stdout: cannot be written" in shows.stderr
        out = tmp_path / redirected.replace("/", "")
        done = cli("dedup", str(tmp_path / "in.jsonl"), "--out", str(out), redirected=redirected)
        assert done.returncode == 0, done.stderr
        assert "stdout: cannot be written" in done.stderr
        assert done.stderr.splitlines()[-1].endswith("has done its work; only its result could not be shown.")
        assert list(out.glob("kept/*.parquet"))
    assert cli("nights", "--workspace", str(tmp_path), redirected="| true; exit ${PIPESTATUS[0]}").stderr == ""


def test_a_working_folder_that_is_gone_and_too_little_address_space_are_named_with_exit_code_2(tmp_path):
    gone = cli("nights", before=f"mkdir {tmp_path}/gone; cd {tmp_path}/gone; rmdir {tmp_path}/gone;")
    assert (gone.returncode, gone.stderr.count("\n")) == (2, 1)
    assert "the working directory cannot be used: No such file or directory" in gone.stderr
    small = cli("nights", before="ulimit -v 300000;")
    assert small.returncode == 2
    assert "ulimit -v: too low a limit of this process: expected 1048576 or more, found 300000" in small.stderr


def test_a_limit_is_compared_in_the_units_of_ulimit(monkeypatch):
    monkeypatch.setattr("resource.getrlimit", lambda which: (64, 64))
    with pytest.raises(ConfigError, match=r"ulimit -n: too low .*: expected 200 or more, found 64"):
        require_machine(RLIMIT_NOFILE=200)
    require_machine(RLIMIT_NOFILE=64)


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "/数据"), 2, "/数据: Permission denied"),
        (OSError(errno.ENOSPC, "No space left on device"), 1, "No space left on device"),
        (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), 1, "Connection reset by peer"),
        (MemoryError(), 2, "not enough memory. Give it more"),
        (RuntimeError("can't start new thread"), 2, "not enough memory: found can't start new thread"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), 2, "not enough memory"),
        (ImportError("libtorch_cpu.so: failed to map segment from shared object"), 2, "not enough memory"),
        (UnicodeEncodeError("utf-8", "a\udcff", 1, 2, "surrogates not allowed"), 2, "no UTF-8: found '\\udcff'"),
    ],
)
def test_an_error_of_the_machine_is_one_line_and_its_code_says_whether_to_change_something(error, code, says):
    known = of_machine(error)
    assert known is not None
    assert says in str(known)
    assert known.exit_code == code


def test_an_error_of_the_workspace_has_the_code_of_what_the_system_said():
    for number, code in ((errno.EROFS, 2), (errno.EFBIG, 2), (errno.EIO, 1)):
        error = StorageError("cannot be written", where="nights/index.json")
        error.__cause__ = OSError(number, os.strerror(number))
        known = of_machine(error)
        assert known is error
        assert known.exit_code == code
    assert StorageError.exit_code == 1


@pytest.mark.parametrize("error", [KeyError("train"), RuntimeError("no such luck"), AssertionError()])
def test_a_defect_of_ours_keeps_its_traceback(error):
    assert of_machine(error) is None
