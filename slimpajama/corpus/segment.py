"""The step between documents and shards: `documents/part-*.parquet` in, the lengths of their words out.

Each part is one unit of work, so its words lie under the part's own name and in its row order.
"""

import os
import stat
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from slimpajama.core.errors import ConfigError
from slimpajama.core.logs import step_log
from slimpajama.core.schema import WORDS, sums
from slimpajama.text.dictionary import UserWord
from slimpajama.text.lattice import WORD_BYTES
from slimpajama.text.segment import Segmenter, engine_versions, parse_user_dictionary
from slimpajama.workspace import layout
from slimpajama.workspace.manifest import FileEntry
from slimpajama.workspace.parquet import read_table
from slimpajama.workspace.step import Part, Run, Step

# About twice that of jieba's largest own dictionary.
DICTIONARY_BYTES = 20_000_000


def _inputs(run: Run) -> dict[str, Any]:
    words, refused = run.once(_user_words)
    about = {"settings": run.cfg.text, "engine": engine_versions(run.cfg.text, words)}
    return about | ({"lines_left_out": refused} if refused else {})


def _segment(run: Run) -> None:
    kept = run.made["dedup"]
    segmenter = Segmenter(run.cfg.text, run.once(_user_words)[0])

    def make(entry: FileEntry) -> Part:
        table = read_table(run.store, entry, ["id", "text", "lang", "n_bytes"])
        lengths = segmenter.lengths(table["text"].cast(pa.large_string()).combine_chunks())
        documents, sizes = sums(table, "lang")
        _, words = sums(pa.table({"lang": table["lang"], "words": pc.binary_length(lengths)}), "lang", "words")
        counts = {"documents": documents, "bytes": sizes, "words": words}
        rows = pa.table({"id": table["id"], "lengths": lengths}, schema=WORDS)
        return Part({f"{run.work}/{layout.name_of(entry.path)}": rows}, counts)

    entries = kept.entries(layout.night(run.night).documents)
    total = sum(kept.counts.get("kept_bytes", {}).values())
    run.map([(layout.stem(entry.path), entry) for entry in entries], make, total=total, unit="B")


SEGMENT = Step("segment", 5, _inputs, _segment, needs={"documents": "dedup"}, grows_with="kept", folders="documents")
"""Cut the night's kept documents into words.

Files have the schema WORDS and the names of the documents' files; counts are `documents`, `bytes` and `words`, each by
language. `lines_left_out` in the manifest are numbers of lines of the user dictionary that are no entries, at most the
first 1,000. Raises ConfigError if the user dictionary cannot be read.
"""


def _user_words(run: Run) -> tuple[tuple[UserWord, ...], tuple[int, ...]]:
    """Return the words of the user dictionary, and the numbers of lines that are left out, which a warning names."""
    cfg = run.cfg
    if not cfg.text.user_dictionary:
        return (), ()
    file = Path(cfg.run.source_root, cfg.text.user_dictionary)
    try:
        # Opening a pipe would wait for a writer, and a device has no end.
        with open(file, "rb", opener=lambda path, flags: os.open(path, flags | os.O_NONBLOCK)) as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise OSError("a device or a pipe")
            data = stream.read(DICTIONARY_BYTES + 1)
        if len(data) > DICTIONARY_BYTES:
            raise OSError(f"more than {DICTIONARY_BYTES} bytes")
    except OSError as error:
        raise ConfigError(
            "the user dictionary cannot be read",
            where="text.user_dictionary",
            found=f"{file}: {error.strerror or error}",
            expected="a file of words, one a line",
        ) from None
    words, refused = parse_user_dictionary(data)
    if refused:
        # Not quoted: it may be another file's.
        step_log("segment").warning(
            f"{cfg.text.user_dictionary}: {len(refused)} lines are no entries of a user dictionary and are left out:"
            f" {', '.join(map(str, refused[:20]))}{', ...' if len(refused) > 20 else ''}; expected in UTF-8: a word of"
            f" at most {WORD_BYTES} bytes without control characters, optionally a count below 10^9 and a tag"
        )
    return words, refused[:1000]
