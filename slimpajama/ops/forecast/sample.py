"""The sample that a forecast is made from: pieces of some files, evenly drawn. The same sources give the same sample.

- Each source has the share of the sample that it has of all text, but at least `MIN_SHARE`.
- Where a file is one document (text, HTML), whole files are drawn. Of records, pieces are drawn from all over some
  files, which are evenly chosen from the list.
- A piece's place in its section of the file is random, with the file's name as the seed: at even distances, what
  repeats at a distance would be met too often or never.
- Most formats can only be read from the beginning. So up to `SCAN_MB` are read to get at later pieces; beyond that the
  beginning of a file represents the rest. In plain lines every place can be reached.
"""

import contextlib
import io
import random
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from slimpajama.core.config import Config, SourceConfig
from slimpajama.corpus.sources.discover import InputFile, Plan, open_input
from slimpajama.corpus.sources.elements import has_lines
from slimpajama.corpus.sources.files import chunks, read, read_options
from slimpajama.corpus.sources.formats import PAGES, format_of
from slimpajama.corpus.sources.records import Batch, Chunk, ReadOptions
from slimpajama.corpus.sources.streams import PACKINGS, is_packed

# Text of the sample: more than half a million words, as many as a tokenizer learns from in a real run.
SAMPLE_MB = 16.0
# Unpacked text that is read to get at the pieces.
SCAN_MB = 256.0
# Bytes of lines in one piece.
PIECE = 1 << 15
# Pieces of one file where there are enough files; a smaller file is taken whole.
FEW = 2
# Pieces that are held to choose from.
HELD = 64
# Files of one source.
MAX_FILES = 256
# Share of the sample that the smallest source has.
MIN_SHARE = 1 / 64
# How many bytes of text a byte of a packed file is likely to hold; it only decides how the sample is shared out.
EXPANDS = {".gz": 3.0, ".zst": 4.0, ".bz2": 4.0, ".xz": 4.0, ".zip": 3.0, "parquet": 2.0}


class Drawn(NamedTuple):
    """What is read of a file."""

    pieces: list[Chunk]
    share: float
    """Share of the file that the pieces are."""
    reached: float = 1.0
    """Share of the file that was read to draw them."""


