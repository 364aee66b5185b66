from __future__ import annotations

import sys
from pathlib import Path

import pytest

from slimpajama.cli import run
from slimpajama.core.errors import ConfigError
from slimpajama.core.extras import require_extra


def test_a_missing_package_is_named_with_its_extra():
    with pytest.raises(ConfigError, match=r"no_such_package: needs the extra `eval`. pip install 'slimpajama\[eval\]'"):  # noqa: SIM117
        with require_extra("eval", "no_such_package"):
            import no_such_package.part  # type: ignore[import-not-found]  # noqa: F401


def test_another_missing_module_is_a_defect_and_keeps_its_name():
    with pytest.raises(ModuleNotFoundError, match="no_such_module"), require_extra("eval", "lm_eval"):
        import no_such_module  # type: ignore[import-not-found]  # noqa: F401


def test_without_the_harness_lm_eval_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    for name in [
        name for name in sys.modules if name.partition(".")[0] == "lm_eval" or name == "slimpajama.apps.harness"
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    assert run(["lm-eval", "--tasks", "zh_words", "--workspace", str(tmp_path)]) == 2
    assert "pip install 'slimpajama[eval]'" in capsys.readouterr().err
