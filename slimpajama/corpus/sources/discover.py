"""Which raw files are there, which of them are new, and how they are grouped into units of work.

A file is known by (source, path, content). Only published nights count as having read it, so a night that failed
leaves no gap.
"""

from __future__ import annotations

import asyncio
import glob
import hashlib
import ipaddress
import os
import socket
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import urlsplit
from zipfile import BadZipFile

import fsspec

from slimpajama.core.config import Config, SourceConfig, protocols
from slimpajama.core.errors import InputError
from slimpajama.corpus.sources.files import TABLES, format_of
from slimpajama.corpus.sources.records import RejectedRecord
from slimpajama.workspace.store import outside_errors

_MAGIC = frozenset("*?[")
_CHUNK = 1 << 20
# An IPv4 address in its last 32 bits (RFC 6052).
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
# 6to4; a network's own NAT64 (RFC 8215).
_TUNNELS = tuple(map(ipaddress.ip_network, ("2002::/16", "64:ff9b:1::/48")))
# Before an HTTP request is sent again.
_WAITS_S = (1.0, 2.0, 4.0)
# Answers that may be others the next time.
_BUSY = frozenset((408, 425, 429, 500, 502, 503, 504))
# fsspec itself makes something of these: not there, no such method, no such range.
_TOLD = frozenset((404, 405, 416))
NO_FILES = RejectedRecord("", "no-files", "0 files", "at least 1 file")


@dataclass(frozen=True, slots=True)
class InputFile:
    """One raw file as the plan saw it."""

    source: str
    path: str
    """As the pattern matched it: relative for a relative pattern; valid Unicode whatever the disk holds."""
    bytes: int
    sha256: str
    """Of its content; for a remote file its store's etag."""
    location: str = field(compare=False)
    """Where it is opened: an absolute path, or a URI. Not part of ids or manifests."""
    stamp: tuple[int, ...] = field(default=(), compare=False)
    """Of a local file: what the disk says of it, which a write changes. Spares hashing it a second time."""

    def entry(self) -> dict[str, Any]:
        """Return what the night's manifest lists of it, and a later night's `plan` takes as known."""
        return {"source": self.source, "path": self.path, "bytes": self.bytes, "sha256": self.sha256}


@dataclass(frozen=True, slots=True)
class Plan:
    """What tonight reads."""

    units: tuple[tuple[InputFile, ...], ...] = ()
    """New and changed files; small ones together, in order."""
    problems: tuple[tuple[str, str, RejectedRecord], ...] = field(default=())
    """Source, path or pattern, and what is wrong with it."""

    @property
    def files(self) -> tuple[InputFile, ...]:
        """Every file that is read, in order."""
        return tuple(file for unit in self.units for file in unit)


def plan(cfg: Config, known: Iterable[dict[str, Any]], *, quick: bool = False) -> Plan:
    """List every source's files and keep those that no earlier night has read in this very form.

    Args:
        cfg: `ingest` and `run.source_root` are used.
        known: Inputs that published nights list: `source`, `path`, `bytes`, `sha256`.
        quick: Read no local file whose path and size already say that it is new; its `sha256` stays empty.
    """
    known = list(known)
    seen = {(entry["source"], entry["path"], entry["sha256"]) for entry in known}
    doubtful = {(entry["source"], entry["path"], entry["bytes"]) for entry in known} if quick else None
    new: list[InputFile] = []
    problems: list[tuple[str, str, RejectedRecord]] = []
    for source in cfg.ingest.sources:
        found = list(list_source(source, cfg.run.source_root, doubtful))
        if not found:
            problems.append((source.name, source.uri, NO_FILES))
        for item in found:
            if isinstance(item, InputFile):
                new += [item] if (item.source, item.path, item.sha256) not in seen else []
            else:
                problems.append((source.name, *item))
    return Plan(tuple(_units(new, int(cfg.ingest.part_mb * 1e6))), tuple(problems))


