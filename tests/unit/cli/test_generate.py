"""`slimpajama generate`: where a prompt comes from, and what becomes of bad ones."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from slimpajama.cli import run


@pytest.fixture
def generate(one_model: tuple[Path, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run the command in this process; return its exit code, stdout and stderr."""
    monkeypatch.chdir(one_model[0])  # where no configuration lies

    def call(*arguments: str, stdin: bytes = b"") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        common = ("--workspace", str(one_model[0]), "--model", one_model[1], "--max-tokens", "8", "--seed", "1")
        code = run(["generate", *common, *arguments])
        return code, *capsys.readouterr()

    return call


def test_a_prompt_comes_from_the_command_line_a_file_or_stdin(generate: Any, tmp_path: Path):
    (tmp_path / "prompt").write_text("今天\n", encoding="utf-8")
    given = generate("--prompt", "今天", "--json")
    assert given[0] == 0
    assert json.loads(given[1])["prompt"] == "今天"
    assert generate("--prompt-file", str(tmp_path / "prompt"), "--json") == given
    assert generate("--prompt-file", "-", "--json", stdin="今天\r\n".encode()) == given
    # An empty one is the beginning of a document.
    assert generate("--json")[0] == 0


def test_stop_strings_end_the_text(generate: Any):
    text = json.loads(generate("--prompt", "The", "--json")[1])["text"]
    stopped = json.loads(generate("--prompt", "The", "--json", "--stop", "不会有的", "--stop", text[2:4])[1])["text"]
    assert stopped == text[: text.index(text[2:4])]


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("--prompt", "\udcff"), 1, "not valid Unicode"),
        (("--prompt", "a", "--prompt-file", "-"), 2, "not both"),
        (("--prompt-file", "missing"), 1, "missing: cannot be read"),
        (("--stop", ""), 2, "generate.stop.0"),
        (("--min-p", "2"), 2, "generate.min_p"),
        (("--seed", "-1"), 2, "generate.seed"),
    ],
)
def test_what_cannot_be_continued_is_refused_in_one_line(
    generate: Any, arguments: tuple[str, ...], code: int, told: str
):
    found, out, err = generate(*arguments)
    assert (found, out) == (code, "")
    assert told in err
    assert "Traceback" not in err


def test_a_file_that_is_not_utf8_is_refused_by_its_first_wrong_byte(generate: Any):
    assert "not UTF-8 at byte 3" in generate("--prompt-file", "-", stdin="今".encode() + b"\xff")[2]
