"""The HTTP client that sources are read by: public addresses only, and busy servers are asked again."""

from __future__ import annotations

import asyncio
from typing import Any

from slimpajama.core.errors import InputError
from slimpajama.corpus.sources import guard

# How long to wait before a request is sent again.
_WAITS_S = (1.0, 2.0, 4.0)
# After these answers the next one may be another.
_BUSY = frozenset((408, 425, 429, 500, 502, 503, 504))
# Answers that fsspec understands: there is no such file, method or range.
_UNDERSTOOD = frozenset((404, 405, 416))


class RefusedError(InputError):
    """The server does not give this file, and would not the next time."""


async def public_client(**options: Any) -> Any:
    """Return an HTTP client that opens no private address, whatever a name resolves or a server redirects to."""
    import aiohttp

    connector = aiohttp.TCPConnector(socket_factory=guard.public_socket)
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