def plan_again(cfg: Config, inputs: list[dict[str, Any]], problems: list[list[str]]) -> Plan:
    """Return the plan of a published night, however many files have come since.

    Args:
        cfg: The night's `ingest`, and `run.source_root`.
        inputs: The files that the night's manifest lists, as `plan` takes them.
        problems: Source, path or pattern, and rule of what it could not read.

    Raises:
        InputError: A file is gone, or is not what it was.
    """
    read = {(entry["source"], entry["path"], entry["bytes"]) for entry in inputs}
    found: dict[tuple[str, str, str], InputFile] = {}
    unread = {(source, path, rule): NO_FILES for source, path, rule in problems if rule == NO_FILES.rule}
    for source in cfg.ingest.sources:
        for item in list_source(source, cfg.run.source_root, read):
            if isinstance(item, InputFile):
                found[item.source, item.path, item.sha256] = item
            else:
                unread[source.name, item[0], item[1].rule] = item[1]
    keys = [(entry["source"], entry["path"], entry["sha256"]) for entry in inputs]
    if changed := [path for source, path, content in keys if (source, path, content) not in found]:
        raise InputError(
            f"{len(changed)} of {len(keys)} raw files are gone or were changed",
            where=changed[0],
            expected="what the night has read",
            hint="Put them back, or name the folder of --config that they lie in.",
        )
    again = ((source, path, unread.get((source, path, rule))) for source, path, rule in problems)
    return Plan(
        tuple(_units([found[key] for key in keys], int(cfg.ingest.part_mb * 1e6))),
        tuple((source, path, bad) for source, path, bad in again if bad),
    )


def _units(files: list[InputFile], unit_bytes: int) -> Iterator[tuple[InputFile, ...]]:
    """Group neighbours up to `unit_bytes`; a larger file is a unit of its own."""
    unit: list[InputFile] = []
    size = 0
    for file in files:
        if unit and size + file.bytes > unit_bytes:
            yield tuple(unit)
            unit, size = [], 0
        unit.append(file)
        size += file.bytes
    if unit:
        yield tuple(unit)


def fixed_folder(pattern: str) -> str:
    """Return the part of a pattern before its first wildcard folder or its file name, with a slash at the end.

    Example:
        >>> fixed_folder("raw/2024/*/a*.jsonl")
        'raw/2024/'
    """
    parts = pattern.split("/")
    fixed = next((number for number, part in enumerate(parts[:-1]) if _MAGIC & set(part)), len(parts) - 1)
    return "".join(f"{part}/" for part in parts[:fixed])


def list_source(
    source: SourceConfig, root: str, doubtful: set[tuple[str, str, int]] | None = None
) -> Iterator[InputFile | tuple[str, RejectedRecord]]:
    """Yield a source's files in order of their paths, or (path, problem).

    Args:
        source: Where to look.
        root: Folder that a relative pattern starts at.
        doubtful: Source, path and size of local files that must be hashed; None for all.
    """
    if "://" in source.uri:
        yield from _list_remote(source)
        return
    lost: list[OSError] = []
    for match in sorted(_matches(_pattern(source), root, lost)):
        if not _wanted(source, match):
            continue
        full = Path(root, match)
        path = _unicode(match)
        try:
            status = full.stat()
            if stat.S_ISDIR(status.st_mode):
                continue
            # Opening a pipe would wait for ever.
            if not stat.S_ISREG(status.st_mode):
                yield path, RejectedRecord("", "unreadable", "a device or a pipe", "a regular file")
                continue
            hashed = doubtful is None or (source.name, path, status.st_size) in doubtful
            yield InputFile(
                source.name, path, status.st_size, _sha256(full) if hashed else "", str(full), _stamp(status)
            )
        except OSError as error:
            yield path, RejectedRecord("", "unreadable", error.strerror or str(error), "a file that can be read")
    for loss in lost:
        yield (
            _unicode(str(loss.filename)),
            RejectedRecord("", "unreadable", loss.strerror or str(loss), "a folder to be listed"),
        )


def _unicode(path: str) -> str:
    return os.fsencode(path).decode("utf-8", "backslashreplace").replace(os.sep, "/")


