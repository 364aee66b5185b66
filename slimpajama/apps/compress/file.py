"""The compressed file: which model it is of, and proofs that what comes out is what went in.

    magic 4 | version 1 | method 1 | fingerprint 32 | bytes 8 | tokens 8 | SHA-256 of the content 32 |
    length 1, model's id, a space and the night of its memory | length 1, machine | code | CRC-32 of all before 4

The fingerprint stands for `model.safetensors`, `config.json`, `tokenizer.json` and what the model remembers. Any damage
is found by the CRC before anything is decoded; a wrong fingerprint tells of another model; and where both are right but
the content is not, this machine adds floats in another order than the one that the header names.
"""

import contextlib
import hashlib
import os
import struct
import uuid
import zlib
from pathlib import Path

import numpy as np
import torch

from slimpajama.apps.compress.coder import MOST_BITS
from slimpajama.apps.compress.streams import decode, encode
from slimpajama.core.errors import CompressedFileError, InputError, unwritable
from slimpajama.model.loading import Loaded
from slimpajama.workspace import layout
from slimpajama.workspace.manifest import Manifest

MAGIC, VERSION = b"\x89SLP", 1
HEAD, CRC = struct.Struct(">4sBB32sQQ32s"), struct.Struct(">I")
CODED, STORED = range(2)


def fingerprint(manifest: Manifest, memory: str = "") -> bytes:
    """Return 32 bytes that change with the weights, the architecture, the tokenizer or the memory.

    Args:
        manifest: The model's.
        memory: Digest of what it remembers; empty where it is the network alone.
    """
    names = ("/model.safetensors", "/config.json", "/tokenizer.json")
    hashes = sorted(
        f"{layout.name_of(entry.path)} {entry.sha256}" for entry in manifest.files if entry.path.endswith(names)
    )
    return hashlib.sha256("\n".join(hashes + [memory] * bool(memory)).encode()).digest()


def compress(data: bytes, loaded: Loaded, print_: bytes) -> bytes:
    """Return the compressed file of any bytes; what the model makes no smaller is stored as it is.

    The model is in float32, and is used on the CPU; `print_` is its `fingerprint`.
    """
    ids = np.array(loaded.tokenizer.encode_bytes(data), np.int64)
    method, code = CODED, encode(loaded.model, loaded.tokenizer, ids)
    if len(code) >= len(data):
        method, code = STORED, data
    used = f"{loaded.id} {loaded.memory}".strip()
    names = b"".join(bytes([len(name)]) + name for name in (used.encode()[:255], _machine().encode()[:255]))
    head = HEAD.pack(MAGIC, VERSION, method, print_, len(data), len(ids), hashlib.sha256(data).digest())
    whole = head + names + code
    return whole + CRC.pack(zlib.crc32(whole))


def memory_of(whole: bytes, model_id: str) -> str | bool:
    """Return the night of the memory that a file was compressed with, if it was by this model; nothing where by none.

    True, for the memory that the model has, where the file is of another model, or none of ours.
    """
    body = whole[HEAD.size :]
    model, _, night = body[1 : 1 + body[0] if body else 0].decode(errors="replace").partition(" ")
    return night if model == model_id and (not night or layout.is_name(night)) else True


def decompress(whole: bytes, loaded: Loaded, print_: bytes, where: str = "") -> bytes:
    """Return what was compressed.

    Raises:
        CompressedFileError: Not such a file, damaged or cut, of another model, or of a machine whose floats differ.
    """
    if whole[:4] != MAGIC:
        raise CompressedFileError("not a file that `slimpajama compress` made", where=where)
    if len(whole) > 4 and whole[4] != VERSION:
        raise CompressedFileError(
            "of another version of the format, or damaged", where=where, expected=str(VERSION), found=str(whole[4])
        )
    body, end = whole[: -CRC.size], whole[-CRC.size :]
    if len(body) < HEAD.size or CRC.pack(zlib.crc32(body)) != end:
        raise CompressedFileError("damaged or cut short: its checksum is wrong", where=where, hint="Copy it again.")
    _, _, method, wanted, n_bytes, tokens, digest = HEAD.unpack_from(body)
    begin, names = HEAD.size, []
    for _ in range(2):
        length = body[begin] if begin < len(body) else 0
        names.append(body[begin + 1 : begin + 1 + length].decode(errors="replace"))
        begin += 1 + length
    if wanted != print_:
        raise CompressedFileError(
            "compressed with another model",
            where=where,
            expected=f"{names[0]} ({wanted.hex()[:12]})",
            found=f"{loaded.id} {loaded.memory}".strip() + f" ({print_.hex()[:12]})",
            hint="Name its model with --model, and its --workspace; or it remembered documents that are forgotten.",
        )
    code = body[begin:]
    if method > STORED or begin > len(body) or tokens > min(n_bytes, MOST_BITS * (len(code) + 8)):
        raise CompressedFileError("holds what no compression writes", where=where, hint="Do not trust its source.")
    if method == STORED:
        data = code
    else:
        data = loaded.tokenizer.decode_bytes(decode(loaded.model, loaded.tokenizer, code, tokens).tolist())
    if len(data) != n_bytes or hashlib.sha256(data).digest() != digest:
        raise CompressedFileError(
            "this machine computes other probabilities",
            where=where,
            expected=names[1],
            found=_machine(),
            hint="Decompress it with the torch and the kind of processor that it was compressed with.",
        )
    return data


def _machine() -> str:
    """Return what the last bits of a float32 matmul depend on."""
    return f"torch {torch.__version__} {torch.backends.cpu.get_cpu_capability()}"


def read_file(path: Path) -> bytes:
    """Return a file's bytes; InputError where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", where=str(path)) from None


def write_file(path: Path, data: bytes) -> None:
    """Write a file whole or not at all; InputError where it cannot be written."""
    temporary = path.with_name(f".{uuid.uuid4().hex}")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise unwritable(error, path, "--out") from None
