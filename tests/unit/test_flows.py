"""What flows tell Prefect: names of states, nights that were missed, deployments; without a server."""

import datetime as dt

import pytest
import yaml
from prefect.client.schemas.objects import FlowRun
from prefect.states import Cancelled, Completed
from servers import ROOT

from slimpajama.core import result
from slimpajama.core.config import load_config
from slimpajama.core.errors import ConfigError
from tasks.deploy import wanted
from tasks.observe import configuration
from tasks.schedule import why_not

NOW = dt.datetime(2026, 11, 20, 8, 0, tzinfo=dt.UTC)


def due(day, **about):
    start = dt.datetime(2026, 11, day, 2, 0, tzinfo=dt.UTC)
    return FlowRun.model_validate({"flow_id": "0" * 32, "expected_start_time": start, "auto_scheduled": True, **about})


def test_a_run_that_ended_by_any_name_is_no_silent_one():
    """An automation that does not know a state's name would take the run for dead."""
    (silent, _) = yaml.safe_load((ROOT / "infra/local/automations.yaml").read_text(encoding="utf-8"))["automations"]
    names = {value for name, value in vars(result).items() if name.isupper() and isinstance(value, str)}
    assert len(names) == 5
    final = names | {"Completed", "Failed", "Cancelled", "Crashed"}
    assert set(silent["trigger"]["expect"]) == {f"prefect.flow-run.{name}" for name in final | {"heartbeat"}}


def test_of_missed_nights_the_last_one_runs():
    nights = [due(18), due(19), due(20)]
    assert [bool(why_not(night, nights, NOW, "last")) for night in nights] == [True, True, False]
    assert why_not(nights[0], nights, NOW, "last") == "The night of 2026-11-20 02:00 UTC does its work."


@pytest.mark.parametrize(
    ("later", "skipped"),
    [
        (due(20, state=Completed(name="Nothing new")), True),
        (due(20, state=Cancelled()), False),
        (due(20, auto_scheduled=False), False),
    ],
)
def test_a_night_is_left_to_a_later_one_that_was_scheduled_and_not_cancelled(later, skipped):
    assert bool(why_not(due(19), [due(19), later], NOW, "last")) is skipped


def test_no_missed_night_runs_where_none_shall():
    on_time = dt.datetime(2026, 11, 20, 2, 59, tzinfo=dt.UTC)
    assert not why_not(due(20), [due(20)], on_time, "none")
    assert why_not(due(20), [due(20)], NOW, "none") == "It was to begin at 2026-11-20 02:00 UTC."


def test_a_new_deployment_gets_the_configurations_schedule_and_only_the_night_its_cron():
    config = load_config(None, ["schedule.cron=30 3 * * *", "schedule.timezone=Asia/Shanghai", "recovery.alert=a/b"])
    recipe = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))
    made = {one["name"]: wanted(one, None, config) for one in recipe["deployments"]}
    crons = {
        name: [(s["cron"], s["timezone"]) for s in one["schedules"]] for name, one in made.items() if one["schedules"]
    }
    assert crons == {"nightly": [("30 3 * * *", "Asia/Shanghai")], "clean-up": [("0 12 * * 0", "Asia/Shanghai")]}
    assert {name for name, one in made.items() if "alert" in one["parameters"]} == {"recover"}
    without = load_config(None, ["schedule.cron="])
    assert not wanted(recipe["deployments"][0], None, without)["schedules"]


def test_overrides_are_of_a_file(tmp_path):
    file = tmp_path / "my.toml"
    file.write_text("[train]\ntokens = 5\n", encoding="utf-8")
    assert configuration(None, str(file), ["train.tokens=6", "train.tokens=7"]).train.tokens == 7
    with pytest.raises(ConfigError, match="overrides are of a file"):
        configuration(load_config(file), "", ["train.tokens=6"])
