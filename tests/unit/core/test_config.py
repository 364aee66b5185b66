"""A wrong key, type or value is one line that names field, expected and found."""

import dataclasses
import itertools

import pytest

from benchmarks.attacks import settings as attack
from slimpajama.core.config import Config, DedupConfig, GenerateConfig, fingerprint, load_config, validate
from slimpajama.core.config.renamed import RENAMED
from slimpajama.core.config_docs import render
from slimpajama.core.errors import ConfigError
from slimpajama.core.logs import LineHandler, logged_to


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


NUMBERS = itertools.count()


@pytest.fixture
def renamed(monkeypatch):
    """A setting that was renamed and one that moved to another section; each test has names of its own."""
    number = next(NUMBERS)
    monkeypatch.setitem(RENAMED, f"dedup.jaccard{number}", "dedup.threshold")
    monkeypatch.setitem(RENAMED, f"clean.cores{number}", "run.workers")
    return f"dedup.jaccard{number}", f"clean.cores{number}"


def test_an_old_name_holds_in_a_file_in_an_override_and_in_plain_data_and_is_named_once(renamed, tmp_path):
    (threshold, workers), said = renamed, []
    file = tmp_path / "old.toml"
    file.write_text(f"{threshold} = 0.7\n{workers} = 3\n", encoding="utf-8")
    data = {"dedup": {threshold.partition(".")[2]: 0.5}}
    with logged_to(LineHandler(said.append)):
        config = load_config(file)
        assert load_config(None, [f"{threshold}=0.9", f"{workers}=5"]).run.workers == 5
        assert validate(data).dedup.threshold == 0.5
    assert (config.dedup.threshold, config.run.workers) == (0.7, 3)
    assert list(data["dedup"]) == [threshold.partition(".")[2]]
    assert sorted(said) == [
        f"slimpajama: the setting {workers} is now named run.workers; the old name goes with the next release",
        f"slimpajama: the setting {threshold} is now named dedup.threshold; the old name goes with the next release",
    ]


def test_an_old_name_in_a_flows_parameters_holds_too(renamed):
    from flows.corpus import prepare_corpus

    threshold = renamed[0].partition(".")[2]
    given = prepare_corpus.validate_parameters({"config": {"dedup": {threshold: 0.5}}})
    assert given["config"].dedup.threshold == 0.5


def test_a_later_override_wins_by_either_name_and_both_at_once_are_a_mistake(renamed):
    old = renamed[0]
    assert load_config(None, ["dedup.threshold=0.9", f"{old}=0.6"]).dedup.threshold == 0.6
    assert load_config(None, [f"{old}=0.6", "dedup.threshold=0.9"]).dedup.threshold == 0.9
    with pytest.raises(ConfigError, match=rf"{old}: is now named dedup\.threshold, and both are given"):
        validate({"dedup": {old.partition(".")[2]: 0.5, "threshold": 0.5}})


def test_an_old_name_of_a_section_that_is_none_stays_a_mistake(renamed):
    with pytest.raises(ConfigError, match="dedup"):
        validate({"dedup": 5})


def test_every_number_has_a_range_and_what_is_beyond_is_refused_by_name():
    row = attack.refused()
    assert row.broken == []
    # A number without a range is found, too: it takes what the others refuse.
    assert attack.HUGE in attack.beyond({"type": "integer", "minimum": 0})
    assert {"train.seed", "ingest.sources.priority", "clean.thresholds", "pairs.seed"} <= set(attack.numbers())


def test_the_page_of_the_settings_shows_each_range():
    page = render()
    assert "| `seed` | `0` | 0 to 9,223,372,036,854,775,807 |" in page
    assert "| `threshold` | `0.8` | above 0 to 1 |" in page
    assert "| `lr` | `1.0` | 1e-06 to 1,000 |" in page
    assert page.count(" to ") >= len(attack.numbers())


@pytest.mark.parametrize(
    "override", ["workspace=/tmp/\udcff", 'generate.prompts=["今天\udcff"]', "recovery.alert=\udcff", "\udcff=1"]
)
def test_bytes_that_are_no_utf_8_are_refused_in_one_line(override):
    with pytest.raises(ConfigError, match=r"bytes that are no UTF-8, near '.*udcff") as caught:
        load_config(None, [override])
    str(caught.value).encode()


def test_a_folder_whose_name_is_not_utf_8_is_named(tmp_path):
    folder = tmp_path / "\udcff"
    folder.mkdir()
    (folder / "my.toml").write_text("", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"the folder's name holds bytes that are no UTF-8. Name the folder"):
        load_config(folder / "my.toml")


def test_the_last_seed_is_followed_by_the_first():
    assert [GenerateConfig(seed=2**63 - 1).nth(number).seed for number in (0, 1, 2)] == [2**63 - 1, 0, 1]
