"""Where a text comes from: its spans that stand in the corpus word for word, with their documents.

The text is encoded with the nights' vocabulary, and its matches are looked up in their index. A word at a match's edge
may be cut into other tokens here than in the document. So each occurrence is made longer byte by byte, as far as text
and document agree: a span begins and ends at the same characters whatever the tokens are.
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter

from slimpajama.core.config import TextConfig
from slimpajama.core.errors import StorageError, printable
from slimpajama.core.result import Result
from slimpajama.text.kernels import compiled
from slimpajama.text.suffixes import Suffixes, maximal
from slimpajama.text.tokenizer import Tokenizer
from slimpajama.workspace import layout
from slimpajama.workspace.index import CorpusIndex, IndexPart, open_index
from slimpajama.workspace.lookup import find_rows, one_of
from slimpajama.workspace.open import Workspace
from slimpajama.workspace.parquet import read_verified
from slimpajama.workspace.store import CHECK

# Of a span: shorter ones stand everywhere. About eight ideographs, or four words.
MIN_TOKENS = 5
# Of a span, those that are told.
DOCUMENTS = 3
# Of a text, those that are told, the longest first.
SPANS = 1000
# So many tokens a match may lack of MIN_TOKENS, for its edges may be cut differently.
EDGES = 2
# Occurrences of a match that are looked at one by one; where there are more, its edges stay as the tokens have them.
OCCURRENCES = 1000
# Spans that a terminal shows, and characters of each.
SHOWN, EXCERPT = 20, 140


@dataclass(frozen=True, slots=True)
class Source:
    """A document that a span stands in."""

    id: str
    night: str
    source: str
    uri: str
    licence: str
    place: int
    """Where in the document it begins, in characters."""


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of the text that stands in the corpus, and is part of no longer one that does."""

    start: int
    """In characters of the text."""
    end: int
    tokens: int
    """Of the text, those that lie inside."""
    count: int
    """How often it stands in the corpus."""
    documents: list[Source]
    """Some of them, each once, in the order of the nights."""


@dataclass(frozen=True, slots=True)
class Trace(Result):
    """Spans of a text that stand in the corpus, the longest first."""

    spans: list[Span]
    found: int
    """How many there are; at most SPANS of them are told."""
    nights: int
    """How many nights were searched."""

    def text(self) -> str:
        """Return how many there are."""
        spans, nights = (
            f"{n:,} {what}{'' if n == 1 else 's'}" for n, what in ((self.found, "span"), (self.nights, "night"))
        )
        return f"{spans} of the text found in the corpus of {nights}"

    def render(self, text: str) -> str:
        """Return lines for people: spans of the `text` that was traced, and where they stand."""
        lines = [self.text() + (", the longest first" if self.found > 1 else "")]
        for span in self.spans[:SHOWN]:
            times = f"{span.count:,} times" if span.count > 1 else "once"
            lines += ["", printable(text[span.start : span.end], EXCERPT)]
            lines.append(f"  characters {span.start:,} to {span.end:,}, {span.tokens:,} tokens, {times}")
            for one in span.documents:
                lines.append(f"  {one.id} at {one.place:,}: {printable(one.source, 40)}, night {one.night}")
                lines.append(f"    {printable(one.uri, 200)}, {printable(one.licence, 100) or 'no licence stated'}")
        if len(self.spans) > SHOWN:
            lines += ["", f"{self.found - SHOWN:,} more; --json tells {len(self.spans):,}"]
        return "\n".join(lines)


class _Pieces(NamedTuple):
    """A vocabulary as bytes."""

    data: npt.NDArray[np.uint8]
    begins: npt.NDArray[np.int64]
    """[V + 1], where each id's bytes begin."""


@dataclass(frozen=True, slots=True)
class _Group:
    """The text as the nights of one vocabulary have it."""

    index: CorpusIndex
    ids: npt.NDArray[np.uint32]
    begins: npt.NDArray[np.int64]
    """[T + 1], where each token's bytes begin in the text."""
    pieces: _Pieces


@dataclass(frozen=True, slots=True)
class _Found:
    """Occurrences of one stretch of the text in one part."""

    part: IndexPart
    pieces: _Pieces
    places: npt.NDArray[np.int64]
    """[n, 2]: the token that each begins in, and after how many bytes of it; some of them, where there are many."""
    count: int


class _Hit(NamedTuple):
    """A document of an index that a span stands in."""

    night: str
    id: str
    place: int


