"""What leaves the workspace: a model in the layout of the Hugging Face hub, and the corpus as a Parquet dataset.

Both go into a folder that does not exist yet or is empty, and appear there whole or not at all.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from slimpajama.core.errors import InputError, unwritable
from slimpajama.core.progress import track
from slimpajama.core.schema import DOCUMENTS
from slimpajama.corpus.shards.card import escape
from slimpajama.text.tokenizer import DOCUMENT
from slimpajama.workspace.manifest import Manifest, json_bytes, load_manifest
from slimpajama.workspace.open import Workspace
from slimpajama.workspace.parquet import read_table, read_verified
from slimpajama.workspace.store import Store

SPLITS = ("train", "validation", "test")
# Of text in a file of the dataset; the hub shows files of up to about 300 MB at once.
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
        # An empty folder gives way, any other refuses.
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
        manifest = load_manifest(store, f"models/{model_id}/manifest.json")
        if manifest is None:
            return [*chain, {"model": model_id, "night": "", "nights": [], "sha256": ""}]
        weights = next(entry for entry in manifest.files if entry.path.endswith("/model.safetensors"))
        about = manifest.about
        chain.append(
            {"model": model_id, "night": about["night"], "nights": list(about["nights"]), "sha256": weights.sha256}
        )
        model_id = about["started_from"]
    return chain


def export_model(workspace: Workspace, folder: Path, model_id: str | None = None) -> dict[str, Any]:
    """Write a published model, by default the champion, for `load_exported`, `tokenizers` and the hub.

    Returns:
        `model`, `folder` and the names of the `files`.

    Raises:
        InputError: The folder is not empty.
        ModelError: There is no such model.
    """
    name = model_id or workspace.models.require_champion()
    manifest = workspace.models.manifest(name)
    own = {entry.path.rsplit("/", 1)[1]: entry for entry in manifest.files}
    config = json.loads(read_verified(workspace.store, own["config.json"]))
    hashes = {file: own[file].sha256 for file in ("model.safetensors", "tokenizer.json")}
    special = {"bos_token": DOCUMENT, "eos_token": DOCUMENT}
    chain = lineage(workspace.store, name)
    files = {
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
        "README.md": _model_card(workspace, name, manifest, read_verified(workspace.store, own["README.md"]), chain),
    }
    with new_folder(folder) as draft:
        for file, data in files.items():
            _write(draft / file, data)
    return {"model": name, "folder": str(folder), "files": sorted(files)}


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        os.fsync(file.fileno())


_USE = f"""## Use

```python
from pathlib import Path

from slimpajama.model.evaluate.score import score_text
from slimpajama.workspace.registry import load_exported

loaded = load_exported(Path("."))  # checks the sha256 of weights and tokenizer
print(score_text(loaded.model, loaded.tokenizer, "今天天气很好。"))
```

Or on the command line: `slimpajama generate --model . --prompt 今天`.

`tokenizer.json` opens in `tokenizers`, the folder in transformers' `PreTrainedTokenizerFast.from_pretrained`. Words are
cut before the vocabulary is applied, Chinese ones by jieba, and joined by U+001F: of such a text
(`"\\x1f".join(words)`) `tokenizers` alone gives the very ids that the model was trained on. Of plain text it gives
other ids, since pieces may then cross words, which the model was not trained on. Either way decoding gives back every
byte of the text, except U+001F itself, which `tokenizers` alone leaves out. `{DOCUMENT}` stands before every text."""


def _model_card(workspace: Workspace, name: str, manifest: Manifest, own: bytes, chain: list[dict[str, Any]]) -> bytes:
    """Return README.md: the hub's head, the card written after training, results, lineage and use."""
    sources = _sources(workspace, manifest.about["nights"])
    head = {
        "language": ["zh", "en"],
        "license": "other",
        "license_name": "by-source",
        "licences": sorted({licence for _, licence in sources}),
        "library_name": "slimpajama",
        "pipeline_tag": "text-generation",
        "tags": ["slimpajama", "chinese", "english", "autoencoder"],
    }
    line = [
        [entry["model"], entry["night"] or "no longer published", ", ".join(entry["nights"]), entry["sha256"]]
        for entry in chain
    ]
    sections = [
        own.decode().rstrip(),
        *_results(workspace, name),
        "## Lineage\n\nEach model started from the weights of the one below; the last from random ones.\n\n"
        + _table(["model", "night", "trained on nights", "sha256 of the weights"], line),
        _USE,
    ]
    return (_head(head) + "\n\n".join(sections) + "\n").encode()


