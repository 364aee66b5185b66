"""What a finished step wrote, file by file with its hash, and from what: written last, so what it lists is whole."""

import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from slimpajama.core.config import canonical
from slimpajama.core.errors import DamagedError, StorageError
from slimpajama.core.progress import current
from slimpajama.workspace import layout
from slimpajama.workspace.store import CHECK, Store, parsed_json, sha256

# A file that is read in part is checked in blocks of so many bytes.
BLOCK = 256 << 10
Counts = dict[str, Any]
T = TypeVar("T")


def json_bytes(value: Any) -> bytes:
    """Return `value` as the JSON that the workspace holds: readable, sorted, the same bytes every time."""
    return (json.dumps(value, default=_plain, ensure_ascii=False, indent=1, sort_keys=True) + "\n").encode()


def _plain(value: Any) -> Any:
    if isinstance(value, FileEntry) and not value.crc32:
        return {name: getattr(value, name) for name in ("path", "sha256", "bytes", "rows")}
    if not isinstance(value, Manifest):
        return canonical(value)
    fields = {name: getattr(value, name) for name in ("name", "fingerprint", "files", "counts")}
    return fields | {"about": value.depends_on}


def add_counts(parts: Iterable[Mapping[str, Any]]) -> Counts:
    """Add up nested counts: numbers add, mappings merge."""
    total: Counts = {}
    for part in parts:
        for key, value in part.items():
            if isinstance(value, Mapping):
                total[key] = add_counts([total.get(key, {}), value])
            else:
                total[key] = total.get(key, 0) + value
    return total


def total(counts: Any) -> int:
    """Add up all numbers of nested counts."""
    return sum(map(total, counts.values())) if isinstance(counts, Mapping) else int(counts)


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One published file."""

    path: str
    """Relative to the workspace."""
    sha256: str
    bytes: int
    rows: int = 0
    """Rows of a Parquet file, 0 of any other."""
    crc32: str = ""
    """Of each `BLOCK` bytes, eight hex digits each, where the file may be read in part; outside of every digest."""


def entry_of(path: str, data: bytes, rows: int = 0) -> FileEntry:
    """Return how a manifest lists a file."""
    sums = blocks_crc32(data) if path.endswith((".parquet", ".arrow")) else ""
    return FileEntry(path, sha256(data), len(data), rows, sums)


def blocks_crc32(data: bytes) -> str:
    """Return the checksums of the blocks of a file, or of a part that begins with one."""
    view = memoryview(data)
    return "".join(f"{zlib.crc32(view[start : start + BLOCK]):08x}" for start in range(0, len(data), BLOCK))


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a finished step wrote, and from what."""

    name: str
    fingerprint: str
    files: tuple[FileEntry, ...]
    counts: Counts
    depends_on: Annotated[dict[str, Any], Field(alias="about")]
    """Settings, inputs and versions: everything that the fingerprint is made of; on disk its key is `about`."""

    @property
    def digest(self) -> str:
        """Hash of the whole manifest, and so of every byte it lists; what the next step depends on."""
        return sha256(json_bytes(replace(self, files=tuple(replace(entry, crc32="") for entry in self.files))))

    def entries(self, prefix: str) -> list[FileEntry]:
        """Return the listed files whose paths begin with `prefix`, in order."""
        return [entry for entry in self.files if entry.path.startswith(prefix)]

    def paths(self, prefix: str) -> list[str]:
        """Return the paths of the listed files that begin with `prefix`, in order."""
        return [entry.path for entry in self.entries(prefix)]

    def find(self, name: str) -> FileEntry | None:
        """Return the listed file of that name, such as `scores.json` or `tokenizer/tokenizer.json`, or None."""
        return next((entry for entry in self.files if f"/{entry.path}".endswith(f"/{name}")), None)

    def file(self, name: str) -> FileEntry:
        """Return the listed file of that name.

        Raises:
            StorageError: If the manifest lists none.
        """
        if (entry := self.find(name)) is None:
            raise StorageError(f"not in the manifest of {self.name}", where=name, hint=CHECK)
        return entry


_MANIFEST = TypeAdapter(Manifest)


def load_manifest(store: Store, path: str) -> Manifest | None:
    """Return a manifest, or None where there is none yet."""
    found, _ = store.read_versioned(path)
    # Of a folder that was given up on S3 an empty one is left.
    if found is None or layout.is_given_up(found):
        return None
    # On S3 line ends behind it count how often its folder was given up.
    data = parsed_json(found.rstrip(b"\n") + b"\n", f"{store.uri}/{path}")
    try:
        manifest = _MANIFEST.validate_python(data)
        if not all(map(_is_flat, (manifest.counts, manifest.depends_on))):
            raise DamagedError("not a manifest", where=f"{store.uri}/{path}", found="nested too deeply", hint=CHECK)
    except ValidationError as error:
        (first, *_) = error.errors()
        raise DamagedError(
            "not a manifest",
            where=f"{store.uri}/{path}",
            found=f"{'.'.join(map(str, first['loc']))}: {first['msg']}",
            hint=CHECK,
        ) from error
    store.learn(path, ((entry.path, entry.sha256) for entry in manifest.files))
    current().manifest_read(manifest)
    return manifest


def _is_flat(value: Any, levels: int = 50) -> bool:
    """Return whether a JSON value nests so little that a digest of it can be made."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels > 0 and all(_is_flat(item, levels - 1) for item in inner)
