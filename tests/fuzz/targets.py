"""What must hold of any bytes: one function a surface, from bytes to nothing, which raises where it does not hold.

Where several inputs share a function, the first byte chooses among them. `run.py` calls these under atheris;
`tests/unit/test_fuzz_corpus.py` over the kept corpus.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import itertools
import json
import math
import struct
import tempfile
import unicodedata
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from functools import cache, partial
from pathlib import Path
from typing import Any

import jieba
import numpy as np
import pyarrow as pa
import safetensors.torch
import torch
import zstandard

from slimpajama.apps.compress import file as compressed
from slimpajama.apps.compress.coder import ONE, PLACE, decode_bit, encode_bit, finish, new_coder, start_decoding
from slimpajama.core.config import (
    CleanConfig,
    DedupConfig,
    ModelConfig,
    PairSourceConfig,
    TextConfig,
    TokenizerConfig,
    load_config,
)
from slimpajama.core.errors import CompressedFileError, ConfigError, ModelError, SlimpajamaError, StorageError
from slimpajama.corpus.clean.normalise import rewrite
from slimpajama.corpus.clean.quality import measure
from slimpajama.corpus.clean.rules import PRESETS, first_verdicts, judge
from slimpajama.corpus.dedup.jaccard import jaccard
from slimpajama.corpus.dedup.kernel import sketch
from slimpajama.corpus.dedup.normalise import normalise, normalise_block
from slimpajama.corpus.pairs.records import FORMATS, Pair, read_pairs
from slimpajama.corpus.sources import files, streams
from slimpajama.corpus.sources.records import ReadOptions, RejectedRecord
from slimpajama.model.architectures import build
from slimpajama.model.loading import Loaded, load_exported
from slimpajama.text.lattice import WORD_BYTES
from slimpajama.text.segment import Segmenter, parse_user_dictionary
from slimpajama.text.tokenizer import SEPARATOR, Tokenizer, train_tokenizer
from slimpajama.workspace.local import LocalStore
from slimpajama.workspace.manifest import json_bytes, load_manifest
from slimpajama.workspace.registry import Models
from tests.unit.office import docx, epub
from tests.unit.words_by_rule import by_rule

# Bytes of a record here.
LIMIT = 2000
ZH, EN = "今天天气很好，我们去公园。", "The weather is fine today."
PACK: tuple[tuple[str, Callable[[bytes], bytes]], ...] = (
    (".gz", partial(gzip.compress, mtime=0)),
    (".bz2", bz2.compress),
    (".zst", zstandard.compress),
)


@contextmanager
def may_refuse(*errors: type[SlimpajamaError]) -> Iterator[None]:
    """Let errors of these classes end a block; each is one line that is safe to print."""
    try:
        yield
    except errors as error:
        if not str(error).isprintable():
            raise AssertionError(repr(str(error))) from error


def opened(data: bytes) -> Callable[[], io.BytesIO]:
    """Return what opens these bytes as a file."""
    return lambda: io.BytesIO(data)


# Readers


def found_in(name: str, data: bytes, batch_bytes: int) -> tuple[list[dict[str, Any]], list[RejectedRecord]]:
    """Return the records of a file and what is bad in it, each in order; both are valid and bounded."""
    rows, bad = [], []
    options = ReadOptions(
        max_document_bytes=LIMIT, id_field="id", batch_bytes=batch_bytes, batch_rows=1 + batch_bytes // 64
    )
    for batch in files.read(opened(data), name, options):
        batch.table.validate(full=True)
        rows += batch.table.to_pylist()
        bad += batch.rejected
    assert rows or bad
    assert all(0 < len(row["text"].encode()) <= LIMIT and not row["text"].isspace() for row in rows)
    assert all(item.rule and (item.place + item.value + item.threshold).isprintable() for item in bad)
    numbers = [row["number"] for row in rows]
    assert numbers == sorted(set(numbers))
    return rows, bad


def read_alike(name: str, data: bytes) -> None:
    """Check that neither the size of batches nor a packing shows: both decide which way a record is read."""
    expected = found_in(name, data, 1 << 20)
    assert found_in(name, data, 40) == expected
    assert found_in(f"{name}.gz", gzip.compress(data, 1), 1 << 20) == expected


def jsonl(data: bytes) -> None:
    """JSON lines: a line is read alike, whichever lines stand beside it."""
    read_alike("a.jsonl", data)


def csv(data: bytes) -> None:
    """CSV: by Arrow and by Python the same rows."""
    # Beyond it a cut may fall inside a row that is too long.
    if len(data) <= LIMIT:
        read_alike("a.csv", data)


def warc(data: bytes) -> None:
    """WARC: an archive is read alike, packed or not, and nothing of it goes to the terminal."""
    with redirect_stderr(io.StringIO()) as shown:
        read_alike("a.warc", data)
    assert all(line.startswith("Error -") for line in shown.getvalue().splitlines())  # zlib's own words


def tables(data: bytes) -> None:
    """Parquet and Arrow: damaged metadata gives bad records and nothing else."""
    name = ("a.parquet", "a.arrow")[data[0] % 2] if data else "a.arrow"
    assert found_in(name, data[1:], 40) == found_in(name, data[1:], 40)


def html(data: bytes) -> None:
    """Web pages: one record, of lines that are not empty."""
    rows, bad = found_in("a.html", data, 40)
    assert len(rows) + len(bad) == 1
    for row in rows:
        assert all(line and line == line.strip(" ") and "\x1e" not in line for line in row["text"].split("\n"))


def documents(data: bytes) -> None:
    """PDF, docx and epub, of any bytes or of any XML inside a whole package: one record, in or refused."""
    how, body = data[0] % 8 if data else 0, data[1:]
    text = body.decode(errors="replace")
    made = (
        # A PDF starts a process.
        ("a.pdf", body),
        ("a.docx", body),
        ("a.epub", body),
        ("a.docx", docx(text)),
        ("a.docx", docx("", **{"word/document.xml": text})),
        ("a.epub", epub(text, f"<p>{ZH}")),
        ("a.epub", epub(f"<p>{EN}", **{"O/b.opf": text})),
        ("a.epub", epub(f"<p>{EN}", **{"META-INF/encryption.xml": text})),
    )
    rows, bad = found_in(*made[how], 40)
    assert len(rows) + len(bad) == 1


def packed(data: bytes) -> None:
    """Packed streams: all of it comes back; cut or damaged, what precedes that, and an error."""
    if len(data) < 4:
        return
    suffix, pack = PACK[data[0] % 3]
    how, place, parts = data[0] // 3 % 4, data[1] * 256 + data[2], data[3:].split(b"\xff\xff")
    plain, whole = b"".join(parts), b"".join(map(pack, parts))
    place %= len(whole)
    if how == 0:
        assert unpacked(suffix, whole) == (plain, "")
    elif how == 1:
        got, rule = unpacked(suffix, whole[:place])
        ends = {len(b"".join(map(pack, parts[:n]))) for n in range(len(parts))}
        assert plain.startswith(got)
        assert bool(rule) == (place not in ends)
    elif how == 2:
        damaged = whole[:place] + bytes([whole[place] ^ (1 << data[1] % 8)]) + whole[place + 1 :]
        got, rule = unpacked(suffix, damaged)
        assert rule or got == plain or suffix == ".zst"  # which has no checksum
    else:
        unpacked(suffix, data[3:])


def unpacked(suffix: str, data: bytes) -> tuple[bytes, str]:
    """Return what comes out of a packed stream, and which rule it broke in the end."""
    got = b""
    try:
        for part in streams.blocks(io.BytesIO(data), f"a{suffix}"):
            assert 0 < len(part) <= 1 << 24
            got += part
    except streams.BrokenStreamError as error:
        return got, error.rule
    return got, ""


def pairs(data: bytes) -> None:
    """Pairs: valid texts or bad records; the same of a file that is packed."""
    endings = sorted(FORMATS)
    ending = endings[data[0] % len(endings)] if data else ".po"
    source = PairSourceConfig(name="p", uri="p", task="translation", fields={"group": "meta.path"})
    found = list(read_pairs(opened(data[1:]), f"a{ending}", source))
    assert found
    for item in found:
        if isinstance(item, Pair):
            assert "".join((item.source, *item.targets, item.question, item.group)).encode() is not None
            assert len(set(item.targets)) == len(item.targets)
        else:
            assert item.rule
            assert (item.place + item.value + item.threshold).isprintable()
    again = list(read_pairs(opened(gzip.compress(data[1:], 1)), f"a{ending}.gz", source))
    assert [item for item in again if isinstance(item, Pair)] == [item for item in found if isinstance(item, Pair)]


# Texts


def clean(data: bytes) -> None:
    """Normalising, masking, measuring: each text as if alone, in the one form; the rules agree both ways."""
    option = data[0] if data else 0
    cfg = CleanConfig(
        fold_width=bool(option & 1),
        mask_pii=bool(option & 2),
        mask_also=("landline", "bank_card", "qq", "wechat") if option & 64 else (),
        simplify=bool(option & 4),
        preset=sorted(PRESETS)[option // 8 % len(PRESETS)],
    )
    texts = [part.decode(errors="replace") for part in data[1:].split(b"\0", 2)]
    written, masked = rewrite(pa.array(texts, pa.large_string()), cfg)
    written.validate(full=True)
    alone = [rewrite(pa.array([text], pa.large_string()), cfg) for text in texts]
    assert written.to_pylist() == [text for single, _ in alone for text in single.to_pylist()]
    assert masked == sum((counts for _, counts in alone), type(masked)())
    # OpenCC may find a phrase in what it has written.
    if not cfg.simplify:
        assert all(unicodedata.is_normalized("NFC", text) for text in written.to_pylist())
        assert rewrite(written, cfg)[0] == written
    langs, n_chars, quality = measure(written)
    rows = quality.to_pylist()
    assert list(n_chars) == [len(text) for text in written.to_pylist()]
    for row in rows:
        assert all(math.isfinite(value) and value >= 0 for value in row.values())
        shares = [name for name in row if name.startswith(("dup_", "top_")) or name.endswith(("_share", "_lines"))]
        assert all(row[name] <= 1 for name in shares)
    first = first_verdicts(quality, langs, cfg)
    for number, (row, lang) in enumerate(zip(rows, langs, strict=True)):
        failed = [verdict for verdict in judge(row, lang, cfg) if not verdict.passed]
        assert first.get(number) == (failed[0] if failed else None)


@cache
def definition() -> jieba.Tokenizer:
    """The package jieba itself."""
    tokenizer = jieba.Tokenizer()
    tokenizer.FREQ, tokenizer.total = tokenizer.gen_pfdict(tokenizer.get_dict_file())
    tokenizer.initialized = True
    return tokenizer


@cache
def small_model() -> Loaded:
    """A tiny model that has learnt nothing, with a vocabulary of both languages."""
    torch.set_num_threads(1)
    words = Segmenter(TextConfig()).cut(f"{ZH}{EN}\n" * 9)
    tokenizer = Tokenizer.load(train_tokenizer([SEPARATOR.join(words)], TokenizerConfig(vocab_size=300)))
    model = build(ModelConfig(preset="tiny", width=32, row_tokens=16), tokenizer.vocab_size, seed=0).eval()
    return Loaded("m", model, tokenizer, {})


def check_each(tokenizer: Tokenizer, words: list[str]) -> None:
    """Check that the kernel gives each word the ids that the library does."""
    ids, begins = tokenizer.encode_each(pa.array(words, pa.string()))
    assert [ids[a:b].tolist() for a, b in itertools.pairwise(begins)] == tokenizer.encode_joined(words)


def words(data: bytes) -> None:
    """Segmentation and vocabulary: words join back to the text, as jieba cuts them; ids to any bytes."""
    hmm = bool(data[0] & 1) if data else True
    text, segmenter = data[1:].decode("utf-8", "surrogateescape"), Segmenter(TextConfig(hmm=hmm))
    cut = segmenter.cut(text)
    assert "".join(cut) == text
    assert all(0 < len(word.encode("utf-8", "surrogatepass")) <= WORD_BYTES for word in cut)
    assert cut == by_rule(text, lambda piece, guess: list(definition().cut(piece, HMM=guess)), hmm)
    tokenizer = small_model().tokenizer
    ids = tokenizer.encode_bytes(data)
    assert tokenizer.decode_bytes(ids) == data
    assert max(ids, default=0) < tokenizer.vocab_size
    valid = [word for word in segmenter.cut(data[1:].decode(errors="replace")) if SEPARATOR not in word]
    check_each(tokenizer, valid)
    user_words, refused = parse_user_dictionary(data)
    assert all(-1 <= word.seen < 10**9 for word in user_words)
    assert len(user_words) + len(refused) <= len(data.splitlines())


def dedup(data: bytes) -> None:
    """Sketches and similarity: each text as if alone, in any block; equal texts, and those alone, have equal hashes."""
    parts = data[1:].split(b"\0")[:6]
    raw = np.frombuffer(b"".join(parts), np.uint8)
    ends = np.cumsum([0, *map(len, parts)])
    # Bytes that are no UTF-8 among them.
    block = normalise_block(ends, raw)
    assert block.byte_offsets[-1] <= 2 * len(raw)
    texts = [part.decode(errors="replace") for part in parts]
    array, plain = pa.array(texts, pa.large_string()), [normalise(text) for text in texts]
    option = data[0] if data else 0
    cfg = DedupConfig(
        sketch=("oph", "datasketch")[option & 1], drop_punctuation=bool(option & 2), ngram_chars=1 + option // 4 % 16
    )
    found = sketch(array, cfg)
    for number in range(len(texts)):
        single = sketch(array.slice(number, 1), cfg)
        assert all(np.array_equal(a[number], b[0]) for a, b in zip(found, single, strict=True))
    pairs = np.array([(a, b) for a in range(len(texts)) for b in range(len(texts))])
    alike = jaccard(array, pairs, cfg.ngram_chars).reshape(len(texts), -1)
    assert np.array_equal(alike, alike.T)
    for a, b in pairs.tolist():
        if not cfg.drop_punctuation:
            same = plain[a] == plain[b]
            assert np.array_equal(found.content[a], found.content[b]) == same
            assert alike[a, b] == 1 or not same
            assert np.array_equal(found.keys[a], found.keys[b]) or not same
            assert found.n_chars[a] == len(plain[a])


# Codes and files of models


def code(data: bytes) -> None:
    """Arithmetic coder: bits come back, and any bytes are read to an end."""
    given = [(data[i] & 1, data[i + 1] << 8 | data[i + 2]) for i in range(0, len(data) - 2, 3)]
    chances = [min(max(p, 1), ONE - 1) for _, p in given]
    bits = [bit for bit, _ in given]
    assert decoded(encoded(bits, chances), chances) == bits
    free = decoded(data, chances)
    assert decoded(encoded(free, chances), chances) == free


def encoded(bits: list[int], chances: list[int]) -> bytes:
    """Return the code of bits that are one with these chances."""
    coder, data = new_coder(), np.zeros(8 * len(bits) + 8, np.uint8)
    for bit, p in zip(bits, chances, strict=True):
        encode_bit(coder, data, bit, p)
    return data[: int(coder[PLACE])].tobytes() + finish(coder)


def decoded(data: bytes, chances: list[int]) -> list[int]:
    """Return the bits of a code."""
    coder, array = new_coder(), np.frombuffer(bytearray(data), np.uint8)
    start_decoding(coder, array)
    return [int(decode_bit(coder, array, p)) for p in chances]


MARK = b"m" * 32


def compress(data: bytes) -> None:
    """Compressed files: any bytes come back; a file made by an enemy, checksum included, gives a clear error."""
    # A token is a step of the model.
    plain = data[:40]
    whole = compressed.compress(plain, small_model(), MARK)
    assert compressed.decompress(whole, small_model(), MARK) == plain
    digest = hashlib.sha256(b"").digest()
    # What lies between takes its time.
    few, shift = (data[0] % 99, data[1] % 25) if len(data) > 1 else (1, 0)
    sizes = struct.pack(">QQ", few, few if data[:1] < b"\x80" else 1 << 40 + shift - 1)
    for body in (data, whole[:4] + data, whole[:6] + MARK + sizes + digest + data[2:]):
        for file in (body, body + compressed.CRC.pack(zlib.crc32(body))):
            with may_refuse(CompressedFileError):
                compressed.decompress(file, small_model(), MARK)


def patched(whole: bytes, data: bytes) -> bytes:
    """Return a JSON file with the members of another over its own, two levels deep; what is no object, as it is."""
    try:
        changes, found = json.loads(data), json.loads(whole)
    except (ValueError, RecursionError):
        return data
    if not isinstance(changes, dict):
        return data
    for name, value in changes.items():
        inner = found.get(name)
        found[name] = inner | value if isinstance(inner, dict) and isinstance(value, dict) else value
    return json.dumps(found).encode()


def tokenizer(data: bytes) -> None:
    """`tokenizer.json`: refused, or it encodes every byte of any text and in both ways alike."""
    with may_refuse(ModelError):
        found = Tokenizer.load(patched(small_model().tokenizer.json, data))
        for text in (f"{ZH} {EN}\n<|document|>".encode(), data[:100]):
            ids = found.encode_bytes(text)
            assert found.decode_bytes(ids) == text
            assert max(ids, default=0) < found.vocab_size
        check_each(found, ["天气", " weather", "<|document|>"])
        assert found.document_id < found.vocab_size


def model(data: bytes) -> None:
    """An exported model's folder with a hostile `config.json` or weights: refused, or it reads a text."""
    loaded = small_model()
    config = {"id": "m", "text": {}, "model": {"preset": "tiny", "width": 32, "row_tokens": 16}}
    wanted = {
        "tokenizer.json": loaded.tokenizer.json,
        "model.safetensors": safetensors.torch.save(loaded.model.state_dict()),
    }
    if data[:1] == b"\1":
        wanted["model.safetensors"] = data[1:]
    # A file's head is its length in eight bytes and JSON.
    if data[:1] == b"\2":
        weights = wanted["model.safetensors"]
        size = int.from_bytes(weights[:8], "little")
        head = patched(weights[8 : 8 + size], data[1:])
        wanted["model.safetensors"] = len(head).to_bytes(8, "little") + head + weights[8 + size :]
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in wanted.items()}
    whole = json.dumps(config | {"sha256": hashes}).encode()
    wanted["config.json"] = patched(whole, data[1:]) if data[:1] not in (b"\1", b"\2") else whole
    folder = scratch()
    for name, content in wanted.items():
        (folder / name).write_bytes(content)
    with may_refuse(ModelError, ConfigError):
        found = load_exported(folder)
        ids = torch.tensor([found.tokenizer.encode(f"{ZH}{EN}"[:3])])
        assert found.model.start(ids)[1].shape == (1, found.tokenizer.vocab_size)


