"""What kernels share: code points, hash tables, and a cache that notices changes of other files."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import slimpajama
from slimpajama.text.kernels import _CacheFile, decode, find_slot

CALLER = """
from callee import added
from slimpajama.text.kernels import compiled

@compiled
def twice(n):
    return 2 * added(n)

print(twice(5))
"""
CALLEE = """
from slimpajama.text.kernels import compiled

@compiled
def added(n):
    return n + {}
"""


@pytest.mark.parametrize("char", ["a", "é", "中", "😀", "\x7f", "\u0800", "\U0010ffff"])
def test_a_character_is_read_with_its_length(char):
    data = np.frombuffer(char.encode(), np.uint8)
    assert decode(data, 0) == (ord(char), len(data))


def test_a_key_is_found_where_it_was_put_and_others_end_at_a_free_slot():
    keys = np.zeros(16, np.uint64)
    for key in np.arange(1, 13, dtype=np.uint64):
        slot = find_slot(keys, key)
        assert keys[slot] == 0
        keys[slot] = key
    assert [int(keys[find_slot(keys, np.uint64(key))]) for key in range(1, 14)] == [*range(1, 13), 0]


def test_a_kernel_is_compiled_again_when_one_that_it_calls_changes(tmp_path):
    found = []
    (tmp_path / "caller.py").write_text(CALLER)
    for more in (1, 1, 20):
        (tmp_path / "callee.py").write_text(CALLEE.format(more))
        done = subprocess.run(
            [sys.executable, "-B", "caller.py"], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        found.append(int(done.stdout))
    assert found == [12, 12, 50]
    assert list((tmp_path / "__pycache__").glob("*.nbi"))


def test_every_kernel_is_compiled_in_one_way():
    root = Path(slimpajama.__file__).parent
    found = [path for path in root.rglob("*.py") if "njit(" in path.read_text(encoding="utf-8")]
    assert found == [root / "text/kernels.py"]


def test_processes_that_compile_for_different_types_at_once_do_not_run_each_other_s_code(tmp_path, monkeypatch):
    first, second, later = (_CacheFile(str(tmp_path), "kernel", "stamp") for _ in range(3))
    before, save = second._load_index(), first._save_data
    monkeypatch.setattr(second, "_load_index", lambda: before)

    def save_after_the_other(name, data):
        second.save("for integers", "code for integers")
        save(name, data)

    monkeypatch.setattr(first, "_save_data", save_after_the_other)
    first.save("for floats", "code for floats")
    assert later.load("for floats") == "code for floats"
    assert later.load("for integers") in (None, "code for integers")


ALONE = """
from slimpajama.text.kernels import compiled

@compiled
def twice(n):
    return 2 * n

print(twice(6))
"""


def test_a_cache_that_cannot_be_used_costs_only_time(tmp_path):
    """Neither folder nor file of it: they are written with `ulimit -f`, or damaged, as after a loss of power."""
    (tmp_path / "alone.py").write_text(ALONE)

    def run(before="", **environment):
        command = ["bash", "-c", f'{before} exec "$0" -B alone.py', sys.executable]
        done = subprocess.run(
            command, cwd=tmp_path, env=os.environ | environment, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout) == (0, "12\n"), done.stderr
        return done.stderr

    nowhere = {"NUMBA_CACHE_LOCATOR_CLASSES": "UserProvidedCacheLocator", "NUMBA_CACHE_DIR": ""}
    assert run(**nowhere).count("set NUMBA_CACHE_DIR to a folder") == 1
    assert "set NUMBA_CACHE_DIR" in run("ulimit -f 0;")
    assert run() == ""
    for path in (tmp_path / "__pycache__").glob("alone*"):
        path.write_bytes(path.read_bytes()[:20])
        assert run() == ""
        assert path.stat().st_size > 20
