"""Ids of documents, and rows of what could not be read."""

from __future__ import annotations

import hashlib
from typing import Any

from slimpajama.corpus.sources.records import RejectedRecord

Row = dict[str, Any]


def document_id(source: str, place: str, text: str) -> str:
    """Return a document's id: 32 hex digits of SHA-256 over its source's name, its place in there and its text.

    Each part is preceded by its length, so no two different triples are hashed alike.
    """
    parts = b"".join(framed(part.encode()) for part in (source, place, text))
    return hashlib.sha256(parts).hexdigest()[:32]


def framed(part: bytes) -> bytes:
    """Return a part of what is hashed behind its length, so that no two different lists of parts are hashed alike."""
    return len(part).to_bytes(8, "little") + part


def rejected_row(source: str, path: str, place: str, bad: RejectedRecord) -> Row:
    """Return the row of `removed` of what could not be read, at a place in a source."""
    return {
        "id": document_id(source, f"{place}#{bad.place}", f"{bad.rule}: {bad.value}"),
        "source": source,
        "uri": f"{path}#{bad.place.rsplit(' ', 1)[-1]}" if bad.place else path,
        "stage": "ingest",
        "rule": bad.rule,
        "value": f"{bad.place}: {bad.value}" if bad.place else bad.value,
        "threshold": bad.threshold,
    }