def _results(workspace: Workspace, name: str) -> list[str]:
    """Return the newest evaluation and its gate's decision, where there are any."""
    folder = f"models/{name}/evaluations/"
    paths = sorted(path for path in workspace.store.list(folder) if path.endswith("/evaluation.json"))
    if not paths:
        return ["## Results\n\nIt has not been evaluated."]
    at = paths[-1].rsplit("/", 1)[0]
    figures = _published(workspace.store, f"{at}/manifest.json", "evaluation.json")
    if figures is None:
        return ["## Results\n\nIt has not been evaluated."]
    rows = [
        [lang, str(row["documents"]), f"{row['bytes']:,}", f"{row['bits_per_byte']:.4f}", _percent(row)]
        for lang, row in [*figures["languages"].items(), *figures["sources"].items()]
    ]
    text = f"## Results\n\nOn held-out text of night {escape(figures['night'])} and before:\n\n" + _table(
        ["language, source", "documents", "bytes", "bits per byte", "tokens restored"], rows
    )
    decision = _published(workspace.store, f"{at}/gate/manifest.json", "decision.json")
    done = (
        ", ".join(f"{e['action']}: {e['reason']}" for e in workspace.models.history() if e["model"] == name) or "none"
    )
    state = "the champion" if workspace.models.champion() == name else "not the champion"
    verdict = f"The gate: {'promote' if decision['promote'] else 'keep'}. {decision['reason']} " if decision else ""
    return [text, f"{escape(verdict)}\n\nPromotions and rollbacks: {escape(done)}. At export it was {state}."]


def _percent(row: dict[str, Any]) -> str:
    return f"{row['token_accuracy']:.2%}" if "token_accuracy" in row else ""


def _published(store: Store, manifest_path: str, name: str) -> dict[str, Any] | None:
    manifest = load_manifest(store, manifest_path)
    found = [entry for entry in manifest.files if entry.path.endswith(f"/{name}")] if manifest else []
    return dict(json.loads(read_verified(store, found[0]))) if found else None


def _sources(workspace: Workspace, nights: Sequence[str]) -> list[tuple[str, str]]:
    """Return the names of the nights' sources, each with its licence."""
    listed = [workspace.nights.load(night).about["settings"]["ingest"]["sources"] for night in nights]
    return sorted({(row["name"], row["licence"] or "not stated") for rows in listed for row in rows})


def _head(values: dict[str, Any]) -> str:
    """Return the YAML that the hub reads; JSON is YAML, and nothing in it can end the head early."""
    return "---\n" + "".join(f"{key}: {json.dumps(value)}\n" for key, value in values.items()) + "---\n\n"


