"""Nights at the ends of what settings and machines allow: a sample of benchmarks/attacks."""

import pytest

from benchmarks.attacks import machines, settings


@pytest.mark.parametrize(
    "name",
    [
        "Prefect's home cannot be written",
        "a workspace that is a file",
        "files of 2 MB (ulimit -f)",
        "2 GB of address space (ulimit -v)",
        "a .env that is no text",
        "a night's name is not UTF-8",
        "a locale without UTF-8",
        "stdin, stdout and stderr are closed",
        "a proxy for everything",
        "modules in the working folder",
    ],
)
def test_an_odd_machine_lets_a_night_be_published_or_says_why_not(name, tmp_path, monkeypatch):
    # Seconds are for benchmarks: this machine may be busy.
    monkeypatch.setattr(machines, "REFUSAL_S", machines.SECONDS)
    assert machines.tried(tmp_path, machines.MACHINES[name]).wrong == ""


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("train.lr", 1000.0),
        ("train.seed", 2**63 - 1),
        ("ingest.sources.priority", -1_000_000_000),
        ("shards.target_mb", 0.001),
        ("model.width", 65_536),
    ],
)
def test_a_night_holds_at_the_ends_of_a_setting(key, value, tmp_path, monkeypatch):
    monkeypatch.setattr(settings, "SECONDS", 300)
    assert value in settings.ends(settings.numbers()[key])
    assert settings.outcome(tmp_path, key, value) == ""
