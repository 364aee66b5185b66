"""A training that memory cannot hold is refused before it takes any."""

import pytest

from slimpajama.core.config import load_config
from slimpajama.core.errors import ConfigError
from slimpajama.model.train import memory
from slimpajama.model.train.memory import require_memory


@pytest.mark.parametrize(
    "overrides",
    [
        ["model.width=65536"],
        ["model.latent_width=65536"],
        ["model.preset=large", "run.workers=1024", "train.batch_tokens=16777216"],
        ["model.preset=large", "train.processes=4", "train.batch_tokens=16777216", "run.workers=1024"],
    ],
)
def test_sizes_that_no_machine_holds_are_named_with_what_they_would_take(overrides, monkeypatch):
    monkeypatch.setattr(memory, "usable_memory", lambda: 64e9)
    with pytest.raises(ConfigError, match=r"more memory than there is: expected at most 64\.0 GB, found [\d,.]+ GB"):
        require_memory(load_config(None, overrides), 8192)


@pytest.mark.parametrize("preset", ["tiny", "small", "base", "gpt", "article"])
def test_every_preset_for_a_laptop_fits_one_of_8_gb(preset, monkeypatch):
    monkeypatch.setattr(memory, "usable_memory", lambda: 8e9)
    require_memory(load_config(None, [f"model.preset={preset}", "run.workers=8"]), 8192)


def test_processes_that_would_only_wait_for_each_other_are_refused(monkeypatch):
    monkeypatch.setattr(memory.os, "cpu_count", lambda: 2)
    monkeypatch.setattr(memory, "usable_memory", lambda: 64e9)
    require_memory(load_config(None, ["train.processes=8"]), 8192)
    with pytest.raises(ConfigError, match=r"train\.processes: more processes .* at most 8, 4 for a core .* found 9"):
        require_memory(load_config(None, ["train.processes=9"]), 8192)
