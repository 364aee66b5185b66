"""A wrong key, type or value is one line that names field, expected and found."""

import dataclasses

import pytest

from slimpajama.core.config import Config, DedupConfig, fingerprint, load_config
from slimpajama.core.errors import ConfigError


def test_the_smallest_file_works_and_everything_else_has_a_default(tmp_path):
    file = tmp_path / "my.toml"
    file.write_text('[[ingest.sources]]\nname = "mine"\nuri = "raw/*.jsonl"\n', encoding="utf-8")
    config = load_config(file)
    assert config.ingest.sources[0].name == "mine"
    assert config.workspace == str(tmp_path / "workspace")
    assert config.run.source_root == str(tmp_path)
    assert config.dedup == DedupConfig()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.tokns=5", r"train\.tokns: unknown setting.*did you mean tokens"),
        ("dedup.threshold=3", r"dedup\.threshold: .*less than or equal to 1.*found 3"),
        ("train.tokens=many", r"train\.tokens: .*valid integer.*found 'many'"),
        ("text.engine=pkuseg", r"text\.engine: .*'rjieba' or 'jieba'.*found 'pkuseg'"),
        ("dedup.bands=64", r"dedup: .*bands \* rows must be at most num_perm"),
        ("nosection.key=1", r"nosection: unknown setting"),
        ("workspace.x=1", r"workspace: "),
        ("no-equals-sign", r"--set no-equals-sign: .*expected section\.key=value"),
    ],
)
def test_a_mistake_is_named(override, message):
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(None, [override])
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_all_mistakes_are_told_at_once():
    with pytest.raises(ConfigError, match=r"dedup\.threshold.*train\.tokens"):
        load_config(None, ["dedup.threshold=0", "train.tokens=0"])


def test_broken_toml_is_named_with_its_place(tmp_path):
    file = tmp_path / "坏.toml"
    file.write_text('workspace = "w"\na = = 1\n', encoding="utf-8")
    with pytest.raises(ConfigError, match=r"坏\.toml: not readable as TOML.*line 2"):
        load_config(file)


def test_a_missing_file_is_named():
    with pytest.raises(ConfigError, match=r"nowhere\.toml: no such file"):
        load_config("nowhere.toml")


def test_later_overrides_win_and_values_are_toml_or_bare_text():
    config = load_config(None, ["train.tokens=1", "train.tokens=2", "model.preset=tiny", 'generate.prompts=["你好"]'])
    assert (config.train.tokens, config.model.preset, config.generate.prompts) == (2, "tiny", ("你好",))


def test_an_s3_workspace_is_kept_as_it_is():
    assert load_config(None, ["workspace=s3://bucket/prefix"]).workspace == "s3://bucket/prefix"
    assert load_config(None, workspace="s3://bucket/other").workspace == "s3://bucket/other"


def test_a_fingerprint_changes_with_every_setting_and_with_nothing_else():
    cfg = DedupConfig()
    assert fingerprint(cfg) == fingerprint(DedupConfig())
    assert fingerprint(cfg) != fingerprint(dataclasses.replace(cfg, seed=2))


def test_every_field_has_a_docstring_for_the_forms():
    from pydantic import TypeAdapter

    schema = TypeAdapter(Config).json_schema()
    for name, section in schema["$defs"].items():
        for key, value in section["properties"].items():
            assert value.get("description"), f"{name}.{key} lacks a docstring"
