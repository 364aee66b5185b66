"""Files of a store or a web server, through fsspec: public addresses only, and busy servers are asked again.

No file server may lead into a private network, by a name or by a redirect.
"""

import asyncio
import ipaddress
import re
import socket
from collections.abc import Iterator
from typing import Any, BinaryIO, cast
from urllib.parse import urlsplit

import fsspec
from fsspec.utils import glob_translate

from slimpajama.core.config import protocol
from slimpajama.core.errors import InputError
from slimpajama.workspace.store import outside_errors

MAGIC = frozenset("*?[")
_IPV6_HOST = re.compile(r"\w+://\[[^/\]]*:[^/\]]*\]")
# Addresses that hold an IPv4 address in their last 32 bits (RFC 6052).
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
# 6to4, and a network's own NAT64 (RFC 8215).
_TUNNELS = tuple(map(ipaddress.ip_network, ("2002::/16", "64:ff9b:1::/48")))
# How long to wait before a request is sent again.
_WAITS_S = (1.0, 2.0, 4.0)
# After these answers the next one may be another.
_BUSY = frozenset((408, 425, 429, 500, 502, 503, 504))
# Answers that fsspec understands: there is no such file, method or range.
_UNDERSTOOD = frozenset((404, 405, 416))


def check_public(address: Any) -> None:
    """Refuse an address, one of `socket.getaddrinfo`'s tuples, that is not public.

    Raises:
        PermissionError: It is inside a private network.
    """
    host = address[4][0]
    found = ipaddress.ip_address(host.partition("%")[0])
    inner = getattr(found, "ipv4_mapped", None) or found
    if found in _NAT64:
        # A gateway connects to the inner address.
        inner = ipaddress.ip_address(int(found) & 0xFFFFFFFF)
    if not inner.is_global or inner.is_multicast or any(inner in network for network in _TUNNELS):
        raise PermissionError(f"{host} is inside a private network")


def public_socket(address: Any) -> socket.socket:
    """Return a socket to an address that is public; for aiohttp, which asks for one at every connection."""
    check_public(address)
    return socket.socket(*address[:3])


class RefusedError(InputError):
    """The server does not give this file, and would not the next time."""


async def public_client(**options: Any) -> Any:
    """Return an HTTP client that opens no private address, whatever a name resolves or a server redirects to."""
    import aiohttp

    connector = aiohttp.TCPConnector(socket_factory=public_socket)
    return aiohttp.ClientSession(connector=connector, middlewares=(_patiently,), **options)


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
                raise RefusedError("the server sends no part of a file", where=where, hint=hint)
        except (aiohttp.ClientError, TimeoutError) as error:
            if isinstance(error, aiohttp.ClientConnectorError) and isinstance(error.os_error, PermissionError):
                raise RefusedError(str(error.os_error), where=where) from None
            found = str(error) or type(error).__name__
            continue
        if answer.status < 400 or answer.status in _UNDERSTOOD:
            return answer
        answer.close()
        found = f"{answer.status} {answer.reason}"
        if answer.status not in _BUSY:
            raise RefusedError("the server refuses it", where=where, found=found, hint="Is it meant for you?")
    hint = "Is the server well? Run again: it goes on where it stopped."
    raise InputError("the server gives no answer", where=where, found=found, hint=hint)


def cause_of(error: Exception) -> InputError | None:
    """Return the client's own error where fsspec has made a missing file of it."""
    return error.__cause__ if isinstance(error.__cause__, InputError) else None


def _file_system(uri: str) -> tuple[Any, str]:
    """Return the file system of a URI or pattern, and the path inside it."""
    used, options = protocol(uri), dict[str, Any]()
    try:
        if used in ("http", "https"):
            options["get_client"] = public_client
            for address in socket.getaddrinfo(urlsplit(uri).hostname, used):
                check_public(address)
        elif used == "s3":
            # A cached listing would hide files that others have written since.
            options["use_listings_cache"] = False
        # Not `url_to_fs`, which would take the `::` of an address or a name for a chain of protocols.
        kind = fsspec.get_filesystem_class(used)
        return kind(**kind._get_kwargs_from_urls(uri), **options), kind._strip_protocol(uri)
    except socket.gaierror as error:
        hint = "Is the name right, and the network there? Run again."
        raise InputError(f"cannot be opened: {error.strerror}", where=uri, hint=hint) from None
    except outside_errors(ValueError, ImportError) as error:
        raise cause_of(error) or InputError(f"cannot be opened: {error}", where=uri) from None


def fixed_folder(pattern: str) -> str:
    """Return the part of a pattern before its first wildcard folder or its file name, with a slash at the end.

    Example:
        >>> fixed_folder("raw/2024/*/a*.jsonl")
        'raw/2024/'
    """
    host = _IPV6_HOST.match(pattern)
    start = host.end() if host else 0
    parts = pattern[start:].split("/")
    fixed = next((number for number, part in enumerate(parts[:-1]) if MAGIC & set(part)), len(parts) - 1)
    return pattern[:start] + "".join(f"{part}/" for part in parts[:fixed])


def _matching(fs: Any, pattern: str) -> dict[str, Any]:
    """Return what a pattern matches, as `fs.glob` does but for the brackets of an IPv6 address: they are no pattern."""
    host = _IPV6_HOST.match(pattern)
    if not host:
        return dict(fs.glob(pattern, detail=True))
    rest = pattern[host.end() :]
    if not {"*", "["} & set(rest):
        return {pattern: fs.info(pattern)} if fs.exists(pattern) else {}
    top = fixed_folder(pattern)
    found = fs.find(top, maxdepth=None if "**" in rest else pattern[len(top) :].count("/") + 1, detail=True)
    matches = re.compile(glob_translate(rest)).match
    return {path: info for path, info in found.items() if matches(path[host.end() :])}


def list_remote(uri: str, pattern: str) -> Iterator[tuple[str, int, str]]:
    """Yield URI, size and version of each file that a pattern matches and that is not hidden, in order of their paths.

    Messages name `uri`, the source's.

    Raises:
        InputError: They cannot be listed.
    """
    fs, inner = _file_system(pattern)
    try:
        found = sorted(_matching(fs, inner).items())
        files = [(path, info) for path, info in found if _is_file(path, info)]
        versions = [_version(fs, path, info) for path, info in files]
    except outside_errors(ValueError) as error:
        # The cause is left out, since it may quote a signed address.
        raise cause_of(error) or InputError(f"cannot be listed: {error}", where=uri) from None
    for (path, info), version in zip(files, versions, strict=True):
        yield fs.unstrip_protocol(path), int(info["size"] or 0), version


def _is_file(path: str, info: dict[str, Any]) -> bool:
    """Return whether an object is a file that is not hidden, and not the mark of a folder: `2024/`, `2024_$folder$`."""
    is_marker = not info["size"] and path.endswith(("/", "_$folder$"))
    return info["type"] == "file" and not is_marker and not path.rsplit("/", 1)[-1].startswith(".")


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


def remote_version(uri: str) -> str:
    """Return what tells the content of a file from any other that it had: its store's etag."""
    fs, path = _file_system(uri)
    return _version(fs, path, fs.info(path))


def _version(fs: Any, path: str, info: dict[str, Any]) -> str:
    return str(info.get("ETag") or fs.ukey(path)).strip('"')
