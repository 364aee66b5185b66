"""What a night's shards are, for people (README.md) and for machines (Croissant 1.0).

The card's head is what the Hugging Face hub and `datasets.load_dataset(folder)` read: which files are which split.
"""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from slimpajama.core.config import Config
from slimpajama.core.page import card_head, render
from slimpajama.core.schema import SHARDS
from slimpajama.core.split import SPLITS
from slimpajama.text.stopwords import LICENCE
from slimpajama.workspace import layout
from slimpajama.workspace.layout import place
from slimpajama.workspace.manifest import Counts, FileEntry, add_counts, json_bytes, total

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

_OF_A_SPLIT = ("documents", "tokens", "bytes")
NOTE = b"\n## Forgotten\n\n"
FILE_OBJECT = "cr:FileObject"
_PARQUET = "application/x-parquet"
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


def data_card(
    cfg: Config, night: str, files: Sequence[FileEntry], counts: Counts, engine: dict[str, Any], pieces: int
) -> bytes:
    """Return README.md, out of the shards and the step's counts; `pieces` is the size of the vocabulary.

    `engine` is what cut the words, as `engine_versions` returns it.
    """
    sources = {(name, lang): row for name, langs in counts["sources"].items() for lang, row in langs.items()}
    languages = add_counts({lang: row} for (_, lang), row in sources.items())
    places = Counter(place(entry.path).rest.partition("/")[0] for entry in files)
    splits = [
        {"name": split, "files": places[split]} | {name: total(counts[name][split]) for name in _OF_A_SPLIT}
        for split in SPLITS
        if split in counts["documents"]
    ]
    paths = [{"split": split, "path": f"shards/{split}/*.parquet"} for split in SPLITS if split in places]
    head = {
        "language": [lang for lang in sorted(languages) if len(lang) == 2],
        "license": "other",
        "configs": [{"config_name": "default", "data_files": paths}],
    }
    text = render(
        Path(__file__).with_name("card.md"),
        night=night,
        files=len(files),
        splits=splits,
        languages=sorted(languages.items()),
        sources=sorted(sources.items()),
        settings=cfg,
        columns=[(name, _type(SHARDS.field(name).type), content) for name, content in COLUMNS.items()],
        engine=engine,
        stop_words_licence=LICENCE,
        pieces=pieces,
    )
    return (card_head(head) + text).encode()


def _type(kind: pa.DataType) -> str:
    return f"list of {kind.value_type}" if pa.types.is_list(kind) else str(kind)


def croissant(cfg: Config, night: str, files: Sequence[FileEntry], counts: Counts) -> bytes:
    """Return the Croissant description (JSON-LD): each shard with its sha256, one record set a split.

    Source: MLCommons, "Croissant format specification", version 1.0 (2024).
    """
    folder = layout.night(night).within("")
    licences = sorted({source.licence for source in cfg.ingest.sources if source.licence}) or ["not stated"]
    distribution = _file_objects(files, folder)
    splits = [split for split in SPLITS if split in counts["documents"]]
    for name in splits:
        file_set = {"@type": "cr:FileSet", "@id": f"{name}-files", "name": f"{name}-files"}
        distribution.append(file_set | {"includes": f"shards/{name}/*.parquet", "encodingFormat": _PARQUET})
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
            "encodingFormat": _PARQUET,
        }
        for place, entry in zip(places, files, strict=True)
    ]


def with_files(described: bytes, night: str, files: Sequence[FileEntry]) -> bytes:
    """Return a Croissant description with other shards in the place of its own."""
    value = json.loads(described)
    others = [item for item in value["distribution"] if item["@type"] != FILE_OBJECT]
    return json_bytes(value | {"distribution": [*_file_objects(files, layout.night(night).within("")), *others]})


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
