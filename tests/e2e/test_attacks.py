"""The attacks of benchmarks/attacks in small; `make soak` tries them all."""

import re

from benchmarks.attacks import bits

SEED = 20261201
# Of each wing one kind whose files are read in another way: in part, whole, as a record, as a pointer.
KINDS = r"nights//(documents|shards/test|manifest)|models//manifest|champion|forgotten|pairs//test|tuned//ways"


def test_no_damaged_byte_is_used_without_a_word(tmp_path, monkeypatch):
    every = bits.by_kind
    monkeypatch.setattr(
        bits, "by_kind", lambda space: {kind: paths for kind, paths in every(space).items() if re.search(KINDS, kind)}
    )
    rows = bits.attack(tmp_path, 2, SEED)
    assert [(row.measure, row.broken) for row in rows if row.broken] == []
    assert all(row.tries >= 2 for row in rows)
    assert rows[0].tries >= 14
