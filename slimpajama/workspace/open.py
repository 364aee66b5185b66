"""Opening a workspace by its address."""

from __future__ import annotations

from slimpajama.core.errors import StorageError
from slimpajama.workspace.local import LocalStore
from slimpajama.workspace.s3 import S3Store
from slimpajama.workspace.store import Store


def open_store(uri: str) -> Store:
    """Return the store of a local folder (made where it is missing) or of an `s3://bucket/prefix`."""
    if uri.startswith("s3://"):
        return S3Store(uri)
    if "://" in uri:
        raise StorageError("unknown kind of workspace", where=uri, expected="a folder or s3://bucket/prefix")
    return LocalStore(uri)
