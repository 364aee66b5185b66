"""Types of settings that sections share."""

import json
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, ConfigDict, Field

from slimpajama.core.encodings import codec_of
from slimpajama.core.errors import masked

STRICT = ConfigDict(extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)
# Every number has a range whose ends work, too. What depends on the machine's memory is refused where it is known.
Share = Annotated[float, Field(ge=0.0, le=1.0)]
# Protocols of fsspec for files inside of a file. Each opening of a packed one would unpack all that is before it.
ARCHIVES = ("zip", "tar", "libarchive")
Seed = Annotated[int, Field(ge=0, le=2**63 - 1)]
Megabytes = Annotated[float, Field(ge=0.001, le=1000.0)]
Seconds = Annotated[float, Field(ge=0.0, le=1e9)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
# 0 has a meaning of its own: none, or all.
CountOrNone = Annotated[int, Field(ge=0, le=1_000_000)]
Budget = Annotated[int, Field(ge=1, le=10**15)]
BatchTokens = Annotated[int, Field(ge=1, le=2**24)]
LearningRate = Annotated[float, Field(ge=1e-6, le=1000.0)]
Weight = Annotated[float, Field(ge=0.0, le=1000.0)]
Language = Annotated[str, Field(pattern=r"^[a-z]{2,3}$")]


def _without_credentials(uri: str) -> str:
    if masked(uri) != uri:
        raise ValueError("holds a password or token, which manifests and reports would show; docs/security.md says how")
    return uri


Location = Annotated[str, Field(pattern=r"^[^\x00]+$"), AfterValidator(_without_credentials)]
# A file or a folder; empty for none.
Place = Annotated[str, Field(pattern=r"^[^\x00]*$")]
Address = Annotated[Place, AfterValidator(_without_credentials)]
# A name is a part of file names.
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


def protocol(uri: str) -> str:
    """Return the protocol of a location, `file` for a path."""
    return uri.partition("://")[0] if "://" in uri else "file"


def _readable(uri: str) -> str:
    if (used := protocol(uri)) in ARCHIVES or "::" in used:
        raise ValueError("an archive or a chain of protocols is no source; unpack it, its files may be .gz, .zst, .bz2")
    if used in ("http", "https"):
        # An error in it is one of the setting.
        urlsplit(uri)
    return uri


Source = Annotated[Location, AfterValidator(_readable)]


def _of_the_web(name: str) -> str:
    try:
        codec_of(name if name != "auto" else "utf-8")
    except LookupError:
        raise ValueError(f"no encoding of the web: {name}; for example auto, utf-8, gb18030, big5, utf-16") from None
    return name


Encoding = Annotated[str, AfterValidator(_of_the_web)]


def unicode_only(data: Any) -> Any:
    """Return plain settings, or raise: a name may be any bytes, but manifests and Prefect keep text as UTF-8."""
    try:
        json.dumps(data, ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError as error:
        found = error.object[max(0, error.start - 40) : error.end + 40]
        raise ValueError(f"bytes that are no UTF-8, near {found!a}") from None
    return data
