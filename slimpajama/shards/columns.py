"""Columns of a shard: words over the text they were cut from, their ids, and the file that `datasets` opens."""

from __future__ import annotations

import io
import json
from typing import Any

import numba
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from slimpajama.errors import InputError
from slimpajama.schema import SHARDS
from slimpajama.tokenizer import Tokenizer

__all__ = ["encode_words", "features", "shard_bytes", "words_of"]


def words_of(rows: pa.Table) -> pa.StringArray:
    """Return the words of all rows end to end, as views into their texts.

    Args:
        rows: Columns `text` and `lengths` (bytes of each word).

    Raises:
        InputError: If a document's lengths are not those of its text.
    """
    texts = rows["text"].cast(pa.large_string()).combine_chunks()
    lists = rows["lengths"].combine_chunks()
    if not len(texts):
        return pa.array([], pa.string())
    _, offsets, data = texts.buffers()
    slots = np.frombuffer(offsets, np.int64, count=len(texts) + 1, offset=8 * texts.offset)
    ends = np.concatenate([[0], np.cumsum(lists.flatten().to_numpy(), dtype=np.int64)])
    bounds = np.concatenate([[0], np.cumsum(pc.list_value_length(lists).to_numpy())])
    if not np.array_equal(ends[bounds], slots - slots[0]):
        raise InputError("words and text of a document differ in length")
    if ends[-1] >= 1 << 31:
        raise InputError("too much text for one shard", expected="less than 2 GiB", found=f"{ends[-1]:,} bytes")
    utf8 = data.slice(int(slots[0])) if data else pa.py_buffer(b"")
    return pa.StringArray.from_buffers(len(ends) - 1, pa.py_buffer(ends.astype(np.int32)), utf8)


def encode_words(words: pa.ListArray, content: pa.ListArray, encoder: Tokenizer) -> tuple[pa.ListArray, pa.ListArray]:
    """Encode documents given as words and say of each token whether it belongs to a content word.

    No piece crosses a word, so each different word is encoded once and its tokens are copied to all its places.

    Args:
        words: One list of words a document, strings or indices into them; joined they are the document's text.
        content: One flag a word.

    Returns:
        `input_ids` (list of uint16) and `content_mask` (list of bool), one entry a document.
    """
    flat = words.flatten()
    if not pa.types.is_dictionary(flat.type):
        flat = flat.dictionary_encode()
    tokens, starts = encoder.encode_each(flat.dictionary)
    word = flat.indices.to_numpy()
    total = int(np.diff(starts)[word].sum())
    input_ids, mask = np.empty(total, np.uint16), np.empty(total, bool)
    ends = np.zeros(len(words) + 1, np.int32)
    flags = content.flatten().to_numpy(zero_copy_only=False).astype(bool)
    _spread(pc.list_value_length(words).to_numpy(), word, flags, tokens, starts, input_ids, mask, ends)
    offsets = pa.array(ends)
    return pa.ListArray.from_arrays(offsets, pa.array(input_ids)), pa.ListArray.from_arrays(offsets, pa.array(mask))


@numba.njit(nogil=True, cache=True)
def _spread(
    n_words: Any, words: Any, flags: Any, tokens: Any, starts: Any, input_ids: Any, mask: Any, ends: Any
) -> None:
    """Copy each word's tokens to its place, with its flag; `ends` becomes where each document's tokens begin."""
    place, used = 0, 0
    for d in range(len(n_words)):
        for w in range(place, place + n_words[d]):
            for i in range(starts[words[w]], starts[words[w] + 1]):
                input_ids[used] = tokens[i]
                mask[used] = flags[w]
                used += 1
        place += n_words[d]
        ends[d + 1] = used


def features() -> dict[str, object]:
    """Return the columns of SHARDS as Hugging Face `datasets` describes them."""

    def value(kind: pa.DataType) -> dict[str, object]:
        if pa.types.is_list(kind):
            return {"feature": value(kind.value_type), "_type": "Sequence"}
        return {"dtype": str(kind), "_type": "Value"}

    return {field.name: value(field.type) for field in SHARDS}


def shard_bytes(table: pa.Table) -> bytes:
    """Return a shard as a Parquet file with the columns and types of SHARDS.

    Args:
        table: The columns of SHARDS; lists of words may be indices into a dictionary, which the file then takes over.
    """
    sink = io.BytesIO()
    lists = ["words.list.element", "content_words.list.element", "input_ids.list.element"]
    with pq.ParquetWriter(
        sink,
        table.schema,
        compression="zstd",
        compression_level=1,  # level 3: 8 % smaller, a third slower to write
        use_dictionary=["id", "lang", "source", *lists],
        dictionary_pagesize_limit=1 << 30,  # never fall back to plain strings, twice the size
        write_statistics=["id", "lang", "source", "n_bytes"],  # of words they take longer than the words themselves
        store_schema=False,  # Arrow's own schema would make readers hand out indices instead of strings
    ) as writer:
        writer.write_table(table, row_group_size=len(table))
        writer.add_key_value_metadata({"huggingface": json.dumps({"info": {"features": features()}})})
    return sink.getvalue()
