"""What docs/security.md promises and no other test shows: secrets in addresses, pickles for models, audits."""

from __future__ import annotations

import importlib.util
import json
import os
import pickle
import re
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from slimpajama.core.config import Config, load_config, validate
from slimpajama.core.errors import ConfigError, ModelError, StorageError, masked
from slimpajama.model.loading import with_weights

ROOT = Path(__file__).resolve().parents[2]
SECRET = "hunter2"
CARRIERS = [
    f"https://me:{SECRET}@example.org/a.txt",
    f"https://{SECRET}@example.org/a.txt",
    f"s3://key:{SECRET}@bucket/*",
    f"zip://*.txt::https://me:{SECRET}@example.org/a.zip",
    f"https://example.org/数据.txt?X-Amz-Signature={SECRET}",
    f"https://example.org/a?b=1&access_token={SECRET}&c=2",
    f"https://example.org/a?sig={SECRET}",
    f"https://example.org/a?AWSAccessKeyId={SECRET}",
]
PLAIN = [
    "raw/*.jsonl",
    "数据/2024?/*.txt",
    "s3://bucket/prefix/*",
    "abfs://container@account.dfs.core.windows.net/*",
    "sftp://me@host/a",
    "https://example.org/a.txt?page=2&author=me",
    "https://example.org:8080/@me/a",
]


@pytest.mark.parametrize("uri", CARRIERS)
def test_no_address_of_the_settings_may_carry_a_secret_and_the_refusal_does_not_show_it(uri: str):
    allowed = {"ingest": {"protocols": ["file", "s3", "zip", "https"]}}
    source = {"name": "web", "uri": uri}
    for given in (
        {"ingest": allowed["ingest"] | {"sources": [source]}},
        {"decontaminate": {"evaluations": [source]}} | allowed,
        {"pairs": {"sources": [source | {"task": "translation"}]}} | allowed,
        {"workspace": uri},
        {"train": {"mlflow": uri}},
        {"observe": {"openlineage": uri}},
    ):
        with pytest.raises(ConfigError, match="password or token") as caught:
            validate(given)
        assert SECRET not in str(caught.value)
    with pytest.raises(ConfigError) as caught:
        load_config(None, [f"train.mlflow={uri}"])
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("uri", PLAIN)
def test_an_address_without_a_secret_is_taken_and_shown_as_it_is(uri: str):
    assert masked(uri) == uri
    assert isinstance(validate({"workspace": uri}), Config)


@pytest.mark.parametrize("uri", CARRIERS)
def test_no_message_shows_the_secret_of_an_address(uri: str):
    cut = "x" * 280 + uri
    error = StorageError(f"cannot be read: no route to {uri}", where=uri, found=repr({"url": uri}), expected=cut)
    assert SECRET not in str(error)
    assert "***" in masked(f"打不开：{uri}。")


@pytest.mark.parametrize("text", ["?token", "://a:", "?" + "token" * 9, "://", "&sig=", "密钥://:"])
def test_hostile_text_is_looked_through_in_linear_time(text: str):
    begun = time.process_time()
    masked(text * 200_000)
    # Quadratic time would be hours.
    assert time.process_time() - begun < 10


class Runs:
    """A pickle that leaves a trace when it is read."""

    def __init__(self, trace: str) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.trace,)


@pytest.mark.parametrize("name", ["trace", "痕迹"])
def test_a_pickle_in_place_of_a_model_is_refused_and_not_run(tmp_path: Path, name: str):
    torch.save({"weight": Runs(str(tmp_path / name))}, tmp_path / "model.pt")
    for data in (pickle.dumps(Runs(str(tmp_path / name))), (tmp_path / "model.pt").read_bytes()):
        with pytest.raises(ModelError, match="do not fit"):
            with_weights(lambda: torch.nn.Linear(1, 1), data, "models/x")
    assert not (tmp_path / name).exists()
    pickle.loads(pickle.dumps(Runs(str(tmp_path / name))))
    # So it would have been run.
    assert (tmp_path / name).exists()


def audit() -> Any:
    """Return infra/audit.py, which lies in no package."""
    spec = importlib.util.spec_from_file_location("audit", ROOT / "infra" / "audit.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


FINE = {"name": "six", "version": "1.17.0", "vulns": []}
SKIPPED = {"name": "jieba", "skip_reason": "not found"}
KNOWN = {"name": "old", "version": "1.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["1.1"]}]}


@pytest.mark.parametrize(
    ("found", "code", "said"),
    [
        (None, 1, "could not be reached"),
        ([SKIPPED, SKIPPED], 1, "knows none of these packages"),
        ([FINE, SKIPPED], 1, "1 of 2 could not be asked about: jieba"),
        ([FINE, KNOWN], 1, "old 1.0: PYSEC-1, mended in 1.1"),
        ([FINE, FINE], 0, "nothing is known against 2 versions"),
    ],
)
def test_an_audit_calls_good_only_what_was_asked_about(found: Any, code: int, said: str):
    given = None if found is None else json.loads(json.dumps({"dependencies": found}))
    answer, lines = audit().verdict(given)
    assert (answer, said in "\n".join(lines)) == (code, True)


def table(page: str) -> list[list[str]]:
    """Return the rows of the first table of a page."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    lines = text[text.index("\n| ") + 1 :].partition("\n\n")[0].splitlines()
    return [line.split("|")[1:-1] for line in lines if not line.startswith("|---")]


def test_every_line_of_the_threat_model_names_tests_and_modules_that_exist():
    rows = table("security.md")
    assert len(rows) > 10
    tests = {
        (path.relative_to(ROOT / "tests").as_posix(), name)
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), flags=re.M)
    }
    for row in rows[1:]:
        named = re.findall(r"`((?:unit|e2e)/[\w/]+\.py)::(test_\w+)`", row[-1])
        assert named, row
        assert set(named) <= tests, set(named) - tests
    text = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    for name in re.findall(r"`((?:slimpajama|tasks|flows|infra)/[\w./-]+)`", text):
        assert (ROOT / name).exists(), name