def _matches(pattern: str, root: str, lost: list[OSError]) -> set[str]:
    """Return what a local pattern matches; `**` enters each folder once, whatever links lead to it.

    `glob` alone would go round one loop of links forty times, and round two of them for ever; nor would it tell of a
    folder that cannot be listed, which is added to `lost`.
    """
    pattern = f"{pattern}/*" if f"/{pattern}".endswith("/**") else pattern
    head, deep, tail = f"/{pattern}".partition("/**/")
    if not deep:
        return set(glob.glob(pattern, root_dir=root or None))  # noqa: PTH207 - keeps the prefix
    tops = glob.glob(head[1:], root_dir=root or None) if head[1:] else [""]  # noqa: PTH207
    folders = {folder for top in tops if Path(root, top).is_dir() for folder in _folders(top, root, lost)}
    return {
        os.path.join(folder, name)  # noqa: PTH118 - keeps the prefix
        for folder in sorted(folders)
        for name in _matches(tail, os.path.join(root, folder), lost)  # noqa: PTH118
    }


def _folders(top: str, root: str, lost: list[OSError]) -> Iterator[str]:
    """Yield a folder and all below it but hidden ones: each once, by links only those that lie elsewhere."""
    links, met = [top], set[tuple[int, int]]()
    while links:
        link = links.pop(0)
        base = os.path.join(root, link) or "."  # noqa: PTH118 - keeps the prefix
        for full, names, _ in os.walk(base, onerror=lost.append):
            status = Path(full).stat()
            known = (status.st_dev, status.st_ino) in met
            met.add((status.st_dev, status.st_ino))
            names[:] = [] if known else sorted(name for name in names if not name.startswith("."))
            if not known:
                below = full[len(base) :].lstrip("/")
                folder = os.path.join(link, below) if below else link  # noqa: PTH118
                yield folder
                links += [f"{folder}/{name}" if folder else name for name in names if Path(full, name).is_symlink()]


def _pattern(source: SourceConfig) -> str:
    return f"{source.uri}**/*" if source.uri.endswith("/") else source.uri


def _wanted(source: SourceConfig, path: str) -> bool:
    """Whether a file is data: of a pattern all are; of a folder those of a table's format, or of the source's.

    Left out are the caches (`cache-*.arrow`) and notes (`state.json`, `README.md`) beside a saved dataset.
    """
    name = path.rsplit("/", 1)[-1]
    formats = TABLES if source.format == "auto" else {source.format}
    return not source.uri.endswith("/") or (format_of(name) in formats and not name.startswith(("cache-", ".", "_")))


def _stamp(status: os.stat_result) -> tuple[int, ...]:
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _remote(uri: str) -> tuple[Any, str]:
    """Return the file system of a pattern and the pattern inside it."""
    used = protocols(uri)
    options: dict[str, Any] = {protocol: {"get_client": _public_client} for protocol in used & {"http", "https"}}
    if "s3" in used:
        # A cached listing would hide what others wrote since.
        options["s3"] = {"use_listings_cache": False}
    try:
        for protocol in used & {"http", "https"}:
            for address in socket.getaddrinfo(urlsplit(uri.rsplit("::", 1)[-1]).hostname, protocol):
                _check_public(address)
        return fsspec.core.url_to_fs(uri, **options)  # type: ignore[no-any-return]
    except socket.gaierror as error:
        hint = "Is the name right, and the network there? Run again."
        raise InputError(f"cannot be opened: {error.strerror}", where=uri, hint=hint) from None
    except outside_errors(ValueError, ImportError, BadZipFile) as error:
        raise _cause(error) or InputError(f"cannot be opened: {error}", where=uri) from None


async def _public_client(**options: Any) -> Any:
    """Return an HTTP client that opens no private address, whatever a name resolves or a server redirects to."""
    import aiohttp

    connector = aiohttp.TCPConnector(socket_factory=_public_socket)
    return aiohttp.ClientSession(connector=connector, middlewares=(_patiently,), **options)


class _RefusedError(InputError):
    """The server does not give this file, and would not the next time."""


