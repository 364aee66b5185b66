"""Types of settings that sections share."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, ConfigDict, Field

from slimpajama.core.errors import masked

STRICT = ConfigDict(extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)
Share = Annotated[float, Field(ge=0.0, le=1.0)]
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


def protocols(uri: str) -> set[str]:
    """Return the protocols of a location, several where they are chained (`zip://*.txt::s3://bucket/a.zip`)."""
    return {part.partition("://")[0] for part in uri.split("::")} if "://" in uri else {"file"}
