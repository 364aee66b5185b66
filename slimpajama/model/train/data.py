"""What a training reads: the nights' shards and the newest one's tokenizer, each file checked against its manifest."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from slimpajama.core.config import TrainConfig
from slimpajama.core.errors import InputError
from slimpajama.core.logs import step_log
from slimpajama.core.schema import SHARDS
from slimpajama.core.split import document_keys
from slimpajama.model.train.cache import ShardTokens
from slimpajama.model.train.rows import EARLIER, NEWEST, Mix, Stream, parse_shard
from slimpajama.text.tokenizer import Tokenizer
from slimpajama.workspace import layout
from slimpajama.workspace.lineage import READ
from slimpajama.workspace.manifest import FileEntry, Manifest
from slimpajama.workspace.open import Workspace
from slimpajama.workspace.parquet import read_columns, read_verified
from slimpajama.workspace.store import Store

REBUILD = "Another program or version wrote it: prepare the night again, in a fresh workspace."


@dataclass(frozen=True, slots=True)
class TrainingData:
    """Published files that one training depends on."""

    store: Store
    nights: dict[str, Manifest]
    """Nights that share a tokenizer, `night` last."""
    night: str
    """The one whose documents are new."""
    tokenizer_json: bytes
    vocab_size: int

    def shards(self, split: str, nights: Sequence[str]) -> list[FileEntry]:
        """Return the shards of a split, in the order of `nights`."""
        return [entry for night in nights for entry in self.nights[night].entries(layout.night(night).split(split))]

    def rows(self, cfg: TrainConfig, row_tokens: int, document_id: int) -> Mix:
        """Return the batches of the training."""
        earlier = [name for name in self.nights if name != self.night]
        return Mix(
            self._stream([self.night], NEWEST, cfg.seed, row_tokens, document_id),
            self._stream(earlier, EARLIER, cfg.seed, row_tokens, document_id),
            replay_share=cfg.replay_share,
            batch_tokens=cfg.batch_tokens,
        )

    def held_out(self) -> dict[str, list[NDArray[np.uint16]]]:
        """Return the validation documents by language, those of the newest night first."""
        documents: dict[str, list[NDArray[np.uint16]]] = {}
        for entry in self.shards("validation", list(reversed(self.nights))):
            table = self._read(entry, ["lang", "input_ids"])
            for lang, ids in zip(table["lang"].to_pylist(), table["input_ids"], strict=True):
                documents.setdefault(lang, []).append(ids.values.to_numpy())
        return documents

    def read(self, rows: Mix) -> tuple[pa.Table, dict[str, dict[str, int]]]:
        """Return what a training has read when it stands at `rows`.

        Returns:
            Schema READ: the hashes of the documents of those nights that were read in part; and by night how many
            `documents` its train split has, and how many of them were `read`.
        """
        tables, counts = [READ.empty_table()], {}
        streams = {night: rows.newest if night == self.night else rows.earlier for night in self.nights}
        read = {id(stream): stream.read_keys() for stream in streams.values() if stream}
        for night, stream in streams.items():
            ids = read_columns(self.store, self.shards("train", [night]), SHARDS, ["id"])["id"].to_pylist()
            keys = document_keys(ids)
            some = read[id(stream)] if stream else keys[:0]
            found = keys if some is None else keys[np.isin(keys, some)]
            counts[night] = {"read": len(found), "documents": len(keys)}
            if len(found) < len(keys):
                tables.append(pa.table([[night] * len(found), np.sort(found)], schema=READ))
        return pa.concat_tables(tables), counts

    def sources(self) -> list[dict[str, Any]]:
        """Return `night`, `source`, `licence`, `lang`, `documents` and `n_bytes` of the train split."""
        rows = []
        for night, manifest in self.nights.items():
            licences = {s["name"]: s["licence"] for s in manifest.depends_on["settings"]["ingest"]["sources"]}
            table = pl.DataFrame(
                read_columns(self.store, self.shards("train", [night]), SHARDS, ["source", "lang", "n_bytes"])
            )
            grouped = table.group_by("source", "lang").agg(pl.sum("n_bytes"), documents=pl.len()).sort("source", "lang")
            rows += [{"night": night, "licence": licences.get(row["source"], "")} | row for row in grouped.to_dicts()]
        return rows

    def _stream(
        self, nights: Sequence[str], number: int, seed: int, row_tokens: int, document_id: int
    ) -> Stream | None:
        entries = {entry.path: entry for entry in self.shards("train", nights)}
        if not entries:
            return None

        def read(path: str) -> ShardTokens:
            return parse_shard(self._read(entries[path], ["id", "input_ids", "content_mask"]))

        sizes = {path: entry.bytes for path, entry in entries.items()}
        return Stream(sizes, read, document_id, row_tokens, seed, number)

    def _read(self, entry: FileEntry, columns: list[str]) -> pa.Table:
        """Return columns of a shard, `input_ids` among them, after looking whether a model can be given them."""
        expected = pa.schema([SHARDS.field(name) for name in columns])
        where = f"{self.store.uri}/{entry.path}"
        try:
            file = pq.ParquetFile(pa.BufferReader(read_verified(self.store, entry)))
            found = file.schema_arrow
            wrong = [name for name in columns if name not in found.names or found.field(name) != expected.field(name)]
            if wrong:
                kinds = (f"{n} {found.field(n).type if n in found.names else 'missing'}" for n in wrong)
                raise InputError(
                    "a shard of another schema",
                    where=where,
                    found=", ".join(kinds),
                    expected=", ".join(f"{name} {expected.field(name).type}" for name in wrong),
                    hint=REBUILD,
                )
            table = file.read(columns)
        except pa.ArrowException as error:
            raise InputError(f"a shard that cannot be read: {error}", where=where, hint=REBUILD) from error
        largest = pc.max(table["input_ids"].combine_chunks().values).as_py()
        if largest is not None and largest >= self.vocab_size:
            raise InputError(
                "a shard holds ids that the tokenizer does not know",
                where=where,
                expected=f"ids below {self.vocab_size}",
                found=str(largest),
                hint=REBUILD,
            )
        return table


def gather(workspace: Workspace, nights: Sequence[str], night: str) -> TrainingData:
    """Return `night` and those of the nights before it that were encoded with its tokenizer.

    Raises:
        InputError: If a night is not published, or `night` has no documents.
    """
    if night not in nights:
        raise InputError("the night is not published", where=f"{workspace.uri}/nights", found=night)
    manifests = {name: workspace.nights.load(name) for name in nights[: list(nights).index(night) + 1]}
    # A night that left no new document has none.
    tokenizer = manifests[night].find(layout.TOKENIZER)
    if tokenizer is None:
        raise InputError("the night has no documents to train on", where=f"{workspace.uri}/{layout.night(night).path}")
    same = {}
    for name, manifest in manifests.items():
        own = manifest.find(layout.TOKENIZER)
        if own and own.sha256 == tokenizer.sha256:
            same[name] = manifest
        elif own:
            step_log("train").info(f"night {name} has another tokenizer and is not replayed")
    content = read_verified(workspace.store, tokenizer)
    return TrainingData(workspace.store, same, night, content, Tokenizer.load(content).vocab_size)
