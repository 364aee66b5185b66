"""Passages of whole sentences that stand word for word in several documents, found by their windows.

Texts are compared by units, as decontamination does (`corpus/windows.py`): a word, or one ideograph; punctuation, white
space, case, width and script do not count. A *sentence* ends at `。！？!?…`, at a full stop that a space follows, or at
a line break. A *window* is `size` units in a row. Of each sentence are taken: the window that begins with it, those
behind that one as far as they fit into the sentence, and the window that ends with it. So each unit of a run of whole
sentences of `size` units or more lies in a window that lies in the run: whatever stands before and behind it, and
wherever its lines are broken, the run is found.

A document has about two windows a sentence, so all of them are kept, and how many documents a window stands in is
counted, not estimated. Windows are equal where 48 bits of their hashes are: of 1 GB of text, 20 million windows, about
half a window is taken for another one; and a passage takes windows that fit its sentences.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from slimpajama.corpus.dedup.spill import distinct
from slimpajama.corpus.windows import code_table, mixed, new_text, read_units
from slimpajama.text.buffers import text_buffers
from slimpajama.text.kernels import GOLDEN, compiled, decode

# Raise it when units, sentences or hashes change.
VERSION = 1
HASH_BITS = 48
_ROW_BITS = np.uint64(64 - HASH_BITS)
# Rows whose numbers fit behind a hash.
MOST_ROWS = 1 << (64 - HASH_BITS)
# Of lines of fewer units that end without a mark one window in `_ONE_IN` is kept, by its hash: lists of such lines
# would have a window a unit or two.
SHORT = 8
_ONE_IN = np.uint64(4)
_FULL_STOP = np.uint32(ord("."))
_SPACE = np.uint8(ord(" "))
# Of each code point below 0x10000: whether it ends a sentence, or belongs to the one that ends before it.
_LINE_BREAK, _MARK, _CLOSER = np.uint8(1), np.uint8(2), np.uint8(3)
_KINDS = np.zeros(0x10000, np.uint8)
_KINDS[ord("\n")] = _LINE_BREAK
_KINDS[[ord(char) for char in "!?…。！？｡"]] = _MARK
_KINDS[[ord(char) for char in "\"')]}»’”」』）】》〉］"]] = _CLOSER


class Windows(NamedTuple):
    """W windows of N texts, each hash once a text."""

    hashes: npt.NDArray[np.uint64]
    """[W], ascending, of `HASH_BITS` bits."""
    rows: npt.NDArray[np.uint32]
    """[W]: number of the text; ascending among equal hashes."""


class Repeated(NamedTuple):
    """H windows of N texts that stand in enough documents."""

    ends: npt.NDArray[np.int64]
    """[N + 1]: text t has `hashes[ends[t]:ends[t + 1]]`, ascending."""
    hashes: npt.NDArray[np.uint64]
    counts: npt.NDArray[np.int64]
    """[H]: documents that have the window."""
    first: npt.NDArray[np.bool_]
    """[H]: whether the text is the first document that has it."""


class Passages(NamedTuple):
    """P passages: runs of whole sentences of N texts, in the order of the texts."""

    row: npt.NDArray[np.int32]
    """[P]: number of the text."""
    begin: npt.NDArray[np.int32]
    """[P]: first byte, from the text's begin."""
    end: npt.NDArray[np.int32]
    key: npt.NDArray[np.uint64]
    """[P]: hash of its units: equal for passages that say the same."""
    window: npt.NDArray[np.int64]
    """[P]: of its windows in `Repeated` the one that fewest documents have."""


def windows(texts: pa.LargeStringArray, size: int) -> Windows:
    """Return the windows of `size` units of texts that are not null."""
    offsets, data = text_buffers(texts)
    most = int(offsets[-1] - offsets[0]) + len(texts)
    hashes, rows = np.empty(most, np.uint64), np.empty(most, np.uint32)
    n = _windows(offsets, data, code_table(), size, hashes, rows)
    hashes, rows = hashes[:n], rows[:n]
    if len(texts) <= MOST_ROWS:
        # Numbers are sorted four times as fast as places are by them.
        packed = distinct(hashes << _ROW_BITS | rows)
        return Windows(packed >> _ROW_BITS, (packed & np.uint64(MOST_ROWS - 1)).astype(np.uint32))
    order = np.lexsort((rows, hashes))
    hashes, rows = hashes[order], rows[order]
    first = np.append(True, (hashes[1:] != hashes[:-1]) | (rows[1:] != rows[:-1]))[:n]
    return Windows(hashes[first], rows[first])


