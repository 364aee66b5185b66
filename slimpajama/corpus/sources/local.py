"""Files on a disk that match a pattern, whatever links and names lie there."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from pathlib import Path


def matches(pattern: str, root: str, lost: list[OSError]) -> set[str]:
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
        for name in matches(tail, os.path.join(root, folder), lost)  # noqa: PTH118
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
