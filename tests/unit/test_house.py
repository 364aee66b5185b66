"""The house itself: names that would shadow other modules, pages that would go stale, a command line that is quick."""

import ast
import importlib.metadata
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from slimpajama.core.config_docs import render

ROOT = Path(__file__).resolve().parents[2]


def test_no_module_of_flows_or_tasks_is_named_like_another_module():
    """A file-path entrypoint puts its folder first on sys.path: flows/tokenize.py would hide the standard library's."""
    taken = set(sys.stdlib_module_names) | {name.lower() for name in importlib.metadata.packages_distributions()}
    taken -= {"flows", "tasks", "slimpajama"}
    names = {path.stem for folder in ("flows", "tasks") for path in (ROOT / folder).glob("*.py")} - {"__init__"}
    assert names.isdisjoint(taken)


def test_the_page_of_settings_is_what_the_classes_say():
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert page == render(), "run: python -m slimpajama.core.config_docs > docs/configuration.md"


def test_help_imports_nothing_heavy():
    """Half a second is promised; what costs more than that is one of these imports."""
    heavy = ("torch", "prefect", "polars", "pyarrow", "numba")
    program = f"import sys, slimpajama.cli; print(*(m for m in {heavy} if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize(
    "name",
    [
        "run",
        "prepare",
        "train",
        "evaluate",
        "generate",
        "serve",
        "dedup",
        "score",
        "reconstruct",
        "explain",
        "nights",
        "models",
        "verify",
        "demo-corpus",
        "lm-eval",
        "export",
    ],
)
def test_every_command_has_help_with_an_example(name):
    done = subprocess.run(
        [sys.executable, "-m", "slimpajama", name, "--help"], capture_output=True, text=True, check=True
    )
    assert "Example: slimpajama" in done.stdout


def called(source: str) -> Iterator[tuple[str, ast.Call]]:
    """Yield every call of a source file by its dotted name."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


# A command is a list.
TEXTS = (ast.Constant, ast.JoinedStr, ast.BinOp)
PICKLES = {"pickle", "cloudpickle", "dill", "marshal", "shelve", "joblib"}
RUNS = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "torch.load", "yaml.load"}
MUST = {
    "np.load": ("allow_pickle", "False"),
    "numpy.load": ("allow_pickle", "False"),
    "jinja2.Environment": ("autoescape", "True"),
    "Environment": ("autoescape", "True"),
}
NEVER = ("shell", "trust_remote_code", "allow_pickle")


def unsafe(source: str) -> list[str]:
    """Return what in a source file could run what a file or a request holds."""
    imports = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {alias.name for node in imports for alias in node.names} | {getattr(node, "module", "") for node in imports}
    found = sorted(names & PICKLES)
    for name, call in called(source):
        given = {word.arg: ast.unparse(word.value) for word in call.keywords}
        option, value = MUST.get(name, ("", ""))
        text = name.startswith("subprocess.") and not (call.args and not isinstance(call.args[0], TEXTS))
        pickles = name.endswith(("_object_list", ".all_gather_object"))
        turned_on = any(given.get(word, "False") != "False" for word in NEVER)
        if name in RUNS or text or pickles or turned_on or given.get(option, "") != value:
            found.append(name)
    return found


OURS = sorted(path for folder in ("slimpajama", "tasks", "flows") for path in (ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "torch.load(x)",
        "np.load(x)",
        "np.load(x, allow_pickle=True)",
        "yaml.load(x)",
        "eval(x)",
        "exec(x)",
        "os.system(x)",
        "subprocess.run('ls', shell=True)",
        "subprocess.run(f'ls {x}')",
        "jinja2.Environment()",
        "load_dataset(x, trust_remote_code=True)",
        "dist.broadcast_object_list(x)",
    ],
)
def test_what_could_run_a_file_is_found(source: str):
    assert unsafe(source)


def test_nothing_runs_what_a_file_or_a_request_holds():
    """No pickle in any dress, no evaluated text, no shell, no template that does not escape."""
    assert {str(path): found for path in OURS if (found := unsafe(path.read_text(encoding="utf-8")))} == {}


def test_what_is_put_into_a_page_without_escaping_is_these_few():
    """Our plots and what is escaped for Markdown; whoever adds to this list shows why it can hold no corpus text."""
    made = {
        path.relative_to(ROOT).as_posix(): [
            ast.unparse(call) for name, call in called(path.read_text(encoding="utf-8")) if name == "Markup"
        ]
        for path in OURS
    }
    assert {name: calls for name, calls in made.items() if calls} == {
        "slimpajama/core/page.py": ["Markup(entities(value))"]
    }
    pages = [path.read_text(encoding="utf-8") for path in (ROOT / "slimpajama").rglob("*.html")]
    raw = [found for page in pages for found in re.findall(r"{{[^}]*\| *safe[^}]*}}|autoescape|innerHTML", page)]
    assert raw == ["{{ block.svg | safe }}"]


def test_no_file_of_the_project_is_over_a_megabyte():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    for name in filter(None, listed.decode().split("\0")):
        assert (ROOT / name).stat().st_size <= 1_000_000, name