def passages(texts: pa.LargeStringArray, size: int, repeated: Repeated) -> Passages:
    """Return the passages that a text's repeated windows cover, as far as they are whole sentences.

    What is covered by windows of which the text is the first document makes passages of its own.
    """
    offsets, data = text_buffers(texts)
    most = int(offsets[-1] - offsets[0]) // size + len(texts)
    found = Passages._make(np.empty(most, kind) for kind in (np.int32, np.int32, np.int32, np.uint64, np.int64))
    n = _passages(offsets, data, code_table(), size, repeated, found)
    return Passages._make(column[:n] for column in found)


class _Scratch(NamedTuple):
    """Working memory for the longest of some texts, of U units."""

    breaks: Any
    """int32 [U + 1]: byte that the sentence of unit u begins with, -1 where u is not the first of one; then the end."""
    marked: Any
    """bool [U + 1]: where a sentence begins, whether the one before it ends with a mark."""
    sums: Any
    """uint64 [U + 1]: hash of the units before each."""
    hashes: Any
    """uint64 [2 * U]: of the text's windows."""
    places: Any
    """int32 [2 * U]: first unit of each."""
    rarest: Any
    """int64 [U]: of the repeated windows of its level over a unit the one that fewest documents have."""
    level: Any
    """uint8 [U]: 0 not repeated; 1 all windows over it are here for the first time; 2 an earlier document has one."""


@compiled(allocates=True)
def _new_scratch(room: int) -> Any:
    return _Scratch(
        np.empty(room + 1, np.int32),
        np.empty(room + 1, np.bool_),
        np.empty(room + 1, np.uint64),
        np.empty(2 * room + 2, np.uint64),
        np.empty(2 * room + 2, np.int32),
        np.empty(room, np.int64),
        np.empty(room, np.uint8),
    )


@compiled
def _sentence_end(data: Any, i: Any, stop: Any) -> Any:
    """Return the byte behind which a sentence ends between two units, -1 if it goes on; and whether by a mark."""
    at, marked = -1, False
    while i < stop:
        c, length = decode(data, i)
        before, i = i, i + length
        kind = _KINDS[c] if c < np.uint32(len(_KINDS)) else np.uint8(0)
        # Behind the full stop of an abbreviation, a number or a path stands something else.
        if kind == _MARK or (c == _FULL_STOP and i < stop and (data[i] == _SPACE or _KINDS[data[i]])):
            at, marked = i, True
        elif kind == _LINE_BREAK or (kind == _CLOSER and at == before):
            at = i
    return at, marked


@compiled
def _read(data: Any, begin: Any, end: Any, codes: Any, text: Any, scratch: Any) -> int:
    """Read a text's units, where its sentences begin, and sums of hashes; return the number of units."""
    n = int(read_units(data, begin, end, codes, text))
    scratch.sums[0] = np.uint64(0)
    for u in range(n):
        scratch.sums[u + 1] = scratch.sums[u] * GOLDEN + text.units[u]
    scratch.breaks[0], scratch.breaks[n] = 0, end - begin
    scratch.marked[0] = scratch.marked[n] = True
    for u in range(1, n):
        i, stop = begin + text.stops[u - 1], begin + text.starts[u]
        scratch.breaks[u] = -1
        # Between most units stands nothing, or a space.
        if i < stop and (i + 1 < stop or data[i] != _SPACE):
            at, scratch.marked[u] = _sentence_end(data, i, stop)
            scratch.breaks[u] = at - begin if at >= 0 else -1
    return n


