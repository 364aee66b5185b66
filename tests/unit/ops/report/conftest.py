"""A workspace of three nights made by hand: a first model, a better one over a hostile corpus, nothing new."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from slimpajama.core.config import CleanConfig, DedupConfig, IngestConfig, SourceConfig, canonical
from slimpajama.core.schema import DOCUMENTS, MINHASH, SHARDS, removed_table
from slimpajama.ops.report.collect import collect
from slimpajama.workspace.local import LocalStore
from slimpajama.workspace.manifest import FileEntry, Manifest, json_bytes
from slimpajama.workspace.open import Workspace
from slimpajama.workspace.parquet import parquet_bytes
from slimpajama.workspace.store import sha256

FIRST, SECOND, THIRD = NIGHTS = ("2026-01-01", "2026-01-02", "2026-01-03")
TUNED = "2026-01-02-tiny-bbbbbbbb-cccccccc"
MODELS = {FIRST: "2026-01-01-tiny-aaaaaaaa", SECOND: "2026-01-02-tiny-bbbbbbbb"}
EVIL = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(2)>',
    "{{ 7 * 7 }}",
    "`|*_[x](javascript:alert(3))",
    "\u202eabc\x1b",
)
SHORT = {"stage": "clean", "rule": "short-document", "value": "3 content characters", "threshold": "at least 200"}
POEM = "床前明月光，疑是地上霜。举头望明月，低头思故乡。" * 4
PROSE = "It was the best of times, it was the worst of times. " * 6


def document(number: int, text: str, lang: str, night: str, uri: str = "") -> dict[str, Any]:
    uri = uri or f"raw/{night}.jsonl#{number}"
    return {
        "id": f"{number:032x}",
        "text": text,
        "lang": lang,
        "source": "web",
        "uri": uri,
        "sha256": sha256(text.encode()),
        "n_chars": len(text),
        "n_bytes": len(text.encode()),
        "night": night,
    }


def copy_of(row: dict[str, Any], jaccard: float) -> dict[str, Any]:
    rule = "exact-duplicate" if jaccard == 1 else "near-duplicate"
    return {
        "stage": "dedup",
        "rule": rule,
        "value": f"{jaccard:.6f}",
        "threshold": "0.8",
        "duplicate_of": row["id"],
        "jaccard": jaccard,
    }


def write(store: LocalStore, path: str, content: pa.Table | bytes) -> FileEntry:
    data = content if isinstance(content, bytes) else parquet_bytes(content)
    store.write(path, data)
    return FileEntry(path, sha256(data), len(data), content.num_rows if isinstance(content, pa.Table) else 0)


def publish(store: LocalStore, path: str, entries: list[FileEntry], counts: Any, about: Any) -> Manifest:
    manifest = Manifest(path, sha256(path.encode())[:16], tuple(entries), counts, about)
    store.write(path, json_bytes(manifest))
    return manifest


def write_night(store: LocalStore, night: str, kept: list[Any], lost: list[Any], licence: str) -> Manifest:
    folder, entries = f"nights/{night}", []
    by_stage = {stage: [row for row in lost if row["stage"] == stage] for stage in ("ingest", "clean", "dedup")}
    for stage, rows in by_stage.items():
        if rows:
            entries.append(write(store, f"{folder}/removed/{stage}-part-00000-00000.parquet", removed_table(rows)))

    def by(name: str, rows: list[Any], value: str = "") -> dict[str, int]:
        total: Counter[str] = Counter()
        for row in rows:
            total[row[name]] += row[value] if value else 1
        return dict(total)

    clean = [*kept, *by_stage["dedup"]]
    readable = [*clean, *by_stage["clean"]]
    inputs = [{"source": "web", "path": f"raw/{night}.jsonl", "bytes": 9, "sha256": "0" * 64}]
    counts: dict[str, Any] = {
        "ingest": {
            "files": 1,
            "documents": by("source", readable),
            "bytes": by("source", readable, "n_bytes"),
            "removed": {row["source"]: {row["rule"]: 1} for row in by_stage["ingest"]},
        },
        "clean": {
            "documents": by("source", clean),
            "bytes": by("source", clean, "n_bytes"),
            "languages": by("lang", clean),
        },
        "dedup": {"kept": by("source", kept), "kept_bytes": by("source", kept, "n_bytes"), "removed_for_earlier": 1},
    }
    if clean:
        minhash = [
            {"id": row["id"], "content": b"0" * 16, "kept": row in kept}
            | {"cluster": row.get("duplicate_of") or row["id"]}
            for row in clean
        ]
        entries.append(
            write(store, f"{folder}/minhash/part-00000-00000.parquet", pa.Table.from_pylist(minhash, MINHASH))
        )
    if kept:
        entries.append(
            write(store, f"{folder}/documents/part-00000-00000.parquet", pa.Table.from_pylist(kept, DOCUMENTS))
        )
        words = [
            {**row, "words": [row["text"]], "content_words": [" Moon", "moon", "明月", "<b>evil</b>", "12"]}
            for row in kept
        ]
        rows = [row | {"input_ids": [1, 2, 3], "content_mask": "111"} for row in words]
        entries.append(
            write(store, f"{folder}/shards/train/train-00000-of-00001.parquet", pa.Table.from_pylist(rows, SHARDS))
        )
        tokens = {lang: 3 * count for lang, count in by("lang", kept).items()}
        counts["shards"] = {
            "documents": {"train": len(kept)},
            "tokens": {"train": tokens},
            "bytes": {"train": by("lang", kept, "n_bytes")},
        }
        counts["tokenizer"] = {"pieces": 300}
    config = [SourceConfig(name="web", uri="raw/*.jsonl", licence=licence)]
    settings = {"ingest": IngestConfig(sources=tuple(config)), "clean": CleanConfig(), "dedup": DedupConfig()}
    about = {
        "night": night,
        "earlier": list(NIGHTS[: NIGHTS.index(night)]),
        "software": {"slimpajama": "0"},
        "settings": {name: canonical(value) for name, value in settings.items()},
        "stages": {"ingest": {"inputs": inputs}, "clean": {"cld2": "1"}},
    }
    return publish(store, f"{folder}/manifest.json", sorted(entries, key=lambda entry: entry.path), counts, about)


def write_model(store: LocalStore, night: str) -> None:
    curve = [
        {"step": n, "tokens": 100 * n, "total": 9.0 / n, "continue": 8.0 / n, "restore": 1.0 / n} for n in (1, 2, 3)
    ]
    record = {"curve": curve, "validation": [{"step": 3, "tokens": 300, "zh": 2.5, "en": 2.4}], "started_from": ""}
    folder = f"models/{MODELS[night]}"
    entry = write(store, f"{folder}/training.json", json_bytes(record))
    about = {"night": night, "nights": {night: ""}, "model": {"preset": "tiny"}, "train": {"lr": 1.0}, "torch": "2"}
    publish(store, f"{folder}/manifest.json", [entry], {"steps": 3, "tokens": 300}, about)


def evaluation(store: LocalStore, model: str, night: str, bits: float) -> Manifest:
    part = {"documents": 20, "bits_per_byte": bits, "token_accuracy": 0.997, "document_accuracy": 0.25}
    figures = {"overall": part, "languages": {"zh": part, "en": part}, "sources": {"zh/web": part}}
    folder = f"models/{model}/evaluations/{night}"
    entry = write(store, f"{folder}/evaluation.json", json_bytes(figures))
    return publish(store, f"{folder}/manifest.json", [entry], {}, {"max_mb_per_language": 0.3, "model": model})


def gate(store: LocalStore, night: str, champion: Manifest | None, decision: dict[str, Any]) -> None:
    folder = f"models/{MODELS[night]}/evaluations/{night}/gate"
    entry = write(store, f"{folder}/decision.json", json_bytes(decision))
    settings = {"bootstrap": 10, "confidence": 0.95, "seed": 0}
    publish(
        store,
        f"{folder}/manifest.json",
        [entry],
        {},
        {"champion": champion.digest if champion else "", "settings": settings},
    )


def samples(store: LocalStore, night: str, roles: dict[str, str]) -> None:
    texts = [
        {"role": role, "model": model, "prompt": prompt, "text": text, "repeated_share": 0.1, "copied_share": 0.0}
        for role, model in roles.items()
        for prompt, text in (("今天", EVIL[0]), ("The ", EVIL[1] + EVIL[4]))
    ]
    entry = write(
        store,
        f"reports/{night}/samples.json",
        json_bytes({"night": night, "samples": texts, "natural": {"en": 0.031, "zh": 0.012}}),
    )
    publish(store, f"reports/{night}/samples.manifest.json", [entry], {}, {"settings": {"seed": 0}})


def tuned(store: LocalStore) -> None:
    """Tune the second night's model; another tuning asked to serve, too."""
    measures = {"copied": 3.2, "length": 1.1, "n": 20, "interval": [20.0, 22.5]}
    tasks = {
        "translation": {"zh": measures | {"chrf": 21.24, "bleu": 3.0}},
        "question-answering": {"en": measures | {"f1": 21.0, "exact": 20.0}},
    }
    texts = [
        {"task": "translation", "target_lang": "zh", "source": EVIL[0], "question": "", "reference": EVIL[1]}
        | {"output": EVIL[4]},
        {"task": "question-answering", "target_lang": "en", "source": PROSE * 9, "question": EVIL[3]}
        | {"reference": "times", "output": EVIL[2]},
    ]
    scores = {"tasks": tasks, "ways": {"summarize/zh": "quoted"}, "samples": texts}
    entry = write(store, f"tuned/{TUNED}/scores.json", json_bytes(scores))
    about = {"base": MODELS[SECOND], "tune": {"tokens": 4096}, "apply": {"beams": 2}}
    publish(store, f"tuned/{TUNED}/manifest.json", [entry], {}, about)
    history = [
        {"task": "translation", "model": "another", "reason": "nobody served it before"},
        {"task": "translation", "model": TUNED, "reason": f"better: {EVIL[0]}"},
        {"task": "question-answering", "model": TUNED, "reason": "nobody served it before"},
    ]
    store.write("tuned/current.json", json_bytes({"tasks": {"translation": TUNED}, "history": history}))


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> LocalStore:
    """Three published nights, two models; the second one is better. No test may change it: use `store`."""
    store = LocalStore(str(tmp_path_factory.mktemp("report") / "workspace"))
    poem, prose = document(1, POEM, "zh", FIRST), document(2, PROSE, "en", FIRST)
    write_night(store, FIRST, [poem, prose], [document(3, "太短了", "zh", FIRST) | SHORT], "CC0-1.0")
    new = [document(10 + n, f"{text} {PROSE}", "en", SECOND, uri=f"raw/{text}#1") for n, text in enumerate(EVIL)]
    bad = {
        "id": "f" * 32,
        "source": "web",
        "uri": EVIL[0],
        "night": SECOND,
        "stage": "ingest",
        "rule": "not-json",
        "value": EVIL[1],
        "n_bytes": 0,
    }
    lost = [
        document(20, POEM.replace("霜", "雪"), "zh", SECOND, uri=EVIL[1]) | copy_of(poem, 0.9),
        document(21, PROSE, "en", SECOND, uri=EVIL[3]) | copy_of(prose, 1.0),
        *(document(22 + n, text, "en", SECOND) | SHORT for n, text in enumerate((EVIL[1], EVIL[2], EVIL[4]))),
        bad,
    ]
    write_night(store, SECOND, new, lost, EVIL[0])
    write_night(store, THIRD, [], [document(30, POEM, "zh", THIRD) | copy_of(poem, 1.0)], "CC0-1.0")
    store.write("nights/index.json", json_bytes({"nights": list(NIGHTS)}))
    for night in (FIRST, SECOND):
        write_model(store, night)
    evaluation(store, MODELS[FIRST], FIRST, 3.0)
    gate(
        store,
        FIRST,
        None,
        {"promote": True, "reason": "There was no champion yet.", "overall": None, "languages": None},
    )
    champion = evaluation(store, MODELS[FIRST], SECOND, 3.1)
    evaluation(store, MODELS[SECOND], SECOND, 2.9)
    better = {"documents": 20, "champion": 3.1, "challenger": 2.9, "difference": -0.2, "low": -0.3, "high": -0.1}
    worse = better | {"difference": 0.1, "low": 0.05, "high": 0.2}
    gate(
        store,
        SECOND,
        champion,
        {"promote": True, "reason": "Better.", "overall": better, "languages": {"zh": better, "en": worse}},
    )
    samples(store, FIRST, {"challenger": MODELS[FIRST]})
    samples(store, SECOND, {"champion": MODELS[FIRST], "challenger": MODELS[SECOND]})
    tuned(store)
    return store


@pytest.fixture
def store(built: LocalStore, tmp_path: Path) -> LocalStore:
    """A fresh copy of the three nights."""
    return LocalStore(str(shutil.copytree(built.root, tmp_path / "workspace")))


@pytest.fixture(scope="session")
def nights() -> dict[str, str | None]:
    """Each night and its model."""
    return {night: MODELS.get(night) for night in NIGHTS}


@pytest.fixture(scope="session")
def reports(built: LocalStore, nights: dict[str, str | None]) -> dict[str, dict[str, Any]]:
    """Each night's report as data."""
    return {
        night: collect(Workspace(built), night, model, TUNED if night == SECOND else None)
        for night, model in nights.items()
    }