class Sample:
    """Pieces of some files of a plan."""

    def __init__(self, cfg: Config, found: Plan) -> None:
        self.cfg = cfg
        self.files: dict[InputFile, Drawn] = {}
        self.groups: dict[tuple[str, bool], list[InputFile]] = {}
        """All files that the plan has, by source and whether a file is one document."""
        for file in found.files:
            self.groups.setdefault((file.source, self.format_of(file) in PAGES), []).append(file)
        self.expected_bytes = max(sum(map(self.expected, found.files)), 1.0)
        """Bytes of text in all files, estimated from their sizes."""
        began = time.perf_counter()
        for (_, pages), files in self.groups.items():
            share = sum(map(self.expected, files)) / self.expected_bytes
            for file, n in self._choose(files, pages, SAMPLE_MB * 1e6 * max(min(1.0, share), MIN_SHARE)):
                self.files[file] = self._draw(file, n)
        passed = sum(file.bytes * drawn.reached for file, drawn in self.files.items())
        self.scan_seconds = (time.perf_counter() - began) / max(passed, 1) * sum(file.bytes for file in found.files)
        """Time that one thread would take to read through all files."""

    def source_of(self, file: InputFile) -> SourceConfig:
        """Return the settings of a file's source."""
        return next(source for source in self.cfg.ingest.sources if source.name == file.source)

    def format_of(self, file: InputFile) -> str:
        """Return a file's format."""
        return format_of(file.path, self.source_of(file).format)

    def expected(self, file: InputFile) -> float:
        """Return about how many bytes of text a file holds."""
        packing = next((end for end in PACKINGS if file.path.lower().endswith(end)), self.format_of(file))
        return file.bytes * EXPANDS.get(packing, 1.0)

    def every(self, n: int) -> dict[InputFile, list[Chunk]]:
        """Return every n-th piece of the sample, by file."""
        all_pieces = [(file, piece) for file, drawn in self.files.items() for piece in drawn.pieces]
        chosen: dict[InputFile, list[Chunk]] = {}
        for file, piece in all_pieces[::n]:
            chosen.setdefault(file, []).append(piece)
        return chosen

    def _choose(self, files: list[InputFile], pages: bool, budget: float) -> Iterator[tuple[InputFile, int]]:
        """Yield the files to read and how many pieces of each; 0 for all of it."""
        expected = sum(map(self.expected, files))
        if expected <= budget and len(files) <= MAX_FILES:
            yield from ((file, 0) for file in files)
            return
        each = max(expected / len(files), 1.0)
        n = max(1, min(len(files), MAX_FILES, int(budget / (each if pages else min(each, FEW * PIECE)))))
        chosen = [files[(2 * i + 1) * len(files) // (2 * n)] for i in range(n)]
        share = budget / max(sum(map(self.expected, chosen)), 1.0)
        for file in chosen:
            yield file, 0 if pages or share >= 1 else max(1, round(share * self.expected(file) / PIECE))

    def _draw(self, file: InputFile, n: int) -> Drawn:
        """Return `n` pieces of a file, evenly drawn from what may be read of it; all of them for 0."""
        source = self.source_of(file)
        options = replace(read_options(source, self.cfg.ingest), batch_bytes=PIECE)
        scan_bytes = max(SCAN_MB * 1e6 * self.expected(file) / self.expected_bytes, n * PIECE)
        if n and file.bytes > scan_bytes and self.format_of(file) == "jsonl" and not is_packed(file.path):
            # Where it cannot be opened, reading it in order below records what is wrong.
            with contextlib.suppress(OSError):
                windows = _windows(file, options, n)
                if windows:
                    return windows
        rows = n > 0 and self.format_of(file) == "parquet"
        drawn: list[Chunk] = []
        seen, stride, reached = 0, 1, 1.0
        for piece in _rows(file, options) if rows else _pieces(file, options):
            if n and seen * PIECE >= scan_bytes:
                reached = min(1.0, piece.position / file.bytes)
                break
            if seen % stride == 0:
                drawn.append(piece)
            # From here on every second one of those, so that no large file is held in memory.
            if n and len(drawn) > max(2 * n, HELD):
                drawn, stride = drawn[::2], 2 * stride
            seen += 1
        if not seen:
            return Drawn([Chunk(partial(read, partial(open_input, file), file.path, options), 0)], 1.0)
        if n and len(drawn) > n:
            draw = random.Random(f"{file.source}/{file.path}")
            drawn = [drawn[draw.randrange(i * len(drawn) // n, (i + 1) * len(drawn) // n)] for i in range(n)]
        return Drawn(drawn, reached * len(drawn) / seen, reached)


def _windows(file: InputFile, options: ReadOptions, n: int) -> Drawn | None:
    """Return lines from `n` places all over a plain file that is too large to be passed through; None of an array."""
    draw, found, passed = random.Random(f"{file.source}/{file.path}"), list[Chunk](), 0
    with open_input(file) as stream:
        if not has_lines(stream.read(PIECE)):
            return None
        for i in range(n):
            stream.seek(draw.randrange(i * file.bytes // n, (i + 1) * file.bytes // n))
            # The rest of a line.
            stream.readline(options.max_document_bytes)
            data = b""
            while len(data) < PIECE and (line := stream.readline(options.max_document_bytes)):
                data += line
            found += chunks(partial(io.BytesIO, data), file.path, options)
            passed += len(data)
    return Drawn(found, passed / file.bytes, passed / file.bytes)


def _pieces(file: InputFile, options: ReadOptions) -> Iterator[Chunk]:
    return chunks(partial(open_input, file), file.path, options)


def _rows(file: InputFile, options: ReadOptions) -> Iterator[Chunk]:
    """Yield a few rows at once of a table whose own pieces are large."""
    for piece in _pieces(file, options):
        for batch in piece.read():
            n = max(1, batch.table.num_rows * PIECE // max(batch.cost, 1))
            for start in range(0, batch.table.num_rows, n):
                part = Batch(batch.table.slice(start, n).combine_chunks(), [] if start else batch.rejected)
                yield Chunk(partial(iter, [part]), piece.position)
