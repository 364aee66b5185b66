"""Documents of a workspace for a question, by BM25 over `content_words`: so that the nights' corpus can be asked.

Source: Robertson & Zaragoza 2009, "The probabilistic relevance framework: BM25 and beyond"; computed by `bm25s`.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from slimpajama.core.config import TextConfig
from slimpajama.core.errors import InputError
from slimpajama.core.progress import track
from slimpajama.text.segment import Segmenter
from slimpajama.text.stopwords import content_flags
from slimpajama.workspace import layout
from slimpajama.workspace.lookup import find_rows, one_of
from slimpajama.workspace.manifest import FileEntry
from slimpajama.workspace.open import Workspace
from slimpajama.workspace.parquet import read_table


@dataclass(frozen=True, slots=True)
class Source:
    """A document that a question was asked of."""

    id: str
    uri: str
    lang: str
    text: str
    score: float
    """BM25."""


class CorpusIndex:
    """All documents of the published nights; `cfg` says how a question is cut into words, as theirs was.

    Memory: about 12 bytes for each different word of a document.

    Raises:
        InputError: There is no published document.
    """

    def __init__(self, workspace: Workspace, cfg: TextConfig) -> None:
        import bm25s
        from bm25s.tokenization import Tokenized

        self.store, self._cfg, self._segmenter = workspace.store, cfg, Segmenter(cfg)
        self._nights = {night: workspace.nights.load(night) for night in workspace.nights.published()}
        shards = self._tables("shards")
        if not shards:
            raise InputError("no document to ask", where=workspace.uri, hint="Run `slimpajama prepare` first.")
        ids, words = [], []
        with track("index", total=len(shards), unit="shards") as bar:
            for entry in shards:
                table = read_table(workspace.store, entry, ["id", "content_words"])
                ids.append(table["id"].combine_chunks())
                words.append(table["content_words"].combine_chunks())
                bar.advance()
        self._ids = pa.concat_arrays(ids)
        lists = pa.concat_arrays(words)
        folded = pc.utf8_lower(pc.utf8_trim_whitespace(lists.values)).dictionary_encode()
        numbers = np.split(folded.indices.to_numpy(), lists.offsets.to_numpy()[1:-1])
        self._vocabulary = {word: number for number, word in enumerate(folded.dictionary.to_pylist())}
        self._index = bm25s.BM25()
        self._index.index(Tokenized([part.tolist() for part in numbers], self._vocabulary), show_progress=False)

    def search(self, question: str, k: int = 5) -> list[Source]:
        """Return the k documents that say most about a question's content words, the best first."""
        words = pa.array(self._segmenter.cut(question), pa.string())
        carries = words.filter(pa.array(content_flags(words, self._cfg)))
        folded = pc.utf8_lower(pc.utf8_trim_whitespace(carries)).to_pylist()
        known = [self._vocabulary[word] for word in folded if word in self._vocabulary]
        if not known:
            return []
        scores = self._index.get_scores_from_ids(known)
        best = np.lexsort((np.arange(len(scores)), -scores))[:k]
        found = {self._ids[int(place)].as_py(): float(scores[place]) for place in best if scores[place] > 0}
        hits = find_rows(self.store, self._tables("documents"), "id", one_of(found), ["id", "uri", "lang", "text"])
        sources = [Source(score=found[hit.values["id"]], **hit.values) for hit in hits]
        return sorted(sources, key=lambda source: (-source.score, source.id))

    def _tables(self, kind: str) -> list[FileEntry]:
        """Return all tables of a kind."""
        found = (manifest.entries(layout.night(night).within(kind)) for night, manifest in self._nights.items())
        return [entry for entries in found for entry in entries if entry.path.endswith(".parquet")]
