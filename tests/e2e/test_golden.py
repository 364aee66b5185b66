"""What must not change by accident: the bytes of a preparation, and that a workspace of the first version goes on.

The preparation is compared with a list that lies beside this file; the same list holds on every machine. The workspace
is made by the code of commit ee1f43d, out of a worktree; nothing that it published may have other bytes afterwards.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from golden_corpus import write_golden, write_golden_night
from servers import ROOT
from small_corpus import published

from slimpajama.workspace.layout import POINTERS

BEFORE = "ee1f43d"
LISTED = Path(__file__).with_name("golden.json")
# For people: these may change.
CARDS = ("/README.md", "/report.html")
NOTES = "published/"


def night(folder, workspace, name, server, **environment):
    """Run a whole night, away from this tree: `-m` would find its package first."""
    arguments = ["run", "--config", folder / "golden.toml", "--workspace", workspace, "--night", name]
    done = subprocess.run(
        [sys.executable, "-m", "slimpajama", *map(str, arguments)],
        cwd=workspace.parent,
        env=os.environ | server | environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("golden")
    write_golden(folder)
    return folder


@pytest.fixture(scope="module")
def second(corpus, tmp_path_factory):
    """The same corpus a night later."""
    folder = tmp_path_factory.mktemp("later") / "golden"
    shutil.copytree(corpus, folder)
    write_golden_night(folder, 1)
    return folder


@pytest.fixture(scope="module")
def before(corpus, tmp_path_factory, prefect_server):
    """A workspace that the old code made in one night."""
    known = subprocess.run(
        ["git", "cat-file", "-e", f"{BEFORE}^{{commit}}"], cwd=ROOT, capture_output=True, check=False
    )
    if known.returncode:
        pytest.skip(f"the history does not reach back to {BEFORE}: clone all of it to run this")
    folder = tmp_path_factory.mktemp("before")
    tree = folder / "tree"
    subprocess.run(["git", "worktree", "add", "--detach", tree, BEFORE], cwd=ROOT, capture_output=True, check=True)
    try:
        night(corpus, folder / "workspace", "n1", prefect_server, PYTHONPATH=str(tree))
    finally:
        subprocess.run(["git", "worktree", "remove", "--force", tree], cwd=ROOT, capture_output=True, check=True)
    return folder / "workspace"


def test_an_old_workspace_goes_on(before, second, tmp_path, slimpajama, prefect_server):
    workspace = shutil.copytree(before, tmp_path / "w")
    old = published(workspace)
    config = ["--config", second / "golden.toml", "--workspace", workspace]
    assert slimpajama("verify", *config).returncode == 0
    assert "n1" in slimpajama("nights", *config).stdout
    models = json.loads(slimpajama("models", *config, "--json").stdout)
    assert len(models["models"]) == 1
    text = slimpajama("generate", *config, "--prompt", "今天", "--max-tokens", 8).stdout
    assert text.startswith("今天")
    night(second, workspace, "n2", prefect_server)
    new = published(workspace)
    assert {path for path in old if new.get(path) != old[path]} <= set(POINTERS)
    nights = json.loads(slimpajama("nights", *config, "--json").stdout)
    assert [night["night"] for night in nights["nights"]] == ["n1", "n2"]
    removed = removed_for_earlier(workspace)
    explained = slimpajama("explain", *config, removed["id"]).stdout
    assert removed["duplicate_of"] in explained
    assert slimpajama("verify", *config).returncode == 0


def removed_for_earlier(workspace):
    """Return a document of the second night that a document of the first one made superfluous."""
    import polars as pl

    first = pl.read_parquet(workspace / "nights/n1/documents/*.parquet")["id"]
    removed = pl.read_parquet(workspace / "nights/n2/removed/dedup-*.parquet")
    return removed.filter(pl.col("duplicate_of").is_in(first.implode())).row(0, named=True)


def listed(workspace):
    """Return the fingerprints of a preparation's stages, and the hash of every file but the cards."""
    from slimpajama.core.config import fingerprint

    manifest = json.loads((workspace / "nights" / "n1" / "manifest.json").read_text(encoding="utf-8"))
    files = published(workspace)
    return {
        "fingerprints": {name: fingerprint(name, about) for name, about in manifest["about"]["stages"].items()},
        "files": {
            path: sha
            for path, sha in files.items()
            if not path.endswith((*CARDS, "manifest.json")) and not path.startswith(NOTES)
        },
    }


def test_a_preparation_has_the_fingerprints_and_bytes_that_are_listed(corpus, tmp_path):
    """A difference means that every workspace makes this night anew: raise the stage's version and write the list anew.

    python tests/e2e/test_golden.py
    """
    assert prepared(corpus, tmp_path / "w") == json.loads(LISTED.read_text(encoding="utf-8"))


def prepared(corpus, workspace):
    from library_night import prepare

    prepare(corpus / "golden.toml", workspace)
    return listed(workspace)


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "corpus")
        folder.mkdir()
        write_golden(folder)
        text = json.dumps(prepared(folder, Path(scratch, "w")), indent=1, sort_keys=True)
    LISTED.write_text(text + "\n", encoding="utf-8")