def trace(
    workspace: Workspace,
    text: str,
    min_tokens: int = MIN_TOKENS,
    max_documents: int = DOCUMENTS,
    nights: Sequence[str] = (),
) -> Trace:
    """Return the spans of a text that stand in the corpus.

    Args:
        text: Any text; offsets are in its characters.
        min_tokens: Tokens of the shortest span that is told.
        max_documents: Most documents of each span.
        nights: Published nights to search; none for all.

    Raises:
        InputError: If no night is published, or one has no index yet.
        StorageError: If the index is damaged, or a night's documents are.
    """
    nights = nights or workspace.nights.published() or [workspace.nights.choose_published()]
    data = np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8)
    groups = [_group(workspace, index, data.tobytes()) for index in open_index(workspace, nights)]
    tokens_within = functools.partial(_tokens_within, [group.begins for group in groups])
    found: dict[tuple[int, int], list[_Found]] = {}
    for group in groups:
        for part in group.index.parts:
            for stretch, occurrences in _occurrences(group, part, data, tokens_within, min_tokens):
                found.setdefault(stretch, []).append(occurrences)
    # Bytes at which characters begin; the text's end is one of them.
    characters = np.flatnonzero(np.append(data & 0xC0 != 0x80, True))
    spans = []
    for begin, end in _outermost(found):
        start, stop = np.searchsorted(characters, [begin, end]).tolist()
        spans.append((start, stop, int(tokens_within(begin, end)), found[begin, end]))
    spans.sort(key=lambda span: (span[0] - span[1], span[0]))
    hits = [_hits(where, max_documents) for *_, where in spans[:SPANS]]
    sources = _sources(workspace, [hit for some in hits for hit in some])
    told = [
        Span(start, end, tokens, sum(one.count for one in where), [sources[hit] for hit in some])
        for (start, end, tokens, where), some in zip(spans, hits, strict=False)
    ]
    return Trace(told, len(spans), len(nights))


def _group(workspace: Workspace, index: CorpusIndex, data: bytes) -> _Group:
    settings = workspace.nights.load(index.nights[-1]).depends_on["settings"]["text"]
    hmm = TypeAdapter(TextConfig).validate_python(settings).hmm
    tokenizer, pieces = _vocabulary(read_verified(workspace.store, index.tokenizer), hmm)
    ids = np.array(tokenizer.encode_bytes(data), np.uint32)
    return _Group(index, ids, np.concatenate([[0], np.cumsum(tokenizer.token_bytes[ids])]), pieces)


# A server is asked again and again.
@functools.lru_cache(maxsize=4)
def _vocabulary(data: bytes, hmm: bool) -> tuple[Tokenizer, _Pieces]:
    tokenizer = Tokenizer.load(data, TextConfig(hmm=hmm))
    begins = np.concatenate([[0], np.cumsum(tokenizer.token_bytes)])
    return tokenizer, _Pieces(np.frombuffer(b"".join(tokenizer.pieces), np.uint8), begins)


def _occurrences(
    group: _Group, part: IndexPart, data: npt.NDArray[np.uint8], tokens_within: Callable[..., Any], min_tokens: int
) -> Iterator[tuple[tuple[int, int], _Found]]:
    """Yield the stretches of the text, in bytes, that stand in a part and are long enough, and where."""
    suffixes = Suffixes(*part.arrays)
    ids = np.ascontiguousarray(group.ids, suffixes.ids.dtype)
    matches = maximal(suffixes, ids, max(1, min_tokens - EDGES))
    rows = _made_longer(suffixes, group.pieces, group.begins, data, matches, OCCURRENCES)
    # Two matches of one occurrence, between which its tokens are others than the text's, come out as one.
    rows = np.unique(rows[tokens_within(rows[:, 0], rows[:, 1]) >= min_tokens], axis=0)
    many = {(row[0], row[1]): row[2] for row in _too_many(group.begins, data, matches).tolist()}
    edges = np.flatnonzero((rows[1:, :2] != rows[:-1, :2]).any(axis=1)) + 1
    for some in np.split(rows, edges) if len(rows) else ():
        stretch = some[0, 0].item(), some[0, 1].item()
        yield stretch, _Found(part, group.pieces, some[:, 2:], many.get(stretch, len(some)))


def _too_many(begins: Any, data: Any, matches: Any) -> npt.NDArray[np.int64]:
    """Return begin, end and number of the matches that occur more often than is looked at, int64 [n, 3]."""
    some = matches[matches[:, 3] - matches[:, 2] > OCCURRENCES]
    stretches = [_whole(data, *begins[match[:2]]) for match in some]
    return np.array([(*pair, hi - lo) for pair, (_, _, lo, hi) in zip(stretches, some, strict=True)], np.int64)


