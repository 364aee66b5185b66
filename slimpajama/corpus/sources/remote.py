"""Files of a store or a web server, through fsspec."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, cast
from urllib.parse import urlsplit
from zipfile import BadZipFile

import fsspec

from slimpajama.core.config import protocols
from slimpajama.core.errors import InputError
from slimpajama.corpus.sources import guard
from slimpajama.corpus.sources.http import RefusedError, cause_of, public_client
from slimpajama.workspace.store import outside_errors


def _file_system(uri: str) -> tuple[Any, str]:
    """Return the file system of a URI or pattern, and the path inside it."""
    used = protocols(uri)
    options: dict[str, Any] = {protocol: {"get_client": public_client} for protocol in used & {"http", "https"}}
    if "s3" in used:
        # A cached listing would hide files that others have written since.
        options["s3"] = {"use_listings_cache": False}
    try:
        for protocol in used & {"http", "https"}:
            for address in socket.getaddrinfo(urlsplit(uri.rsplit("::", 1)[-1]).hostname, protocol):
                guard.check_public(address)
        return fsspec.core.url_to_fs(uri, **options)  # type: ignore[no-any-return]
    except socket.gaierror as error:
        hint = "Is the name right, and the network there? Run again."
        raise InputError(f"cannot be opened: {error.strerror}", where=uri, hint=hint) from None
    except outside_errors(ValueError, ImportError, BadZipFile) as error:
        raise cause_of(error) or InputError(f"cannot be opened: {error}", where=uri) from None


def list_remote(uri: str, pattern: str, is_data: Callable[[str], bool]) -> Iterator[tuple[str, int, str]]:
    """Yield URI, size and version of each file of a source, in order of their paths.

    Args:
        uri: The source's, for messages.
        pattern: What its files match.
        is_data: Whether a path among them is one of its files.

    Raises:
        InputError: They cannot be listed.
    """
    fs, inner = _file_system(pattern)
    try:
        found = sorted(fs.glob(inner, detail=True).items())
        files = [(path, info) for path, info in found if info["type"] == "file" and is_data(path)]
        versions = [_version(fs, path, info) for path, info in files]
    except outside_errors() as error:
        # The cause is left out, since it may quote a signed address.
        raise cause_of(error) or InputError(f"cannot be listed: {error}", where=uri) from None
    for (path, info), version in zip(files, versions, strict=True):
        yield fs.unstrip_protocol(path), int(info["size"] or 0), version


def open_remote(uri: str) -> BinaryIO:
    """Open a file for reading.

    Raises:
        OSError: It is gone or may not be read.
        InputError: A server gives no answer.
    """
    fs, path = _file_system(uri)
    try:
        return cast(BinaryIO, fs.open(path, "rb"))
    except FileNotFoundError as error:
        cause = cause_of(error)
        if isinstance(cause, RefusedError):
            # Only this file is refused: it will be on record.
            raise PermissionError(cause.found or cause.what) from None
        raise cause or error from None
    except (BadZipFile, RuntimeError) as error:
        # A `zip://` archive is damaged or needs a password.
        raise OSError(str(error)) from error


def remote_version(uri: str) -> str:
    """Return what tells the content of a file from any other that it had: its store's etag."""
    fs, path = _file_system(uri)
    return _version(fs, path, fs.info(path))


def _version(fs: Any, path: str, info: dict[str, Any]) -> str:
    return str(info.get("ETag") or fs.ukey(path)).strip('"')
