"""Which of tonight's documents are worth comparing exactly: those that share a band key.

Two documents of similarity J share at least one of b bands of r rows with probability 1 - (1 - J^r)^b. Bands are
searched one by one.

The number of pairs is bounded by rounds. In the first one, all documents of a group of equal keys are paired if the
group has up to `GROUP` documents; in an oversized group each is paired with the group's first. Callers number documents
by who survives first and, after that, by length; so a group's first is its likely survivor, and a million near-copies
make about a million pairs and no 10^12. Later rounds look at oversized groups only. There, documents that survived the
round before are paired: all pairs of up to `CROWD` of them, of more the first and `NEIGHBOURS` predecessors, which are
nearest in length. A document that survives only because its partner was removed takes part in the next round. Removed
documents may link components that are separate so far, one survivor's copies with another's: in the second round,
members of an oversized group in different components are paired in the same way, removed or not.

Source: Leskovec, Rajaraman, Ullman, "Mining of Massive Datasets", chapter 3.4.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from slimpajama.corpus.dedup.spill import Packed
from slimpajama.text.kernels import compiled

GROUP = 8
CROWD = 48
NEIGHBOURS = 8
# State of a document in a later round: removed; survived the last round and the one before; survives since the last.
LEFT_OUT, KNOWN, NEW = 0, 1, 2


def caught_table(bands: int, rows: int) -> list[tuple[float, float]]:
    """Return (J, probability that a pair of similarity J is compared) for the log of a run."""
    return [(jaccard, 1.0 - (1.0 - jaccard**rows) ** bands) for jaccard in (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)]


def group_pairs(
    keys: npt.NDArray[np.uint64],
    remaining: npt.NDArray[np.uint8] | None = None,
    separate: npt.NDArray[np.uint32] | None = None,
) -> tuple[Packed, bool]:
    """Return packed pairs of documents that share a key, of one band, and whether there are oversized groups.

    Args:
        keys: uint64 [N], documents in order of survival.
        remaining: None in the first round: all pairs of small groups, the first with each other in oversized ones.
            uint8 [N] in a later one: in oversized groups, pairs of a `NEW` document with one that is not `LEFT_OUT`.
        separate: uint32 [N], each document's connected component: in a later round, pairs that join two of them, too.
    """
    # A key's upper half and the document's number in one word: one plain sort groups and orders, three times as
    # fast as sorting places by key, and half the memory. Lower halves are compared pair by pair.
    numbered = (keys & np.uint64(0xFFFFFFFF00000000)) | np.arange(len(keys), dtype=np.uint64)
    numbered.sort()
    states = np.zeros(0, np.uint8) if remaining is None else remaining
    components = np.zeros(0, np.uint32) if separate is None else separate
    pairs, oversized_groups = _pairs_of_groups(numbered, keys, states, components)
    return pairs, bool(oversized_groups)


@compiled(allocates=True)
def _pairs_of_groups(numbered: Any, keys: Any, remaining: Any, separate: Any) -> Any:
    """Return pairs and whether there are oversized groups; `numbered` is changed."""
    out, total, end, oversized_groups = np.empty(1024, np.uint64), 0, 0, False
    all_states, no_components = np.zeros(0, np.uint8), np.zeros(0, np.uint32)
    while end < len(numbered):
        start, key = end, numbered[end] >> np.uint64(32)
        while end < len(numbered) and numbered[end] >> np.uint64(32) == key:
            numbered[end] &= np.uint64(0xFFFFFFFF)
            end += 1
        members = numbered[start:end]
        oversized_groups |= len(members) > GROUP
        if len(remaining) == 0:
            reach = len(members) if len(members) <= GROUP else 0
            out, total = _pairs_of_group(members, reach, keys, all_states, no_components, out, total)
        elif len(members) > GROUP:
            if len(separate):
                reach = len(members) if len(members) <= CROWD else NEIGHBOURS
                out, total = _pairs_of_group(members, reach, keys, all_states, separate, out, total)
            size = 0
            for member in members:
                if remaining[member] != LEFT_OUT:
                    members[size] = member
                    size += 1
            reach = size if size <= CROWD else NEIGHBOURS
            out, total = _pairs_of_group(members[:size], reach, keys, remaining, no_components, out, total)
    return out[:total], oversized_groups


@compiled(allocates=True)
def _pairs_of_group(members: Any, reach: int, keys: Any, states: Any, component: Any, out: Any, total: int) -> Any:
    """Append pairs of each member with the first one and with up to `reach` before it."""
    for i in range(1, len(members)):
        b = members[i]
        near = max(1, i - reach)
        for j in range(near - 1, i):
            a = members[0 if j == near - 1 else j]
            if keys[a] != keys[b] or (len(states) and states[a] != NEW and states[b] != NEW):
                continue
            if len(component) and (j == near - 1 or component[a] == component[b]):
                continue
            if total == len(out):
                grown = np.empty(2 * total, np.uint64)
                grown[:total] = out
                out = grown
            out[total] = a << np.uint64(32) | b
            total += 1
    return out, total