def _outermost(stretches: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield the stretches that lie in no other one."""
    furthest = 0
    for begin, end in sorted(stretches, key=lambda stretch: (stretch[0], -stretch[1])):
        if end > furthest:
            yield begin, end
            furthest = end


def _tokens_within(begins: Sequence[npt.NDArray[np.int64]], begin: Any, end: Any) -> Any:
    """Return how many tokens lie between bytes of the text, by the vocabulary that has most of them; at least 0."""
    counts = [np.searchsorted(one, end, "right") - 1 - np.searchsorted(one, begin) for one in begins]
    return np.maximum.reduce([0 * counts[0], *counts])


def _hits(found: Iterable[_Found], most: int) -> list[_Hit]:
    """Return the first documents that a span stands in, and where it first does."""
    hits: list[_Hit] = []
    for one in found:
        ids, _, _, _ = one.part.arrays
        documents, begins = one.part.documents, one.part.begins
        rows, firsts = np.unique(np.searchsorted(begins, one.places[:, 0], "right") - 1, return_index=True)
        for row, first in zip(rows[: most - len(hits)].tolist(), firsts.tolist(), strict=False):
            token, offset = one.places[first].tolist()
            place = _characters(ids, one.pieces, begins[row] + 1, token, offset)
            hits.append(_Hit(documents["night"][row].as_py(), documents["id"][row].as_py(), place))
    return hits


def _sources(workspace: Workspace, hits: Iterable[_Hit]) -> dict[_Hit, Source]:
    """Return what the nights know of documents."""
    found: dict[_Hit, Source] = {}
    for night, some in groupby(sorted(set(hits)), key=lambda hit: hit.night):
        manifest, wanted = workspace.nights.load(night), [*some]
        licences = {one["name"]: one["licence"] for one in manifest.depends_on["settings"]["ingest"]["sources"]}
        entries = manifest.entries(layout.night(night).documents)
        rows = find_rows(workspace.store, entries, "id", one_of({hit.id for hit in wanted}), ["id", "source", "uri"])
        known = {row.values["id"]: row.values for row in rows}
        for hit in wanted:
            if hit.id not in known:
                raise StorageError("the index names a document that its night does not have", where=hit.id, hint=CHECK)
            source = known[hit.id]["source"]
            found[hit] = Source(hit.id, night, source, known[hit.id]["uri"], licences.get(source, ""), hit.place)
    return found


@compiled(allocates=True)
def _made_longer(suffixes: Any, pieces: Any, begins: Any, data: Any, matches: Any, most: Any) -> Any:
    """Return each occurrence of each match, made longer as far as its document agrees with the text.

    Returns:
        int64 [n, 4]: begin and end in the text's bytes; the token that it begins in, and after how many bytes of it.
        Of a match with more than `most` occurrences the first ones, as long as its tokens are.
    """
    count = 0
    for m in range(len(matches)):
        count += min(matches[m, 3] - matches[m, 2], most)
    rows, count = np.empty((count, 4), np.int64), 0
    for m in range(len(matches)):
        start, stop, lo, hi = matches[m, 0], matches[m, 1], matches[m, 2], matches[m, 3]
        for k in range(lo, min(hi, lo + most)):
            token, offset = np.int64(suffixes.order[k]), np.int64(0)
            begin, end = begins[start], begins[stop]
            if hi - lo <= most:
                end = _to_the_right(suffixes, pieces, data, token + stop - start, end)
                token, offset, begin = _to_the_left(suffixes, pieces, data, token, begin)
            first, last = _whole(data, begin, end)
            for _ in range(first - begin):
                offset += 1
                if offset == _width(suffixes, pieces, token):
                    token, offset = token + 1, np.int64(0)
            rows[count, 0], rows[count, 1], rows[count, 2], rows[count, 3] = first, last, token, offset
            count += 1
    return rows


@compiled(inline=True)
def _width(suffixes: Any, pieces: Any, token: Any) -> Any:
    """Return how many bytes the id at a position stands for."""
    return pieces.begins[suffixes.ids[token] + 1] - pieces.begins[suffixes.ids[token]]


@compiled(inline=True)
def _byte(suffixes: Any, pieces: Any, token: Any, offset: Any) -> Any:
    return pieces.data[pieces.begins[suffixes.ids[token]] + offset]


@compiled
def _to_the_left(suffixes: Any, pieces: Any, data: Any, token: Any, begin: Any) -> Any:
    """Return where a match begins that is made longer: token, bytes of it that come before, and place in the text."""
    offset = np.int64(0)
    while begin > 0:
        at, before = token, offset
        if before == 0:
            # The stream begins with a document token.
            at -= 1
            if suffixes.ids[at] == suffixes.document_id:
                break
            before = _width(suffixes, pieces, at)
        if _byte(suffixes, pieces, at, before - 1) != data[begin - 1]:
            break
        token, offset, begin = at, before - 1, begin - 1
    return token, offset, begin


@compiled
def _to_the_right(suffixes: Any, pieces: Any, data: Any, token: Any, end: Any) -> Any:
    """Return where in the text a match ends that is made longer, by its document from a token on."""
    offset = np.int64(0)
    while end < len(data) and suffixes.ids[token] != suffixes.document_id:
        if _byte(suffixes, pieces, token, offset) != data[end]:
            break
        end += 1
        offset += 1
        if offset == _width(suffixes, pieces, token):
            token, offset = token + 1, np.int64(0)
    return end


@compiled
def _whole(data: Any, begin: Any, end: Any) -> Any:
    """Return the whole characters between two bytes."""
    while begin < end and data[begin] & 0xC0 == 0x80:
        begin += 1
    while begin < end < len(data) and data[end] & 0xC0 == 0x80:
        end -= 1
    return begin, end


@compiled
def _characters(ids: Any, pieces: Any, first: Any, token: Any, offset: Any) -> Any:
    """Return how many characters begin from one token on and before a byte of another one."""
    count = 0
    for at in range(first, token + 1):
        begin = pieces.begins[ids[at]]
        end = pieces.begins[ids[at] + 1] if at < token else begin + offset
        for i in range(begin, end):
            count += pieces.data[i] & 0xC0 != 0x80
    return count
