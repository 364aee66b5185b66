"""Columns of a shard: words over the text they were cut from, their ids, and the file that `datasets` opens."""

import io
import json
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from slimpajama.core.errors import InputError
from slimpajama.core.schema import SHARDS, dense_list
from slimpajama.text.buffers import text_buffers
from slimpajama.text.kernels import GOLDEN, compiled
from slimpajama.text.tokenizer import Tokenizer


def words_of(rows: pa.Table) -> pa.ListArray:
    """Return the words of each row as indices into the different ones, which come in the order of their first places.

    The rows have the columns `text` and `lengths` (bytes of each word); raises InputError if one's do not match.
    """
    offsets, text = text_buffers(rows["text"].cast(pa.large_string()).combine_chunks())
    places, lengths = text_buffers(rows["lengths"].cast(pa.large_binary()).combine_chunks())
    lengths = lengths[places[0] : places[-1]]
    # Words are read eight bytes at once.
    data = np.zeros(int(offsets[-1] - offsets[0]) // 8 + 2, np.uint64)
    data.view(np.uint8)[: offsets[-1] - offsets[0]] = text[offsets[0] : offsets[-1]]
    offsets, places = offsets - offsets[0], places - places[0]
    indices, firsts, different = np.empty(len(lengths), np.int32), np.empty(len(lengths), np.int64), -1
    slots = 1 << 16
    while different < 0:  # too few of them
        slots *= 4
        table = np.zeros((slots, 2), np.uint64)
        different = _number(offsets, data, places, lengths, indices, firsts, table)
    if different > len(lengths):
        raise InputError("words and text of a document differ in length")
    begins, sizes = firsts[:different] >> 8, firsts[:different] & 0xFF
    ends = np.cumsum(sizes)
    utf8 = data.view(np.uint8)[np.repeat(begins - ends + sizes, sizes) + np.arange(int(sizes.sum()))]
    slots_ = np.concatenate([[0], ends]).astype(np.int32)
    words = pa.StringArray.from_buffers(different, pa.py_buffer(slots_), pa.py_buffer(utf8))
    return pa.ListArray.from_arrays(
        pa.array(places, pa.int32()), pa.DictionaryArray.from_arrays(pa.array(indices), words)
    )


@compiled(inline=True)
def _bytes(data: Any, place: Any, n: Any) -> Any:
    """Return eight of the `n` bytes from `place` on, or all of fewer; `data` holds eight in a number."""
    shift = np.uint64(8 * (place & 7))
    eight = (data[place >> 3] >> shift) | ((data[(place >> 3) + 1] << np.uint64(1)) << (np.uint64(63) - shift))
    if n >= 8:
        return eight
    return eight & ((np.uint64(1) << np.uint64(8 * n)) - np.uint64(1))


@compiled
def _number(offsets: Any, data: Any, places: Any, lengths: Any, indices: Any, firsts: Any, table: Any) -> Any:
    """Number the different words of all documents in `indices`, and return how many there are.

    `firsts` becomes where each of them begins first, times 256, plus its length. -1: more than fill half of `table`;
    more than there are words: a document's lengths are not its text's. `table` has a word's hash, and its number,
    counted from 1, times 256, plus its length.
    """
    last = np.uint64(len(table) - 1)
    place, different = np.int64(0), np.int64(0)
    for d in range(len(places) - 1):
        for w in range(places[d], places[d + 1]):
            n = np.int64(lengths[w])
            if place + n > offsets[d + 1]:
                return np.int64(len(lengths) + 1)
            # Steps that can be undone: what is at most eight bytes long is told by its hash and length alone.
            hashed = (_bytes(data, place, n) ^ np.uint64(n)) * GOLDEN
            hashed ^= hashed >> np.uint64(32)
            for i in range(8, n, 8):
                hashed = (hashed ^ _bytes(data, place + i, n - i)) * GOLDEN
                hashed ^= hashed >> np.uint64(32)
            slot = hashed & last
            while table[slot, 1]:
                if table[slot, 0] == hashed and np.int64(table[slot, 1] & np.uint64(0xFF)) == n:
                    if n <= 8:
                        break
                    first = firsts[np.int64(table[slot, 1] >> np.uint64(8)) - 1] >> 8
                    unlike = np.uint64(0)
                    for i in range(0, n, 8):
                        unlike |= _bytes(data, first + i, n - i) ^ _bytes(data, place + i, n - i)
                    if not unlike:
                        break
                slot = (slot + np.uint64(1)) & last
            if not table[slot, 1]:
                if 2 * different >= len(table):
                    return np.int64(-1)
                firsts[different] = (place << 8) | n
                different += 1
                table[slot, 0], table[slot, 1] = hashed, (different << 8) | n
            indices[w] = np.int64(table[slot, 1] >> np.uint64(8)) - 1
            place += n
        if place != offsets[d + 1]:
            return np.int64(len(lengths) + 1)
    return different


def encode_words(
    words: pa.ListArray, carries: npt.NDArray[np.bool_], encoder: Tokenizer
) -> tuple[pa.ListArray, pa.ListArray, pa.StringArray]:
    """Encode documents given as `words_of` them, where `carries` says of each different word whether it has content.

    No piece crosses a word, so each different word is encoded once and its tokens are copied to all its places.

    Returns:
        `content_words` (list of indices as `words` has them), `input_ids` (list of uint16) and `content_mask` (a
        "1" or "0" a token), one entry a document.
    """
    flat, places = words.values, words.offsets.to_numpy()
    tokens, begins = encoder.encode_each(flat.dictionary)
    word, starts = flat.indices.to_numpy(), begins.astype(np.int32)
    total = int(np.diff(starts)[word[places[0] : places[-1]]].sum())
    content, ends = np.empty(len(word) + 1, np.int32), np.zeros((2, len(places)), np.int32)
    spread = _Spread(content, ends[0], np.empty(total, np.uint16), np.empty(total, np.uint8), ends[1])
    _spread(places, word, carries, tokens, starts, spread)
    kept = pa.DictionaryArray.from_arrays(pa.array(content[: spread.content_ends[-1]]), flat.dictionary)
    return (
        pa.ListArray.from_arrays(pa.array(spread.content_ends), kept),
        pa.ListArray.from_arrays(pa.array(spread.ends), pa.array(spread.input_ids)),
        pa.StringArray.from_buffers(len(words), pa.py_buffer(spread.ends), pa.py_buffer(spread.mask)),
    )


class _Spread(NamedTuple):
    """Words and tokens of documents, end to end, and where each document's end."""

    content: npt.NDArray[np.int32]
    content_ends: npt.NDArray[np.int32]
    input_ids: npt.NDArray[np.uint16]
    mask: npt.NDArray[np.uint8]
    """ASCII's 0 or 1 a token."""
    ends: npt.NDArray[np.int32]


@compiled
def _spread(places: Any, words: Any, carries: Any, tokens: Any, starts: Any, out: Any) -> None:
    """Copy each word's tokens to its place, with its flag."""
    used, kept = 0, 0
    for d in range(len(places) - 1):
        for w in range(places[d], places[d + 1]):
            word = words[w]
            # Overwritten by the next one, unless it stays.
            out.content[kept] = word
            kept += carries[word]
            for i in range(starts[word], starts[word + 1]):
                out.input_ids[used] = tokens[i]
                out.mask[used] = 48 + carries[word]
                used += 1
        out.ends[d + 1], out.content_ends[d + 1] = used, kept


def features() -> dict[str, object]:
    """Return the columns of SHARDS as Hugging Face `datasets` describes them."""

    def value(kind: pa.DataType) -> dict[str, object]:
        if pa.types.is_list(kind):
            return {"feature": value(kind.value_type), "_type": "Sequence"}
        return {"dtype": str(kind), "_type": "Value"}

    return {field.name: value(field.type) for field in SHARDS}


def shard_bytes(table: pa.Table) -> bytes:
    """Return a shard as a Parquet file with the columns and types of SHARDS.

    Lists of words may be indices into a dictionary, which the file then takes over.
    """
    lists = {name: dense_list(table.schema.field(name).type.value_type) for name in ("words", "content_words")}
    table = table.cast(pa.schema([field.with_type(lists.get(field.name, field.type)) for field in SHARDS]))
    sink = io.BytesIO()
    words = ["words.list.element", "content_words.list.element"]
    with pq.ParquetWriter(
        sink,
        table.schema,
        compression="zstd",
        # Level 3: 8 % smaller, a third slower to write.
        compression_level=1,
        use_dictionary=["id", "lang", "source", *words],
        # Ids in two planes of low and high bytes: a fifth smaller than indices into a dictionary, in half the time.
        column_encoding={"input_ids.list.element": "BYTE_STREAM_SPLIT"},
        # Never fall back to plain strings, twice the size.
        dictionary_pagesize_limit=1 << 30,
        # Of words they take longer than the words themselves.
        write_statistics=["id", "lang", "source", "n_bytes"],
        # Arrow's own schema would make readers hand out indices instead of strings.
        store_schema=False,
    ) as writer:
        writer.write_table(table, row_group_size=len(table))
        writer.add_key_value_metadata({"huggingface": json.dumps({"info": {"features": features()}})})
    return sink.getvalue()
