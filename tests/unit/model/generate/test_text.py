from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from slimpajama.core.config import GenerateConfig
from slimpajama.core.errors import InputError
from slimpajama.model.generate.text import Tally, generate_texts, held_back, stop_place, stream_text
from slimpajama.model.loading import load_model
from slimpajama.workspace.open import Workspace


class Scripted:
    """Stands in for a model: says one list of tokens after another, whatever it is asked."""

    row_tokens = 64

    def __init__(self, *tokens: int) -> None:
        self.tokens, self.prompt = list(tokens), []

    def _logits(self) -> Tensor:
        logits_1V = torch.zeros(1, 257)
        logits_1V[0, self.tokens.pop(0)] = 100.0
        return logits_1V

    def start(self, tokens_1T: Tensor) -> tuple[None, Tensor]:
        self.prompt = tokens_1T[0].tolist()
        return None, self._logits()

    def step(self, _: None, __: Tensor) -> Tensor:
        return self._logits()


class Bytes:
    """Stands in for a tokenizer: one token a byte, and 256 before each document."""

    document_id = 256
    pieces = (*(bytes([byte]) for byte in range(256)), b"")

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def decode_bytes(self, ids: list[int]) -> bytes:
        return bytes(ids)


def continued(*tokens: int) -> list[str]:
    return list(stream_text(Scripted(*tokens), Bytes(), "", GenerateConfig(temperature=0, max_tokens=len(tokens))))


def test_pieces_are_whole_characters_though_tokens_are_not():
    assert continued(*"今a天".encode()) == ["今", "a", "天"]


def test_a_space_that_ends_the_prompt_becomes_the_first_token_and_is_not_said_twice():
    model = Scripted(*b" cat")
    cfg = GenerateConfig(temperature=0, max_tokens=4)
    assert "".join(stream_text(model, Bytes(), "The ", cfg)) == "cat"
    assert model.prompt == [256, *b"The"]
    assert "".join(stream_text(Scripted(*b"xcat"), Bytes(), "今天 ", cfg)).endswith("cat")  # x is not allowed
    assert "".join(stream_text(Scripted(*b"cat"), Bytes(), " ", replace(cfg, max_tokens=3))) == "cat"


def test_a_character_that_is_unfinished_at_the_end_is_left_out():
    assert continued(*"好天".encode()[:5]) == ["好"]


def test_bytes_of_no_character_are_left_out():
    assert "".join(continued(0xFF, *b"ok", 0xE4, *"好".encode())) == "ok好"


def test_the_text_ends_with_the_document():
    assert continued(*b"end", 256, *b"next") == list("end")


def test_the_prompt_follows_the_document_token_and_is_not_repeated():
    model = Scripted(*b"!")
    assert generate_texts(model, Bytes(), "你好", GenerateConfig(temperature=0, max_tokens=1)) == ["!"]
    assert model.prompt == [256, *"你好".encode()]


def stopped(text: str, *stop: str) -> tuple[list[str], Tally]:
    """Return the pieces of a model that says `text` byte by byte, and their tally."""
    tokens = [*text.encode(), 256]
    tally = Tally()
    cfg = GenerateConfig(temperature=0, max_tokens=len(tokens), stop=stop)
    return list(stream_text(Scripted(*tokens), Bytes(), "", cfg, tally)), tally


def test_a_text_ends_before_a_stop_string_and_no_beginning_of_it_is_said_before_it_is_decided():
    pieces, tally = stopped("今天天气很好", "天气", "\n")
    assert pieces == ["今", "天"]
    assert (tally.tokens, tally.finish_reason) == (12, "stop")
    assert stopped("a word. And", ". A", "zzz")[0] == list("a word")


def test_what_turns_out_to_be_no_stop_string_is_said_after_all():
    assert stopped("ab-ac", "abc", "-a!")[0] == ["ab", "-ac"]
    # The text ends while it waits.
    assert stopped("end of 句", "句子")[0][-1] == "句"


def test_a_stop_string_in_the_middle_of_a_token_ends_the_text_there():
    class Words(Bytes):
        pieces = (b"one. two", "三。四".encode(), b"", *[b""] * 253, b"")

        def decode_bytes(self, ids: list[int]) -> bytes:
            return b"".join(self.pieces[index] for index in ids)

    cfg = GenerateConfig(temperature=0, max_tokens=2)
    assert list(stream_text(Scripted(0, 1), Words(), "", replace(cfg, stop=(".",)))) == ["one"]
    assert list(stream_text(Scripted(0, 1), Words(), "", replace(cfg, stop=("。",)))) == ["one. two", "三"]


@given(st.text("ab今", max_size=20), st.lists(st.text("ab今", min_size=1, max_size=4), max_size=3))
def test_the_stopped_text_does_not_depend_on_the_pieces_and_holds_no_stop_string(text: str, stop: list[str]):
    said = "".join(stopped(text, *stop)[0])
    place = stop_place(text, stop)
    assert said == (text if place is None else text[:place])
    assert not any(word in said for word in stop)
    assert held_back(text, stop) == max(
        (n for n in range(len(text) + 1) for word in stop if n < len(word) and text[len(text) - n :] == word[:n]),
        default=0,
    )


def test_the_tally_says_why_a_text_ended():
    assert stopped("ok")[1] == Tally(prompt_tokens=1, tokens=2, finish_reason="stop")
    tally = Tally()
    list(stream_text(Scripted(*b"abc"), Bytes(), "今", GenerateConfig(temperature=0, max_tokens=3), tally))
    assert tally == Tally(prompt_tokens=4, tokens=3, finish_reason="length")


def test_of_a_long_prompt_the_end_is_read():
    model = Scripted(*b"!")
    list(stream_text(model, Bytes(), "前" * 1_000_000 + "end", GenerateConfig(temperature=0, max_tokens=1)))
    assert model.prompt[-3:] == [*b"end"]
    assert model.row_tokens <= len(model.prompt) < 10_000


def test_control_characters_are_read_as_they_are_and_half_a_character_is_refused():
    model = Scripted(*b"!")
    cfg = GenerateConfig(temperature=0, max_tokens=1)
    assert "".join(stream_text(model, Bytes(), "\x00\x1b[2J\r", cfg)) == "!"
    assert model.prompt == [256, *b"\x00\x1b[2J\r"]
    with pytest.raises(InputError, match="not valid Unicode"):
        stream_text(model, Bytes(), b"\xff\xfe".decode(errors="surrogateescape"), cfg)


@pytest.mark.parametrize("prompt", ["", "今天", "The model"])
def test_the_same_seed_gives_the_same_texts_and_the_next_seed_is_the_second_text(trained: Any, prompt: str):
    space, model = trained
    loaded = load_model(Workspace(space.store), model)
    cfg = GenerateConfig(max_tokens=40, seed=7)
    three = generate_texts(loaded.model, loaded.tokenizer, prompt, cfg, n=3)
    assert generate_texts(loaded.model, loaded.tokenizer, prompt, cfg, n=3) == three
    assert len(set(three)) == 3
    assert generate_texts(loaded.model, loaded.tokenizer, prompt, GenerateConfig(max_tokens=40, seed=8)) == three[1:2]
    assert all("\ufffd" not in text for text in three)
