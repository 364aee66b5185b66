"""What leaves the workspace: a model in the layout of the Hugging Face hub, and the corpus as a Parquet dataset.

Both go into a folder that does not exist yet or is empty, and appear there whole or not at all.
"""

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from slimpajama.core.errors import InputError, StorageError, unwritable
from slimpajama.core.page import card_head, render
from slimpajama.core.progress import track
from slimpajama.core.schema import DOCUMENTS, SHARDS
from slimpajama.core.split import SPLITS
from slimpajama.model.memory.opening import EXPORTED, LISTING, WITHOUT, memory_files
from slimpajama.text.tokenizer import DOCUMENT
from slimpajama.workspace import layout
from slimpajama.workspace.index import ARRAYS
from slimpajama.workspace.layout import name_of, place
from slimpajama.workspace.manifest import FileEntry, Manifest, json_bytes, load_manifest, total
from slimpajama.workspace.mapped import CHUNK
from slimpajama.workspace.open import Workspace
from slimpajama.workspace.parquet import (
    not_as_listed,
    published_json,
    read_columns,
    read_table,
    read_verified,
    verified_json,
)
from slimpajama.workspace.store import Store, sha256

# A file of the dataset holds so much text; the hub shows files of up to about 300 MB at once.
FILE_BYTES = 256_000_000


@contextlib.contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Give a folder to write into and put it in the place of `target` at the end; after an error nothing is there.

    Raises:
        InputError: `target` holds something already, or cannot be made.
    """
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise InputError("is not empty", where=str(target), expected="a folder that is new or empty")
    draft = target.absolute().with_name(f".{target.absolute().name}.{os.getpid()}.part")
    try:
        draft.mkdir(parents=True)
        yield draft
        # An empty folder is replaced; any other is an error.
        draft.replace(target)
    except OSError as error:
        raise unwritable(error, target, "folder") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def lineage(store: Store, model_id: str) -> list[dict[str, Any]]:
    """Return the model and those it started from, newest first: `model`, `night`, `nights` and the weights' `sha256`.

    Where an ancestor is no longer published, its name is the last entry.
    """
    chain: list[dict[str, Any]] = []
    while model_id:
        manifest = load_manifest(store, layout.model(model_id).manifest)
        if manifest is None:
            return [*chain, {"model": model_id, "night": "", "nights": [], "sha256": ""}]
        about, sha256 = manifest.depends_on, manifest.file("model.safetensors").sha256
        chain.append({"model": model_id, "night": about["night"], "nights": list(about["nights"]), "sha256": sha256})
        model_id = about["started_from"]
    return chain


def export_model(
    workspace: Workspace, folder: Path, model_id: str | None = None, memory: bool = True
) -> dict[str, Any]:
    """Write a published model, by default the champion, for `load_exported`, `tokenizers` and the hub.

    Args:
        memory: Whether its memory goes along, where it has one, and with it the tokens of the whole training text.

    Returns:
        `model`, `folder`, the names of the `files`, and of the `memory` its newest `night`, the tokens of
        each of its `nights`, all `tokens` and `bytes`; None where none is written.

    Raises:
        InputError: The folder is not empty, or a night has no index of the documents that it holds now.
        ModelError: There is no such model.
        StorageError: A file is not what its manifest says.
    """
    name = model_id or workspace.models.require_champion()
    manifest = workspace.models.manifest(name)
    own = {name_of(entry.path): entry for entry in manifest.files}
    config = verified_json(workspace.store, own["config.json"])
    hashes = {file: own[file].sha256 for file in ("model.safetensors", "tokenizer.json")}
    special = {"bos_token": DOCUMENT, "eos_token": DOCUMENT}
    chain = lineage(workspace.store, name)
    night = workspace.models.memory_of(name)
    listed, sources = _memory(workspace, name, night) if memory and night else (None, [])
    about = listed.depends_on | listed.counts if listed else None
    lists = {LISTING: json_bytes(listed)} if listed else {}
    hashes |= {file: sha256(data) for file, data in lists.items()}
    files = lists | {
        "model.safetensors": read_verified(workspace.store, own["model.safetensors"]),
        "tokenizer.json": read_verified(workspace.store, own["tokenizer.json"]),
        "config.json": json_bytes(config | {"model_type": "slimpajama", "id": name, "sha256": hashes}),
        "tokenizer_config.json": json_bytes(
            special
            | {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "model_max_length": config["description"]["row_tokens"],
                "clean_up_tokenization_spaces": False,
            }
        ),
        "special_tokens_map.json": json_bytes(special),
        "lineage.json": json_bytes(chain),
        "README.md": _model_card(workspace, manifest, read_verified(workspace.store, own["README.md"]), chain, about),
    }
    with new_folder(folder) as draft:
        for path, entry in sources:
            (draft / path).parent.mkdir(exist_ok=True)
            with _or_without():
                _copy(workspace.store, entry, draft / path)
        for file, data in files.items():
            _write(draft / file, data)
    written = sorted([*files, *(path for path, _ in sources)])
    return {"model": name, "folder": str(folder), "files": written, "memory": about}


def _memory(workspace: Workspace, name: str, night: str) -> tuple[Manifest, list[tuple[str, FileEntry]]]:
    """Return the listing of a model's memory as it is exported, and what becomes which of the listed files.

    The tables of documents (id, night and place of each) stay behind: no likelihood needs them.
    """
    with _or_without():
        found = memory_files(workspace, name, night)
    sources = [(EXPORTED.file("weights.json"), found.weights)]
    for number, part in enumerate(found.parts):
        sources += [(EXPORTED.file(f"{number:05d}.{kind}.npy"), part.entries[f"{kind}.npy"]) for kind in ARRAYS]
    files = tuple(replace(entry, path=path) for path, entry in sources)
    counts = {"tokens": total(found.nights), "bytes": sum(entry.bytes for entry in files)}
    return Manifest("memory", found.digest, files, counts, {"night": night, "nights": found.nights}), sources


@contextlib.contextmanager
def _or_without() -> Iterator[None]:
    """Say of files that are damaged or missing that a model can be exported without its memory, too."""
    try:
        yield
    except StorageError as error:
        error.hint += f" {WITHOUT}"
        raise


def _copy(store: Store, entry: FileEntry, path: Path) -> None:
    """Write a listed file's content, piece by piece, after which it is as listed."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for start in range(0, entry.bytes, CHUNK):
            data = store.read(entry.path, start, min(start + CHUNK, entry.bytes))
            digest.update(data)
            file.write(data)
        os.fsync(file.fileno())
    if (found := digest.hexdigest()) != entry.sha256:
        raise not_as_listed(store, entry.path, f"sha256 {entry.sha256[:16]}…", f"sha256 {found[:16]}…")


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        os.fsync(file.fileno())


