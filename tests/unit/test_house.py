"""The house itself: names that would shadow other modules, pages that would go stale, a command line that is quick."""

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest

from slimpajama.config_docs import render

ROOT = Path(__file__).resolve().parents[2]


def test_no_module_of_flows_or_tasks_is_named_like_another_module():
    """A file-path entrypoint puts its folder first on sys.path: flows/tokenize.py would hide the standard library's."""
    taken = set(sys.stdlib_module_names) | {name.lower() for name in importlib.metadata.packages_distributions()}
    taken -= {"flows", "tasks", "slimpajama"}
    names = {path.stem for folder in ("flows", "tasks") for path in (ROOT / folder).glob("*.py")} - {"__init__"}
    assert names.isdisjoint(taken)


def test_the_page_of_settings_is_what_the_classes_say():
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert page == render(), "run: python -m slimpajama.config_docs > docs/configuration.md"


def test_help_imports_nothing_heavy():
    """Half a second is promised; what costs more than that is one of these imports."""
    heavy = ("torch", "prefect", "polars", "pyarrow", "numba")
    program = f"import sys, slimpajama.cli; print(*(m for m in {heavy} if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize("name", ["run", "prepare", "train", "evaluate", "generate", "serve", "dedup", "score",
                                  "reconstruct", "explain", "nights", "models", "verify", "demo-corpus", "lm-eval",
                                  "export"])  # fmt: skip
def test_every_command_has_help_with_an_example(name):
    done = subprocess.run(
        [sys.executable, "-m", "slimpajama", name, "--help"], capture_output=True, text=True, check=True
    )
    assert "Example: slimpajama" in done.stdout


def test_no_pickle_anywhere():
    for folder in ("slimpajama", "tasks", "flows"):
        for path in (ROOT / folder).rglob("*.py"):
            source = path.read_text(encoding="utf-8")
            assert "import pickle" not in source, path
            assert "torch.load(" not in source, path


def test_no_file_of_the_project_is_over_a_megabyte():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    for name in filter(None, listed.decode().split("\0")):
        assert (ROOT / name).stat().st_size <= 1_000_000, name
