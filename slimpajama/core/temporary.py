"""Temporary files in the system's folder (`TMPDIR`), and clear errors where they cannot be written."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from slimpajama.core.errors import AGAIN, StorageError


@contextlib.contextmanager
def temporary_files() -> Iterator[None]:
    """Turn an `OSError` inside this block into an error that names the folder and what to do.

    Nothing else in the block may raise `OSError`: the workspace's errors are of their own class.

    Raises:
        StorageError: The folder is full, missing, or not to be written to.
    """
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"temporary files cannot be written: {error.strerror or error}",
            where=_folder(),
            hint=f"Make room there, or let TMPDIR name another folder. {AGAIN}",
        ) from error


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """Make a folder for temporary files and remove it after the block; errors are those of `temporary_files`."""
    with temporary_files(), tempfile.TemporaryDirectory(prefix="slimpajama-") as folder:
        yield Path(folder)


def _folder() -> str:
    try:
        return tempfile.gettempdir()
    except OSError:
        # The system has no folder that can be written to.
        return os.environ.get("TMPDIR", "TMPDIR")
