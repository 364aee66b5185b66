"""Temporary files, in the system's folder for them (`TMPDIR`): what goes wrong there says so."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from slimpajama.core.errors import AGAIN, StorageError


@contextlib.contextmanager
def temporary_files() -> Iterator[None]:
    """Turn what the operating system says inside this block into an error that names the folder and what to do.

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
    """Give a new folder for temporary files, which goes with the block; errors as of `temporary_files`."""
    with temporary_files(), tempfile.TemporaryDirectory(prefix="slimpajama-") as folder:
        yield Path(folder)


def _folder() -> str:
    try:
        return tempfile.gettempdir()
    except OSError:
        # None of the folders that the system may have can be written to.
        return os.environ.get("TMPDIR", "TMPDIR")