def _model_card(
    workspace: Workspace, manifest: Manifest, own: bytes, chain: list[dict[str, Any]], memory: dict[str, Any] | None
) -> bytes:
    """Return README.md: the hub's head, the card written after training, memory, results, lineage and use."""
    name = chain[0]["model"]
    figures, decision = _newest_evaluation(workspace.store, name)
    head = {
        "language": ["zh", "en"],
        "license": "other",
        "license_name": "by-source",
        "licences": sorted({licence for _, licence in _sources(workspace, manifest.depends_on["nights"])}),
        "library_name": "slimpajama",
        "pipeline_tag": "text-generation",
        "tags": ["slimpajama", "chinese", "english", "autoencoder"],
    }
    changes = [
        f"{entry['action']}: {entry['reason']}" for entry in workspace.models.history() if entry["model"] == name
    ]
    text = render(
        Path(__file__).with_name("export_model.md"),
        figures=figures,
        decision=decision,
        history=", ".join(changes),
        is_champion=workspace.models.champion() == name,
        lineage=chain,
        memory=memory,
        has_memory=bool(workspace.models.memory_of(name)),
    )
    return (card_head(head) + own.decode() + "\n" + text).encode()


def _newest_evaluation(store: Store, name: str) -> tuple[Any, Any]:
    """Return the newest evaluation and its gate's decision; None for what there is not."""
    model = layout.model(name)
    listed = [place(path).rest for path in store.list(model.evaluations)]
    nights = sorted(layout.folder_of(rest) for rest in listed if name_of(rest) == "evaluation.json")
    if not nights:
        return None, None
    figures = published_json(store, model.evaluation(nights[-1]).manifest, "evaluation.json")
    return figures, published_json(store, model.gate(nights[-1]).manifest, "decision.json")


def _sources(workspace: Workspace, nights: Sequence[str]) -> list[tuple[str, str]]:
    """Return the names of the nights' sources, each with its licence."""
    listed = [workspace.nights.load(night).depends_on["settings"]["ingest"]["sources"] for night in nights]
    return sorted({(row["name"], row["licence"] or "not stated") for rows in listed for row in rows})


