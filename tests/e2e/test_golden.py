"""A rebuilt house publishes the bytes that it published before: held against commit ee1f43d, before the rebuilding.

The preparation is compared with a list that lies beside this file; the same list holds on every machine. What a model
computes depends on the processor, so there the old code runs beside the new one, out of a worktree of its commit.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from golden_corpus import write_golden, write_golden_night
from servers import ROOT
from small_corpus import published

BEFORE = "ee1f43d"
LISTED = Path(__file__).with_name("golden.json")
# For people: these may change, and so may the words of a refusal.
CARDS = ("/README.md", "/report.html")
REFUSED = "/removed/ingest-"
DIGEST = re.compile(r"\b[0-9a-f]{64}\b")
MODEL = re.compile(r"\b(n\d-tiny-[0-9a-f]{8}(?:-[0-9a-f]{8})?)\b")
PAIRS = re.compile(r"\bpairs/[0-9a-f]{12}\b")
# Made of the digests beside it.
HOLDS_CARD = re.compile(r"models/MODEL|nights/n\d(/removed)?")
# What a record is checked by; no digest holds it.
CHECKS = {"checksum", "crc32"}
# Steps were raised since; a rule of cleaning and counts were added, and so each step's manifest has another digest.
LEFT_OUT = CHECKS | {"fingerprint", "version", "mojibake", "pii", "refused", "samples"}
STEPS = {"raw", "cleaned", "compared", "contaminated", "documents", "words", "from"}
NOTES = "published/"
INDEX = "/index/"


def night(program, folder, workspace, name, server, **environment):
    """Run a whole night by a program of the command line, away from this tree: `-m` would find its package first."""
    arguments = ["run", "--config", folder / "golden.toml", "--workspace", workspace, "--night", name]
    done = subprocess.run(
        [sys.executable, *map(str, [*program, *arguments])],
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
def before(corpus, second, tmp_path_factory, prefect_server):
    """Two workspaces that the old code made: after one night, and after two."""
    known = subprocess.run(
        ["git", "cat-file", "-e", f"{BEFORE}^{{commit}}"], cwd=ROOT, capture_output=True, check=False
    )
    if known.returncode:
        pytest.skip(f"the history does not reach back to {BEFORE}: clone all of it to run this")
    folder = tmp_path_factory.mktemp("before")
    tree = folder / "tree"
    subprocess.run(["git", "worktree", "add", "--detach", tree, BEFORE], cwd=ROOT, capture_output=True, check=True)
    try:
        run = ["-m", "slimpajama"]
        night(run, corpus, folder / "one", "n1", prefect_server, PYTHONPATH=str(tree))
        shutil.copytree(folder / "one", folder / "two")
        night(run, second, folder / "two", "n2", prefect_server, PYTHONPATH=str(tree))
    finally:
        subprocess.run(["git", "worktree", "remove", "--force", tree], cwd=ROOT, capture_output=True, check=True)
    return folder / "one", folder / "two"


def names_of(workspace):
    """Return what stands for names and hashes that depend on cards: models by their order, files by their paths."""
    # An index is younger than the old code.
    files = {
        path: sha for path, sha in published(workspace).items() if not path.startswith(NOTES) and INDEX not in path
    }
    models = dict.fromkeys(name for path in files for name in MODEL.findall(path))
    texts = {name: MODEL.sub("MODEL", name) for name in models}
    texts |= {sha: f"sha256 of {path}" for path, sha in files.items() if path.endswith((*CARDS, ".json"))}
    texts |= {digest(workspace / path): f"sha256 of {path}" for path in files if path.endswith("manifest.json")}
    return files, texts


def digest(manifest):
    """Return the digest of a manifest, as it was before anything was added."""
    value = without(json.loads(manifest.read_text(encoding="utf-8")), CHECKS)
    text = json.dumps(value, ensure_ascii=False, indent=1, sort_keys=True) + "\n"
    return hashlib.sha256(text.encode()).hexdigest()


def content(workspace):
    """Return a workspace's files in a form in which cards and what hangs on them do not count: hash or JSON by path."""
    files, texts = names_of(workspace)

    def plain(text):
        return DIGEST.sub(lambda found: named(texts.get(found.group(), found.group())), named(text))

    found = {}
    for path, sha in files.items():
        if is_for_people(path):
            continue
        if path.endswith(".json") and "tokenizer" not in path:
            found[plain(path)] = uncarded(
                without(json.loads(plain((workspace / path).read_text(encoding="utf-8"))), LEFT_OUT, STEPS)
            )
        else:
            found[plain(path)] = sha
    return found


def named(text):
    """Return a text without names that are made of fingerprints or digests."""
    return PAIRS.sub("pairs/SET", MODEL.sub("MODEL", text))


def without(value, keys, digests=frozenset()):
    """Return JSON without some keys, and without others where they hold a digest."""
    if isinstance(value, dict):
        gone = {key for key, item in value.items() if key in keys or (key in digests and is_digest(item))}
        return {key: without(item, keys, digests) for key, item in value.items() if key not in gone}
    return [without(item, keys, digests) for item in value] if isinstance(value, list) else value


def is_digest(value):
    return isinstance(value, str) and bool(DIGEST.fullmatch(value))


def is_for_people(path):
    return path.endswith(CARDS) or REFUSED in path


def uncarded(value):
    """Return JSON without entries of cards and their sizes, nor the sizes of JSON, which is compared by its values."""
    if isinstance(value, dict):
        is_json = str(value.get("path", "")).endswith(".json")
        return {key: uncarded(item) for key, item in value.items() if not (is_json and key == "bytes")}
    if isinstance(value, list):
        return [uncarded(item) for item in value if not (isinstance(item, dict) and is_card(item))]
    return value


def is_card(entry):
    """Say whether this is the entry of a card, or the sum of a folder that holds one."""
    return is_for_people(str(entry.get("path", ""))) or HOLDS_CARD.fullmatch(str(entry.get("folder", "")))


def same(old, new):
    """Compare two workspaces; a difference names the file, not all of them."""
    old, new = content(old), content(new)
    assert set(new) ^ set(old) == set()
    for path in old:
        assert new[path] == old[path], f"{path}: {list(differences(old[path], new[path]))}"


def differences(old, new, place=""):
    """Yield where two JSON values differ, and how."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            yield from differences(old.get(key), new.get(key), f"{place}/{key}")
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for number, pair in enumerate(zip(old, new, strict=True)):
            yield from differences(*pair, f"{place}/{number}")
    elif old != new:
        yield place, old, new


def test_a_night_publishes_what_the_old_code_published(before, corpus, tmp_path, prefect_server):
    night([Path(__file__).with_name("pinned.py")], corpus, tmp_path / "w", "n1", prefect_server)
    same(before[0], tmp_path / "w")


def test_an_old_workspace_goes_on_as_the_old_code_would_have(before, second, tmp_path, slimpajama, prefect_server):
    workspace = shutil.copytree(before[0], tmp_path / "w")
    config = ["--config", second / "golden.toml", "--workspace", workspace]
    assert slimpajama("verify", *config).returncode == 0
    assert "n1" in slimpajama("nights", *config).stdout
    models = json.loads(slimpajama("models", *config, "--json").stdout)
    assert len(models["models"]) == 1
    text = slimpajama("generate", *config, "--prompt", "今天", "--max-tokens", 8).stdout
    assert text.startswith("今天")
    night([Path(__file__).with_name("pinned.py")], second, workspace, "n2", prefect_server)
    same(before[1], workspace)
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
