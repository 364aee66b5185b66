"""Any bytes come back exactly, and nothing else ever does."""

from __future__ import annotations

import os
import subprocess
import sys
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from slimpajama.apps.compress import file as files
from slimpajama.core.config import ModelConfig
from slimpajama.core.errors import CompressedFileError, InputError
from slimpajama.model.architectures import build
from slimpajama.model.loading import Loaded
from slimpajama.model.memory.contexts import Corpus
from slimpajama.model.memory.model import Memory, RememberingModel, outlook_of, places_in
from slimpajama.model.memory.weights import learn
from slimpajama.text.suffixes import suffixes_of
from slimpajama.workspace.manifest import FileEntry, Manifest

MARK = b"m" * 32
TEXT = "今天天气很好。The weather is fine.\n" * 12


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"a",
        b"\x00" * 99,
        b"\xff",
        b"\x1f\x1f",
        b"\r\n" * 20,
        bytes(range(256)),
        b"<|document|>" * 9,
        TEXT.encode(),
        TEXT.encode()[:-2] + b"\xe4\xbb",
        "好".encode()[:2] * 30,
        b"\xed\xa0\x80",
        b"\xef\xbb\xbf\xed\xb2\x80 \x1f\xc0\x80",
    ],
)
def test_awkward_bytes_come_back(loaded: Loaded, data: bytes):
    assert files.decompress(files.compress(data, loaded, MARK), loaded, MARK) == data


@given(st.one_of(st.binary(max_size=60), st.text(max_size=30).map(str.encode)))
@settings(max_examples=30)
def test_any_bytes_come_back(loaded: Loaded, data: bytes):
    assert files.decompress(files.compress(data, loaded, MARK), loaded, MARK) == data


