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
from slimpajama.corpus.sources import formats

ROOT = Path(__file__).resolve().parents[2]


def test_no_module_of_flows_or_tasks_is_named_like_another_module():
    """A file-path entrypoint puts its folder first on sys.path: flows/tokenize.py would hide the standard library's."""
    taken = set(sys.stdlib_module_names) | {name.lower() for name in importlib.metadata.packages_distributions()}
    taken -= {"flows", "tasks", "slimpajama"}
    names = {path.stem for folder in ("flows", "tasks") for path in (ROOT / folder).glob("*.py")} - {"__init__"}
    assert names.isdisjoint(taken)


def test_the_page_of_formats_is_what_the_readers_say():
    page = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
    assert page == formats.page(), "run: python -m slimpajama.corpus.sources.formats > docs/formats.md"


def test_the_page_of_settings_is_what_the_classes_say():
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert page == render(), "run: python -m slimpajama.core.config_docs > docs/configuration.md"


@pytest.mark.parametrize("page", ["README", "docs/tutorial", "docs/operations", "docs/applications"])
def test_a_chinese_page_has_the_sections_tables_links_and_commands_of_the_english_one(page: str):
    english, chinese = ((ROOT / f"{page}{ending}").read_text(encoding="utf-8") for ending in (".md", ".zh-CN.md"))
    for kind in (r"^## ", r"^\|", r"^ *```", r"^ *(?:-|\d\.) ", r"\]\("):
        assert len(re.findall(kind, english, flags=re.M)) == len(re.findall(kind, chinese, flags=re.M)), kind
    blocks = [re.sub("#.*", "", "".join(text.split("```")[1::2])) for text in (english, chinese)]
    assert re.findall(r"slimpajama [a-z-]+", blocks[0]) == re.findall(r"slimpajama [a-z-]+", blocks[1])


def test_every_path_and_every_page_that_a_page_names_exists():
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]:
        text = page.read_text(encoding="utf-8")
        for name in re.findall(r"`((?:slimpajama|tasks|flows|infra|tests|benchmarks)/[\w./-]+)`", text):
            assert (ROOT / name).exists(), f"{page.name}: {name}"
        for link in re.findall(r"\]\(([^)\s#]+)[^)]*\)", text):
            assert link.startswith("http") or (page.parent / link).exists(), f"{page.name}: {link}"


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


ROOTS = "nights|models|reports|tuned|pairs|forgotten"
IN_TEXT = re.compile(rf"(^|[/ ])({ROOTS})/{{}}|/manifest\.json")
WHOLE = re.compile(rf"({ROOTS})/\S*|\S*manifest\.json")

OWNERS = {"slimpajama/workspace/layout.py", "slimpajama/workspace/manifest.py"}
# Their paths are of raw files, of addresses and of URLs.
OTHER_PATHS = {
    "slimpajama/apps/serve/app.py",
    "slimpajama/corpus/demo/build.py",
    "slimpajama/corpus/sources/local.py",
    "slimpajama/corpus/sources/archives.py",
    "slimpajama/corpus/sources/discover.py",
    "slimpajama/corpus/sources/files.py",
    "slimpajama/corpus/sources/formats.py",
    "slimpajama/corpus/sources/remote.py",
    "tasks/observe.py",
}


def inline_paths(source: str) -> list[str]:
    """Return where a source file puts a path of the workspace together, or takes one apart."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            parts = [part.value if isinstance(part, ast.Constant) else "{}" for part in node.values]
            if IN_TEXT.search("".join(parts)):
                found.append(ast.unparse(node))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and WHOLE.fullmatch(node.value):
            found.append(ast.unparse(node))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            first = ast.unparse(node.args[0]) if node.args else ""
            splits = node.func.attr in ("split", "rsplit") and first == "'/'"
            ends = node.func.attr == "endswith" and first.lstrip("f").startswith("'/")
            if splits or ends:
                found.append(ast.unparse(node))
    return found


@pytest.mark.parametrize(
    "source",
    [
        'f"nights/{night}/documents/"',
        'f"{uri}/models/{model}"',
        'f"{folder}/manifest.json"',
        '"models/champion.json"',
        'path.split("/")[1]',
        'path.rsplit("/", 1)[1]',
        'entry.path.endswith(f"/{name}")',
    ],
)
def test_a_path_that_is_put_together_is_found(source: str):
    assert inline_paths(source)


def test_only_the_layout_puts_paths_of_the_workspace_together():
    """Ask `slimpajama.workspace.layout` for a path, and a manifest for its files."""
    paths = {str(path.relative_to(ROOT)): path for path in OURS}
    checked = paths.keys() - OTHER_PATHS - OWNERS
    assert {name: found for name in checked if (found := inline_paths(paths[name].read_text(encoding="utf-8")))} == {}


# A command, a task, a process of a training; the harness and a Python program, which are given an address.
OPENERS = {
    "slimpajama/apps/api.py",
    "slimpajama/apps/harness.py",
    "slimpajama/cli/options.py",
    "slimpajama/model/train/worker.py",
    "slimpajama/workspace/open.py",
    "tasks/observe.py",
}


def test_a_workspace_is_opened_where_a_process_begins():
    """Everything else is given a `Workspace`, or asks `find_workspace` or `scratch_workspace` for one."""
    opens = {"open_store", "open_workspace", "LocalStore", "S3Store"}
    calls = {
        str(path.relative_to(ROOT)): {name for name, _ in called(path.read_text(encoding="utf-8"))} for path in OURS
    }
    assert {name for name, names in calls.items() if names & opens} <= OPENERS


def test_no_file_of_the_project_is_over_a_megabyte():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    for name in filter(None, listed.decode().split("\0")):
        assert (ROOT / name).stat().st_size <= 1_000_000, name
