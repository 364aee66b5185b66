"""Who may reach the server."""

from __future__ import annotations

from pathlib import Path

import pytest

from slimpajama.errors import ConfigError
from slimpajama.serve.server import TOKEN_VARIABLE, is_loopback, listen, read_token


@pytest.mark.parametrize(
    ("host", "answer"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True),
     ("0.0.0.0", False), ("::", False), ("", False), ("192.168.1.1", False), ("localhost.example", False)],
)  # fmt: skip
def test_only_this_machine_is_loopback(host: str, answer: bool):
    assert is_loopback(host) is answer


def test_a_token_comes_from_a_file_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    assert read_token(None) is None
    monkeypatch.setenv(TOKEN_VARIABLE, "from-the-environment")
    assert read_token(None) == "from-the-environment"
    (tmp_path / "token").write_text("out-of-a-file-123\n")
    assert read_token(tmp_path / "token") == "out-of-a-file-123"


@pytest.mark.parametrize(
    "data", [b"", b"short", b"with a space in the middle", "令牌令牌令牌令牌令牌".encode(), b"\xff" * 20]
)
def test_what_is_no_token_is_refused_and_not_quoted(tmp_path: Path, data: bytes):
    (tmp_path / "token").write_bytes(data)
    with pytest.raises(ConfigError) as caught:
        read_token(tmp_path / "token")
    assert not data or data.decode(errors="replace") not in str(caught.value)
    with pytest.raises(ConfigError, match="no token can be read"):
        read_token(tmp_path / "missing")


def test_an_address_that_is_taken_is_an_error_for_the_user():
    with listen("127.0.0.1", 0) as taken, pytest.raises(ConfigError, match="cannot listen"):
        listen("127.0.0.1", taken.getsockname()[1])
