from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from slimpajama.config import GenerateConfig
from slimpajama.generate.text import generate_texts, stream_text
from slimpajama.registry import load_model


class Scripted:
    """Stands in for a model: says one list of tokens after another, whatever it is asked."""

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


@pytest.mark.parametrize("prompt", ["", "今天", "The model"])
def test_the_same_seed_gives_the_same_texts_and_the_next_seed_is_the_second_text(trained: Any, prompt: str):
    space, model = trained
    loaded = load_model(space.store, model)
    cfg = GenerateConfig(max_tokens=40, seed=7)
    three = generate_texts(loaded.model, loaded.tokenizer, prompt, cfg, n=3)
    assert generate_texts(loaded.model, loaded.tokenizer, prompt, cfg, n=3) == three
    assert len(set(three)) == 3
    assert generate_texts(loaded.model, loaded.tokenizer, prompt, GenerateConfig(max_tokens=40, seed=8)) == three[1:2]
    assert all("\ufffd" not in text for text in three)