def export_dataset(workspace: Workspace, folder: Path, nights: Sequence[str] = ()) -> dict[str, Any]:
    """Write the kept documents of nights, by default of all, as files that `datasets.load_dataset(folder)` opens.

    Splits are those of the shards, so what was held out stays held out. Memory holds one file of documents.

    Returns:
        `folder`, `nights`, and the `documents` of each split.

    Raises:
        InputError: The folder is not empty, or a night is not published.
    """
    chosen = [workspace.nights.choose_published(night) for night in nights] or workspace.nights.published()
    if not chosen:
        # This raises the error that nothing is published.
        workspace.nights.choose_published()
    manifests = {
        night: workspace.nights.load(night) for night in sorted(set(chosen), key=workspace.nights.published().index)
    }
    with new_folder(folder) as draft:
        writers = {split: _Files(draft / "data", split) for split in SPLITS}
        files = [entry for night, m in manifests.items() for entry in m.entries(layout.night(night).documents)]
        held_out = {split: _ids(workspace.store, manifests, split) for split in SPLITS[1:]}
        with track("export", total=len(files), unit="files") as bar:
            for entry in files:
                table = read_table(workspace.store, entry).select(DOCUMENTS.names)
                rest = pa.array([True] * table.num_rows)
                for split in SPLITS[1:]:
                    inside = pc.is_in(table["id"], held_out[split])
                    writers[split].add(table.filter(inside))
                    rest = pc.and_not(rest, inside)
                writers["train"].add(table.filter(rest))
                bar.advance()
        for written in writers.values():
            written.close()
        card = _dataset_card(_sources(workspace, list(manifests)), list(manifests), writers)
        _write(draft / "README.md", card)
    documents = {split: sum(n for n, _ in written.counts.values()) for split, written in writers.items()}
    return {"folder": str(folder), "nights": list(manifests), "documents": documents}


def _ids(store: Store, manifests: dict[str, Manifest], split: str) -> pa.Array:
    files = [entry for night, m in manifests.items() for entry in m.entries(layout.night(night).split(split))]
    return read_columns(store, files, SHARDS, ["id"])["id"].combine_chunks()


class _Files:
    """Numbered Parquet files of one split, a new one each FILE_BYTES of text; named with their total at the end."""

    def __init__(self, folder: Path, split: str) -> None:
        self.folder, self.split, self.count, self.size = folder, split, 0, 0
        self.writer: pq.ParquetWriter | None = None
        self.counts: dict[tuple[str, str], list[int]] = {}
        """Documents and bytes by source and language."""

    def add(self, table: pa.Table) -> None:
        if not table.num_rows:
            return
        if self.writer is None:
            self.folder.mkdir(exist_ok=True)
            self.writer = pq.ParquetWriter(
                self.folder / f"{self.split}-{self.count:05d}", DOCUMENTS, compression="zstd"
            )
            self.count, self.size = self.count + 1, 0
        self.writer.write_table(table)
        self.size += table.nbytes
        if self.size >= FILE_BYTES:
            self.writer.close()
            self.writer = None
        sums = table.select(["source", "lang", "n_bytes"]).group_by(["source", "lang"])
        for row in sums.aggregate([("n_bytes", "count"), ("n_bytes", "sum")]).to_pylist():
            total = self.counts.setdefault((row["source"], row["lang"]), [0, 0])
            total[0] += row["n_bytes_count"]
            total[1] += row["n_bytes_sum"]

    def close(self) -> None:
        if self.writer:
            self.writer.close()
        for number in range(self.count):
            part = self.folder / f"{self.split}-{number:05d}"
            part.replace(part.with_name(f"{part.name}-of-{self.count:05d}.parquet"))


def _dataset_card(sources: list[tuple[str, str]], nights: list[str], written: dict[str, _Files]) -> bytes:
    paths = [{"split": split, "path": f"data/{split}-*.parquet"} for split, files in written.items() if files.count]
    counts = {(split, *key): count for split, files in written.items() for key, count in files.counts.items()}
    head = {
        "language": sorted({lang for _, _, lang in counts if len(lang) == 2}),
        "license": "other",
        "license_name": "by-source",
        "licences": sorted({licence for _, licence in sources}),
        "task_categories": ["text-generation"],
        "tags": ["slimpajama"],
        "configs": [{"config_name": "default", "data_files": paths}],
    }
    text = render(
        Path(__file__).with_name("export_dataset.md"), nights=nights, counts=sorted(counts.items()), sources=sources
    )
    return (card_head(head) + text).encode()
