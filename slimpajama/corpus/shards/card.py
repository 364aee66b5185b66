"""What a night's shards are, for people (README.md) and for machines (Croissant 1.0).

The card's head is what the Hugging Face hub and `datasets.load_dataset(folder)` read: which files are which split.
Everything that comes from outside, the sources' names and licences too, is escaped for Markdown and HTML at once.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa

from slimpajama.core.config import Config, canonical
from slimpajama.core.schema import SHARDS
from slimpajama.core.split import SPLITS
from slimpajama.text.stopwords import LICENCE
from slimpajama.workspace.manifest import Counts, FileEntry, add_counts, json_bytes

COLUMNS = {
    "id": "document id: 32 hex digits of source, place in the source and text",
    "lang": "language of the document: zh, zh-Hant, en, mixed or unknown",
    "source": "source as named in the configuration",
    "words": "words of the text; joined they are exactly the text",
    "content_words": "the words that are no stop words, punctuation or white space",
    "input_ids": "token ids by the night's tokenizer/tokenizer.json",
    "content_mask": "a character a token: 1 where it belongs to a content word, else 0",
    "n_bytes": "UTF-8 bytes of the text",
}

NOTE = b"\n## Forgotten\n\n"
FILE_OBJECT = "cr:FileObject"
# Croissant's vocabulary, as its specification 1.0 asks every file to repeat it (docs.mlcommons.org/croissant).
_CROISSANT = "http://mlcommons.org/croissant/"
_PLAIN = """citeAs column extract field fileProperty fileObject fileSet format includes isLiveDataset jsonPath key md5
parentField path recordSet references regex repeated replace separator source subField transform samplingRate
equivalentProperty""".split()
_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": _CROISSANT,
    "rai": f"{_CROISSANT}RAI/",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
} | {name: f"cr:{name}" for name in _PLAIN}


def escape(value: object) -> str:
    """Return any text as Markdown that shows it and does nothing else, on one line."""
    return "".join(char if char.isalnum() or char in " .,-" else f"&#{ord(char)};" for char in str(value))


def data_card(
    cfg: Config, night: str, files: Sequence[FileEntry], counts: Counts, engine: dict[str, Any], pieces: int
) -> bytes:
    """Return README.md.

    Args:
        cfg: Settings of the night.
        night: Its name.
        files: The shards.
        counts: Counts of the stage, as `make_shards` describes them.
        engine: What cut the words, as `engine_versions` returns it.
        pieces: Size of the vocabulary.
    """
    by_source = {(name, lang): row for name, langs in counts["sources"].items() for lang, row in langs.items()}
    by_lang = add_counts({lang: row} for (_, lang), row in by_source.items())
    columns = [[name, _type(SHARDS.field(name).type), text] for name, text in COLUMNS.items()]
    licences = [[source.name, source.licence or "not stated"] for source in cfg.ingest.sources]
    sections = [
        f"# Corpus of night {escape(night)}",
        f"Cleaned, deduplicated, segmented and encoded documents in {len(files)} Parquet files, made by slimpajama."
        " `croissant.json` beside this file describes them for machines, `manifest.json` holds every file's sha256.",
        "## Splits",
        _table(
            ["split", "files", "documents", "tokens", "MB of text"],
            [
                [
                    split,
                    str(sum(f"/shards/{split}/" in entry.path for entry in files)),
                    f"{counts['documents'][split]:,}",
                    f"{sum(counts['tokens'][split].values()):,}",
                    _mb(sum(counts["bytes"][split].values())),
                ]
                for split in SPLITS
                if split in counts["documents"]
            ],
        ),
        "Near-duplicates share a split, so nothing held out has a twin in training.",
        "## Languages",
        _table(["language", *_HEADS], [[lang, *_figures(row)] for lang, row in sorted(by_lang.items())]),
        "## Sources",
        _table(["source", "language", *_HEADS], [[*names, *_figures(row)] for names, row in sorted(by_source.items())]),
        "## Licences",
        _table(["source", "licence"], licences),
        "## Columns",
        _table(["column", "type", "content"], columns),
        "## How it was made",
        _table(
            ["step", "how"],
            [
                ["clean", _settings(cfg.clean)],
                ["deduplicate", _settings(cfg.dedup)],
                ["decontaminate", _settings(cfg.decontaminate)],
                ["segment", f"{engine['engine']} {engine['version']}, {_settings(cfg.text)}"],
                ["stop words", f"{', '.join(cfg.text.stop_words) or 'none'} ({LICENCE})"],
                ["encode", f"byte-level BPE inside words, {pieces:,} pieces"],
                ["split and shuffle", _settings(cfg.shards)],
            ],
        ),
    ]
    return (_head(sorted(by_lang), files) + "\n\n".join(sections) + "\n").encode()


_HEADS = ["documents", "MB of text", "words", "content words", "tokens", "bytes a token"]


def _figures(row: dict[str, int]) -> list[str]:
    words = [f"{row[name]:,}" for name in ("words", "content_words", "tokens")]
    return [f"{row['documents']:,}", _mb(row["bytes"]), *words, f"{row['bytes'] / max(row['tokens'], 1):.2f}"]


def _mb(n_bytes: int) -> str:
    return f"{n_bytes / 1e6:,.2f}"


def _type(kind: pa.DataType) -> str:
    return f"list of {kind.value_type}" if pa.types.is_list(kind) else str(kind)


def _settings(section: object) -> str:
    return ", ".join(f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in canonical(section).items())


def _head(langs: list[str], files: Sequence[FileEntry]) -> str:
    """Return the YAML that the hub and `datasets` read; JSON is YAML."""
    splits = [split for split in SPLITS if any(f"/shards/{split}/" in entry.path for entry in files)]
    known = [lang for lang in langs if len(lang) == 2]
    paths = [{"split": split, "path": f"shards/{split}/*.parquet"} for split in splits]
    head = {"language": known, "license": "other", "configs": [{"config_name": "default", "data_files": paths}]}
    return "---\n" + "".join(f"{key}: {json.dumps(value)}\n" for key, value in head.items()) + "---\n\n"


def _table(head: list[str], rows: Iterable[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *([escape(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def croissant(cfg: Config, night: str, files: Sequence[FileEntry], counts: Counts) -> bytes:
    """Return the Croissant description (JSON-LD): each shard with its sha256, one record set a split.

    Source: MLCommons, "Croissant format specification", version 1.0 (2024).
    """
    folder = f"nights/{night}/"
    licences = sorted({source.licence for source in cfg.ingest.sources if source.licence}) or ["not stated"]
    distribution = _file_objects(files, folder)
    splits = [split for split in SPLITS if split in counts["documents"]]
    for split in splits:
        distribution.append(
            {
                "@type": "cr:FileSet",
                "@id": f"{split}-files",
                "name": f"{split}-files",
                "includes": f"shards/{split}/*.parquet",
                "encodingFormat": "application/x-parquet",
            }
        )
    return json_bytes(
        {
            "@context": _CONTEXT,
            "@type": "sc:Dataset",
            "conformsTo": f"{_CROISSANT}1.0",
            "name": f"slimpajama-{night}",
            "description": f"Night {night}: cleaned, deduplicated, segmented and encoded text.",
            "license": licences,
            "url": folder,
            "distribution": distribution,
            "recordSet": [
                {
                    "@type": "cr:RecordSet",
                    "@id": split,
                    "name": split,
                    "field": [_field(split, name) for name in COLUMNS],
                }
                for split in splits
            ],
        }
    )


def _file_objects(files: Sequence[FileEntry], folder: str) -> list[dict[str, Any]]:
    places = [entry.path.removeprefix(folder) for entry in files]
    return [
        {
            "@type": FILE_OBJECT,
            "@id": place,
            "name": place,
            "contentUrl": place,
            "sha256": entry.sha256,
            "contentSize": f"{entry.bytes} B",
            "encodingFormat": "application/x-parquet",
        }
        for place, entry in zip(places, files, strict=True)
    ]


def with_files(described: bytes, night: str, files: Sequence[FileEntry]) -> bytes:
    """Return a Croissant description with other shards in the place of its own."""
    value = json.loads(described)
    others = [item for item in value["distribution"] if item["@type"] != FILE_OBJECT]
    return json_bytes(value | {"distribution": [*_file_objects(files, f"nights/{night}/"), *others]})


def with_note(card: bytes, forgotten: int) -> bytes:
    """Return a data card that says how many of its documents were forgotten since it was written."""
    note = f"Documents that were forgotten since: {forgotten:,}. The figures above are of before."
    return card.partition(NOTE)[0] + NOTE + f"{note}\n".encode()


def _field(split: str, name: str) -> dict[str, Any]:
    kind = SHARDS.field(name).type
    repeated = pa.types.is_list(kind)
    inner = kind.value_type if repeated else kind
    field = {
        "@type": "cr:Field",
        "@id": f"{split}/{name}",
        "name": name,
        "description": COLUMNS[name],
        "dataType": "sc:Text" if inner == pa.string() else "sc:Integer",
        "source": {"fileSet": {"@id": f"{split}-files"}, "extract": {"column": name}},
    }
    return field | ({"repeated": True} if repeated else {})