async def _patiently(request: Any, send: Any) -> Any:
    """Return the answer to an HTTP request, which is sent again where the next answer may be another.

    Raises:
        InputError: There was none, or the server is busy. Neither of `OSError` nor of aiohttp's errors, so that fsspec
            takes it neither for a missing file nor for an empty folder.
    """
    import aiohttp

    found, where = "", str(request.url)
    # After a HEAD fsspec tries a GET.
    for wait_s in (0.0, *(() if request.method == "HEAD" else _WAITS_S)):
        await asyncio.sleep(wait_s)
        try:
            answer = await send(request)
            if answer.status == 206:
                # A block of a few megabytes; one that breaks off is asked for again.
                await answer.read()
            elif answer.status == 200 and not request.headers.get("Range", "bytes=0-").startswith("bytes=0-"):
                hint = "Copy the file to a disk, and name it there."
                raise _RefusedError("the server sends no part of a file", where=where, hint=hint)
        except (aiohttp.ClientError, TimeoutError) as error:
            if isinstance(error, aiohttp.ClientConnectorError) and isinstance(error.os_error, PermissionError):
                raise _RefusedError(str(error.os_error), where=where) from None
            found = str(error) or type(error).__name__
            continue
        if answer.status < 400 or answer.status in _TOLD:
            return answer
        answer.close()
        found = f"{answer.status} {answer.reason}"
        if answer.status not in _BUSY:
            raise _RefusedError("the server refuses it", where=where, found=found, hint="Is it meant for you?")
    hint = "Is the server well? Run again: it goes on where it stopped."
    raise InputError("the server gives no answer", where=where, found=found, hint=hint)


def _cause(error: Exception) -> InputError | None:
    """Return what `_patiently` said where fsspec has made a missing file of it."""
    return error.__cause__ if isinstance(error.__cause__, InputError) else None


def _public_socket(address: Any) -> socket.socket:
    _check_public(address)
    return socket.socket(*address[:3])


def _check_public(address: Any) -> None:
    host = address[4][0]
    found = ipaddress.ip_address(host.partition("%")[0])
    inner = getattr(found, "ipv4_mapped", None) or found
    if found in _NAT64:
        # Where a gateway goes on to.
        inner = ipaddress.ip_address(int(found) & 0xFFFFFFFF)
    if not inner.is_global or inner.is_multicast or any(inner in network for network in _TUNNELS):
        raise PermissionError(f"{host} is inside a private network")


def _list_remote(source: SourceConfig) -> Iterator[InputFile | tuple[str, RejectedRecord]]:
    fs, pattern = _remote(_pattern(source))
    try:
        found = fs.glob(pattern, detail=True)
        entries = [
            (path, found[path]) for path in sorted(found) if found[path]["type"] == "file" and _wanted(source, path)
        ]
        versions = [_etag(fs, path, info) for path, info in entries]
    except outside_errors() as error:
        # without its cause, which may quote a signed address
        raise _cause(error) or InputError(f"cannot be listed: {error}", where=source.uri) from None
    for (path, info), version in zip(entries, versions, strict=True):
        uri = fs.unstrip_protocol(path)
        yield InputFile(source.name, uri, int(info["size"] or 0), version, uri)


def _etag(fs: Any, path: str, info: dict[str, Any]) -> str:
    return str(info.get("ETag") or fs.ukey(path)).strip('"')


def open_input(file: InputFile) -> BinaryIO:
    """Open a planned file for reading.

    Raises:
        OSError: It is gone or may not be read.
        InputError: A server gives no answer.
    """
    if "://" in file.location:
        fs, path = _remote(file.location)
        try:
            return cast(BinaryIO, fs.open(path, "rb"))
        except FileNotFoundError as error:
            cause = _cause(error)
            if isinstance(cause, _RefusedError):
                # This file alone: it is on record.
                raise PermissionError(cause.found or cause.what) from None
            raise cause or error from None
        except (BadZipFile, RuntimeError) as error:
            # Of `zip://`: damaged, or needs a password.
            raise OSError(str(error)) from error
    return Path(file.location).open("rb")


def current_version(file: InputFile) -> str:
    """Return what `file.sha256` would be now.

    Raises:
        OSError: It is gone or may not be read.
    """
    if "://" in file.location:
        fs, path = _remote(file.location)
        return _etag(fs, path, fs.info(path))
    local = Path(file.location)
    return file.sha256 if _stamp(local.stat()) == file.stamp else _sha256(local)
