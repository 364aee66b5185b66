"""What the night's kept text is like: lengths of documents, and the words that carry it."""

import math
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from slimpajama.core.schema import MINHASH
from slimpajama.workspace.manifest import FileEntry
from slimpajama.workspace.parquet import read_columns, read_table
from slimpajama.workspace.store import Store

WORDS = 40
# At the default size these hold 16 M tokens: enough for a ranking, and read in a second or two.
MAX_SHARDS = 8
BINS_AN_OCTAVE = 2


def length_counts(kept: pa.Table) -> dict[str, Any]:
    """Return how many documents of each language have which length, from the columns `lang` and `n_chars`.

    Returns:
        `edges` in characters, a factor of sqrt(2) apart, and `counts` by language; both empty without documents.
    """
    lengths = kept["n_chars"].to_numpy()
    if not len(lengths):
        return {"edges": [], "counts": {}}
    low, high = (math.log2(max(1, int(value))) * BINS_AN_OCTAVE for value in (lengths.min(), lengths.max() + 1))
    edges = 2.0 ** (np.arange(math.floor(low), math.ceil(high) + 1) / BINS_AN_OCTAVE)
    languages = np.asarray(kept["lang"].to_pylist())
    counts = {str(lang): np.histogram(lengths[languages == lang], edges)[0].tolist() for lang in np.unique(languages)}
    return {"edges": [round(float(edge), 2) for edge in edges], "counts": counts}


def cluster_sizes(store: Store, minhash: list[FileEntry]) -> list[dict[str, int]]:
    """Return how many `clusters` of the night's documents have which `size`, the smallest size first.

    A cluster is all that similar pairs connect; a document unlike any other is a cluster of one. Documents of earlier
    nights are not counted.
    """
    members = pc.value_counts(read_columns(store, minhash, MINHASH, ["cluster"])["cluster"])
    sizes = pc.value_counts(members.field("counts")).to_pylist()
    return sorted(({"size": row["values"], "clusters": row["counts"]} for row in sizes), key=lambda row: row["size"])


def top_words(store: Store, shards: list[FileEntry]) -> list[dict[str, Any]]:
    """Return the most frequent content words of each language, in lower case; numbers alone are left out.

    Args:
        shards: Training shards; of many only some are counted, evenly spaced: rows are shuffled over shards.

    Returns:
        `lang`, `words` (`word`, `count`), `files` that were counted and `of_files`; the largest language first.
        Languages with fewer than a hundredth of the words are left out.
    """
    step = max(1, -(-len(shards) // MAX_SHARDS))
    counted = shards[::step]
    counters: dict[str, Counter[str]] = {}
    for entry in counted:
        table = read_table(store, entry, ["lang", "content_words"])
        for lang in pc.unique(table["lang"]).to_pylist():
            words = table.filter(pc.equal(table["lang"], lang))["content_words"].combine_chunks()
            counters.setdefault(lang, Counter()).update(_count(words.flatten()))
    every = sum(counter.total() for counter in counters.values())
    return [
        {
            "lang": lang,
            "words": [
                {"word": word, "count": count}
                for word, count in sorted(counter.items(), key=lambda item: (-item[1], item[0]))[:WORDS]
            ],
            "files": len(counted),
            "of_files": len(shards),
        }
        for lang, counter in sorted(counters.items(), key=lambda item: (-item[1].total(), item[0]))
        if counter.total() >= every / 100
    ]


def _count(words: pa.Array) -> dict[str, int]:
    # A word carries the blank before it.
    lower = pc.utf8_trim_whitespace(pc.utf8_lower(words))
    kinds = pc.value_counts(lower.filter(pc.match_substring_regex(lower, r"\p{L}")))
    return dict(zip(kinds.field("values").to_pylist(), kinds.field("counts").to_pylist(), strict=True))