@cache
def scratch() -> Path:
    """A folder for this process, which is removed at its end."""
    folder = tempfile.TemporaryDirectory()
    scratch.folder = folder  # type: ignore[attr-defined] -- lives as long as the process
    return Path(folder.name)


def manifests(data: bytes) -> None:
    """Manifests, pointers and settings: used as if they were whole, they give an answer or a clear error."""
    store = LocalStore(str(scratch() / "workspace"))
    kind, content = data[0] % 4 if data else 0, data[1:]
    path = ("models/m/manifest.json", "models/champion.json", "tuned/current.json", "settings.toml")[kind]
    target = Path(store.root, path)
    target.parent.mkdir(parents=True, exist_ok=True)
    whole = {"name": "train", "fingerprint": "f", "files": [], "counts": {}, "about": {"night": "n"}}
    target.write_bytes(patched(json.dumps(whole).encode(), content) if kind == 0 else content)
    use: tuple[Callable[[], object], ...] = (
        lambda: (load_manifest(store, path).digest, Models(store).of_night("n")),  # type: ignore[union-attr]
        lambda: Models(store).champion(),
        lambda: Models(store).tuned_tasks(),
        lambda: json_bytes(load_config(target)),
    )
    with may_refuse(StorageError, ModelError, ConfigError):
        use[kind]()


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target
    for target in (
        jsonl,
        csv,
        warc,
        tables,
        html,
        documents,
        packed,
        pairs,
        clean,
        words,
        dedup,
        code,
        compress,
        tokenizer,
        model,
        manifests,
    )
}