def _table(head: list[str], rows: Sequence[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *([escape(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


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
        # Says that nothing is published.
        workspace.nights.choose_published()
    manifests = {
        night: workspace.nights.load(night) for night in sorted(set(chosen), key=workspace.nights.published().index)
    }
    with new_folder(folder) as draft:
        writers = {split: _Files(draft / "data", split) for split in SPLITS}
        paths = [path for night, m in manifests.items() for path in m.paths(f"nights/{night}/documents/")]
        held_out = {split: _ids(workspace.store, manifests, split) for split in SPLITS[1:]}
        counts: dict[tuple[str, str, str], list[int]] = {}
        with track("export", total=len(paths), unit="files") as bar:
            for path in paths:
                table = read_table(workspace.store, path).select(DOCUMENTS.names)
                rest = pa.array([True] * table.num_rows)
                for split in SPLITS[1:]:
                    inside = pc.is_in(table["id"], held_out[split])
                    _add(writers[split], table.filter(inside), counts)
                    rest = pc.and_not(rest, inside)
                _add(writers["train"], table.filter(rest), counts)
                bar.advance()
        written = {split: files.close() for split, files in writers.items()}
        _write(
            draft / "README.md", _dataset_card(_sources(workspace, list(manifests)), list(manifests), written, counts)
        )
    documents = {split: sum(n for key, (n, _) in counts.items() if key[0] == split) for split in SPLITS}
    return {"folder": str(folder), "nights": list(manifests), "documents": documents}


def _ids(store: Store, manifests: dict[str, Manifest], split: str) -> pa.Array:
    paths = [path for night, m in manifests.items() for path in m.paths(f"nights/{night}/shards/{split}/")]
    parts = [read_table(store, path, ["id"])["id"].combine_chunks() for path in paths]
    return pa.concat_arrays(parts) if parts else pa.array([], pa.string())


class _Files:
    """Numbered Parquet files of one split, a new one each FILE_BYTES of text; named with their total at the end."""

    def __init__(self, folder: Path, split: str) -> None:
        self.folder, self.split, self.count, self.size = folder, split, 0, 0
        self.writer: pq.ParquetWriter | None = None

    def add(self, table: pa.Table) -> None:
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

    def close(self) -> int:
        """Finish and return how many files there are."""
        if self.writer:
            self.writer.close()
        for number in range(self.count):
            part = self.folder / f"{self.split}-{number:05d}"
            part.replace(part.with_name(f"{part.name}-of-{self.count:05d}.parquet"))
        return self.count


def _add(files: _Files, table: pa.Table, counts: dict[tuple[str, str, str], list[int]]) -> None:
    """Write rows and count documents and bytes by split, source and language."""
    if not table.num_rows:
        return
    files.add(table)
    sums = table.select(["source", "lang", "n_bytes"]).group_by(["source", "lang"])
    for row in sums.aggregate([("n_bytes", "count"), ("n_bytes", "sum")]).to_pylist():
        total = counts.setdefault((files.split, row["source"], row["lang"]), [0, 0])
        total[0] += row["n_bytes_count"]
        total[1] += row["n_bytes_sum"]


def _dataset_card(
    sources: list[tuple[str, str]],
    nights: list[str],
    files: dict[str, int],
    counts: dict[tuple[str, str, str], list[int]],
) -> bytes:
    paths = [{"split": split, "path": f"data/{split}-*.parquet"} for split in SPLITS if files[split]]
    head = {
        "language": sorted({lang for _, _, lang in counts if len(lang) == 2}),
        "license": "other",
        "license_name": "by-source",
        "licences": sorted({licence for _, licence in sources}),
        "task_categories": ["text-generation"],
        "tags": ["slimpajama"],
        "configs": [{"config_name": "default", "data_files": paths}],
    }
    rows = [[*key, f"{n:,}", f"{size / 1e6:,.2f}"] for key, (n, size) in sorted(counts.items())]
    sections = [
        "# Corpus",
        f"Cleaned, deduplicated Chinese and English documents of {len(nights)} night(s), from {escape(nights[0])} to"
        f" {escape(nights[-1])}, made by slimpajama. Near-duplicates share a split: nothing held out has a twin in"
        " `train`. `quality` holds what the cleaning rules measured.",
        "## Content\n\n" + _table(["split", "source", "language", "documents", "MB of text"], rows),
        "## Licences\n\n" + _table(["source", "licence"], [list(source) for source in sources]),
    ]
    return (_head(head) + "\n\n".join(sections) + "\n").encode()