@compiled(inline=True)
def _add(found: int, first: int, size: int, is_kept: bool, power: Any, scratch: Any) -> int:
    """Write the window at unit `first` behind `found` others, and return how many there are then."""
    value = mixed(scratch.sums[first + size] - scratch.sums[first] * power) >> _ROW_BITS
    scratch.hashes[found], scratch.places[found] = value, first
    return found + int(is_kept or not value % _ONE_IN)


@compiled
def _windows_of(n: int, size: int, power: Any, scratch: Any) -> int:
    """List a text's windows and return how many there are; `power` is GOLDEN to the power of `size`."""
    found, start, marked = 0, 0, scratch.marked
    for end in range(1, n + 1):
        if scratch.breaks[end] < 0:
            continue
        is_long, first = end - start >= SHORT, start
        while first + size <= n and (first == start or first + size <= end):
            found = _add(found, first, size, is_long or marked[start], power, scratch)
            first += size
        # Where the sentence is as long as some windows, the last of them ends with it.
        if end >= size and end != first:
            found = _add(found, end - size, size, is_long or marked[end], power, scratch)
        start = end
    return found


@compiled(inline=True)
def _power(size: int) -> Any:
    power = np.uint64(1)
    for _ in range(size):
        power *= GOLDEN
    return power


@compiled(allocates=True)
def _windows(offsets: Any, data: Any, codes: Any, size: int, hashes: Any, rows: Any) -> int:
    text = new_text(offsets)
    scratch, power, total = _new_scratch(len(text.units)), _power(size), 0
    for d in range(len(offsets) - 1):
        n = _read(data, offsets[d], offsets[d + 1], codes, text, scratch)
        found = _windows_of(n, size, power, scratch)
        hashes[total : total + found] = scratch.hashes[:found]
        rows[total : total + found] = d
        total += found
    return total


@compiled
def _cover(n: int, windows: int, size: int, first: int, end: int, repeated: Any, scratch: Any) -> None:
    """Mark the units that windows cover which `repeated` lists from `first` to `end`."""
    scratch.level[:n] = 0
    for w in range(windows):
        e = first + np.searchsorted(repeated.hashes[first:end], scratch.hashes[w])
        if e == end or repeated.hashes[e] != scratch.hashes[w]:
            continue
        level = np.uint8(1 if repeated.first[e] else 2)
        for u in range(scratch.places[w], scratch.places[w] + size):
            before = scratch.level[u]
            if level > before or (level == before and repeated.counts[e] < repeated.counts[scratch.rarest[u]]):
                scratch.level[u], scratch.rarest[u] = level, e


@compiled
def _runs(n: int, size: int, d: int, text: Any, repeated: Any, scratch: Any, found: Any, total: int) -> int:
    """Append the runs of whole sentences of one level and of `size` units or more; return how many there are now."""
    breaks, level, u = scratch.breaks, scratch.level, 0
    while u < n:
        start, u = u, u + 1
        while u < n and level[u] == level[start]:
            u += 1
        begin, end = start, u
        while begin < end and breaks[begin] < 0:
            begin += 1
        while end > begin and breaks[end] < 0:
            end -= 1
        if level[start] == 0 or end - begin < size:
            continue
        key, rarest = np.uint64(0), scratch.rarest[begin]
        for k in range(begin, end):
            key = key * GOLDEN + text.units[k]
            if repeated.counts[scratch.rarest[k]] < repeated.counts[rarest]:
                rarest = scratch.rarest[k]
        found.row[total], found.begin[total], found.end[total] = d, breaks[begin], breaks[end]
        found.key[total], found.window[total] = mixed(key), rarest
        total += 1
    return total


@compiled(allocates=True)
def _passages(offsets: Any, data: Any, codes: Any, size: int, repeated: Any, found: Any) -> int:
    text = new_text(offsets)
    scratch, power, total = _new_scratch(len(text.units)), _power(size), 0
    for d in range(len(offsets) - 1):
        first, end = repeated.ends[d], repeated.ends[d + 1]
        if first == end:
            continue
        n = _read(data, offsets[d], offsets[d + 1], codes, text, scratch)
        windows = _windows_of(n, size, power, scratch)
        _cover(n, windows, size, first, end, repeated, scratch)
        total = _runs(n, size, d, text, repeated, scratch, found, total)
    return total