def test_several_streams_come_back(loaded: Loaded, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("slimpajama.apps.compress.streams.LEAST_TOKENS", 20)
    # The last stream is shorter than the others, or not.
    for extra in range(4):
        data = TEXT.encode() + b"x" * extra
        assert files.decompress(files.compress(data, loaded, MARK), loaded, MARK) == data


def test_repetition_is_learnt_from_the_file_itself(loaded: Loaded):
    assert len(files.compress(TEXT.encode() * 4, loaded, MARK)) < len(TEXT.encode() * 4) / 4


def test_what_cannot_be_compressed_grows_by_the_header_only(loaded: Loaded):
    noise = torch.randint(0, 256, (200,), generator=torch.Generator().manual_seed(0)).tolist()
    assert len(files.compress(bytes(noise), loaded, MARK)) < 200 + 160


def test_every_cut_and_every_flipped_bit_is_refused(loaded: Loaded):
    whole = files.compress(TEXT.encode(), loaded, MARK)
    for end in range(len(whole)):
        with pytest.raises(CompressedFileError):
            files.decompress(whole[:end], loaded, MARK)
    for place in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[place // 8] ^= 1 << place % 8
        with pytest.raises(CompressedFileError):
            files.decompress(bytes(damaged), loaded, MARK)
    with pytest.raises(CompressedFileError, match="damaged"):
        files.decompress(whole + b"\n", loaded, MARK)


@pytest.mark.parametrize(
    ("method", "sizes", "rest"),
    [
        (0, (5, 5), b""),
        (0, (5, 5), b"\x09a"),
        (0, (1 << 60, 1 << 60), b"\0\0code"),
        (0, (3, 4), b"\0\0code"),
        (7, (3, 3), b"\0\0c"),
    ],
)
def test_a_head_that_no_compression_writes_is_refused_at_once(
    loaded: Loaded, method: int, sizes: tuple[int, int], rest: bytes
):
    """Whoever makes such a file makes its checksum, too."""
    body = files.HEAD.pack(files.MAGIC, files.VERSION, method, MARK, *sizes, b"d" * 32) + rest
    with pytest.raises(CompressedFileError, match="no compression writes"):
        files.decompress(body + files.CRC.pack(zlib.crc32(body)), loaded, MARK)


def test_another_model_is_refused_by_name(loaded: Loaded):
    whole = files.compress(b"abc", loaded, MARK)
    with pytest.raises(CompressedFileError, match=r"another model: expected a-model .*found b-model .*--model"):
        files.decompress(whole, replace(loaded, id="b-model"), b"o" * 32)


def test_other_probabilities_are_found_and_nothing_is_returned(loaded: Loaded):
    """What a machine that adds floats in another order amounts to."""
    other = build(ModelConfig(preset="tiny", width=32, row_tokens=16), loaded.tokenizer.vocab_size, seed=1).eval()
    whole = files.compress(TEXT.encode(), loaded, MARK)
    with pytest.raises(CompressedFileError, match="other probabilities"):
        files.decompress(whole, replace(loaded, model=other), MARK)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_the_fingerprint_changes_with_each_file_of_the_model(name: str):
    names = ["model.safetensors", "config.json", "tokenizer.json", "README.md"]

    def mark(changed: str) -> bytes:
        entries = (FileEntry(f"models/m/{n}", "1" if n == changed else "0", 1) for n in names)
        return files.fingerprint(Manifest("train", "", tuple(entries), {}, {}))

    assert mark(name) != mark("")
    assert mark("README.md") == mark("")


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path):
    files.write_file(tmp_path / "f", b"one")
    files.write_file(tmp_path / "f", b"two")
    assert (tmp_path / "f").read_bytes() == b"two"
    assert [path.name for path in tmp_path.iterdir()] == ["f"]
    with pytest.raises(InputError, match="cannot be written"):
        files.write_file(tmp_path / "none" / "f", b"x")
    with pytest.raises(InputError, match="cannot be read"):
        files.read_file(tmp_path / "none")


PROCESS = """
import sys, torch
torch.set_num_threads(int(sys.argv[1]))
from slimpajama.apps.compress import file
from slimpajama.core.config import ModelConfig
from slimpajama.model.architectures import build
from slimpajama.model.loading import Loaded
from slimpajama.model.memory.contexts import Corpus
from slimpajama.model.memory.model import Memory, RememberingModel, outlook_of, places_in
from slimpajama.model.memory.weights import learn
from slimpajama.text.suffixes import suffixes_of
from slimpajama.text.tokenizer import Tokenizer
tokenizer = Tokenizer.load(sys.stdin.buffer.read())
model = build(ModelConfig(preset="tiny", width=32, row_tokens=16), tokenizer.vocab_size, seed=0).eval()
data = "今天天气很好。The weather is fine.".encode() * 9
made = file.compress(data, Loaded("a-model", model, tokenizer, {}), b"m" * 32)
sys.stdout.buffer.write(made)
"""


def test_processes_with_other_hash_seeds_and_threads_make_the_same_file(loaded: Loaded):
    made = [
        subprocess.run(
            [sys.executable, "-c", PROCESS, threads],
            input=loaded.tokenizer.json,
            capture_output=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
        ).stdout
        for seed, threads in (("1", "1"), ("2", "2"))
    ]
    assert made[0] == made[1]
    assert files.decompress(made[0], loaded, MARK) == "今天天气很好。The weather is fine.".encode() * 9


@pytest.fixture(scope="module")
def remembering(loaded: Loaded) -> Loaded:
    """The model with a memory of a few documents in both languages."""
    tokenizer, vocab_size = loaded.tokenizer, loaded.tokenizer.vocab_size
    texts = ["今天天气很好。" * 3, "the weather is fine.\n" * 3, "the weather is not fine, 今天很冷。"]
    ids = [tokenizer.document_id, *(i for text in texts for i in [*tokenizer.encode(text), tokenizer.document_id])]
    corpus = Corpus([suffixes_of(np.array(ids), vocab_size, tokenizer.document_id)], 4)
    rows = np.array(ids[: len(ids) // 16 * 16]).reshape(-1, 16)
    contexts, _ = corpus.ask(places_in(rows, tokenizer.document_id))
    weights = learn(contexts, outlook_of(loaded.model, torch.from_numpy(rows)), vocab_size)
    model = RememberingModel(loaded.model, Memory(corpus, weights)).eval()
    return replace(loaded, model=model, memory="2026-01-01", memory_digest="1a2b")


@pytest.mark.parametrize("data", [b"", b"\xff\x00" * 9, TEXT.encode()])
def test_what_a_memory_helped_to_compress_comes_back(loaded: Loaded, remembering: Loaded, data: bytes):
    manifest = Manifest("train", "", (), {}, {})
    mark = files.fingerprint(manifest, remembering.memory_digest)
    packed = files.compress(data, remembering, mark)
    assert files.decompress(packed, remembering, mark) == data
    with pytest.raises(CompressedFileError, match="compressed with another model"):
        files.decompress(packed, loaded, files.fingerprint(manifest))


def test_a_file_names_the_memory_that_it_needs(loaded: Loaded, remembering: Loaded):
    assert files.memory_of(files.compress(b"abc", loaded, MARK), loaded.id) == ""
    packed = files.compress(b"abc", remembering, MARK)
    assert files.memory_of(packed, loaded.id) == "2026-01-01"
    assert files.memory_of(packed, "another-model") is True
    assert files.memory_of(packed.replace(b"2026-01-01", b"../../x/01"), loaded.id) is True
    assert files.memory_of(b"", loaded.id) is True
