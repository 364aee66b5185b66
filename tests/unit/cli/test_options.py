"""Options in groups: typer sees each option, the function sees the groups, and messages have the form that is set."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from slimpajama.cli import run
from slimpajama.cli.options import Common, expanded
from slimpajama.core.config.renamed import RENAMED


@dataclass
class Size:
    """A group."""

    width: Annotated[int, typer.Option(help="In characters.")] = 80
    deep: Annotated[bool, typer.Option("--deep", help="All of it.")] = False


def show(common: Common, name: Annotated[str, typer.Argument()], *, size: Size, last: int = 1) -> None:
    """Show what came in."""
    common.emit({"workspace": common.workspace, "set": common.set_, "name": name, "size": vars(size), "last": last}, "")


def call(*arguments: str, without: tuple[str, ...] = ()) -> tuple[int, str]:
    app = typer.Typer()
    app.command()(expanded(show, *without))
    result = CliRunner().invoke(app, list(arguments))
    return result.exit_code, result.output


def test_a_group_holds_what_was_given_and_its_defaults():
    code, shown = call("书", "--width", "5", "--workspace", "w", "--set", "a=1", "--set", "b=2", "--json")
    assert code == 0
    given = {"workspace": "w", "set": ["a=1", "b=2"], "name": "书", "size": {"width": 5, "deep": False}, "last": 1}
    assert json.loads(shown) == given


def test_help_shows_each_option_and_the_common_ones_last():
    _, shown = call("--help")
    options = ["--width", "--deep", "--last", "--workspace", "--config", "--set", "--json"]
    assert [shown.index(option) for option in options] == sorted(shown.index(option) for option in options)


def test_an_option_that_a_command_does_without_is_unknown_there():
    code, shown = call("x", "--set", "a=1", without=("set_",))
    assert code == 2
    assert "--set" in shown


@pytest.mark.parametrize("form", ["json", "text"])
def test_a_message_about_the_configuration_has_the_form_that_the_configuration_asks_for(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setitem(RENAMED, f"run.hands_{form}", "run.workers")
    (tmp_path / "c.toml").write_text(f'[run]\nhands_{form} = 2\n[observe]\nlogs = "{form}"\n', encoding="utf-8")
    (tmp_path / "w").mkdir()
    assert run(["nights", "--config", str(tmp_path / "c.toml"), "--workspace", str(tmp_path / "w")]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    told = json.loads(line)["message"] if form == "json" else line.removeprefix("slimpajama: ")
    assert told.startswith(f"the setting run.hands_{form} is now named run.workers")


@pytest.mark.parametrize("before", [True, False])
def test_options_stand_before_a_sub_command_or_behind_it(trained, capsys, before):
    space, model = trained
    options, command = ["--workspace", space.store.uri, "--json"], ["promote", model]
    assert run(["models", *options, *command] if before else ["models", *command, *options]) == 0
    assert json.loads(capsys.readouterr().out) == {"champion": model, "changed": True}
