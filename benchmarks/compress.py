"""Measure `slimpajama compress` against xz, zstd and 7-Zip's PPMd on text that the model has never seen.

    python -m benchmarks.compress --workspace WORKSPACE [FILE...]

Without files, the held-out documents (split `test`) of the workspace's nights, one file a language. Each file is
compressed, restored and compared. Writes docs/benchmarks/compress.md. Needs `xz`, `zstd` and `7z` on the path.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.machine import DOCS, conditions, measure, table
from slimpajama.model.loading import load_model
from slimpajama.workspace import layout
from slimpajama.workspace.open import Workspace, open_workspace
from slimpajama.workspace.parquet import read_table

PEERS = {
    "xz -9e": ("xz", "-9e", "-c", "{file}"),
    "zstd --ultra -22": ("zstd", "-q", "--ultra", "-22", "-c", "{file}"),
    "7z PPMd, order 16": ("7z", "a", "-m0=PPMd:o=16:mem=256m", "-mx9"),
}
MARK = 0.85  # of xz's size


def held_out(workspace: Workspace, folder: Path) -> list[Path]:
    """Write the test documents of every night, a file a language, in order of their ids."""
    texts: dict[str, dict[str, str]] = {}
    for night in workspace.nights.published():
        for entry in workspace.nights.load(night).entries(layout.night(night).split("test")):
            for row in read_table(workspace.store, entry, ["id", "lang", "words"]).to_pylist():
                texts.setdefault(row["lang"], {})[row["id"]] = "".join(row["words"])
    files = []
    for lang, documents in sorted(texts.items()):
        files.append(folder / f"{lang}.txt")
        files[-1].write_text("\n\n".join(documents[key] for key in sorted(documents)), encoding="utf-8")
    return files


def peer_bytes(name: str, file: Path, folder: Path) -> int | None:
    """Return the size that a peer makes of `file`; None where it is not installed."""
    if not shutil.which(PEERS[name][0]):
        return None
    # Writes no archive of its own to a pipe.
    if PEERS[name][0] == "7z":
        out = folder / "peer.7z"
        out.unlink(missing_ok=True)
        subprocess.run(["7z", "a", *PEERS[name][2:4], str(out), str(file)], capture_output=True, check=True)
        return out.stat().st_size
    command = [part.format(file=file) for part in PEERS[name]]
    return len(subprocess.run(command, capture_output=True, check=True).stdout)


def row(file: Path, workspace: str, folder: Path) -> dict[str, object]:
    """Measure one file."""
    size, packed, back = file.stat().st_size, folder / "packed", folder / "back"
    common = [sys.executable, "-m", "slimpajama"]
    there = measure([*common, "compress", file, "--out", packed, "--workspace", workspace])
    again = measure([*common, "decompress", packed, "--out", back, "--workspace", workspace])
    if back.read_bytes() != file.read_bytes():
        raise RuntimeError(f"{file}: not restored")
    ours = packed.stat().st_size
    peers = {name: peer_bytes(name, file, folder) for name in PEERS}
    xz = peers["xz -9e"]
    return {
        "file": file.name,
        "bytes": f"{size:,}",
        "slimpajama": f"{ours:,}",
        **{name: "not installed" if found is None else f"{found:,}" for name, found in peers.items()},
        "against xz": "" if xz is None else f"{ours / xz - 1:+.1%}{'' if ours <= MARK * xz else ' (mark missed)'}",
        "bits per byte": f"{8 * ours / size:.3f}",
        "kB a processor second, there / back": f"{size / 1e3 / there.cpu_s:.1f} / {size / 1e3 / again.cpu_s:.1f}",
        "peak memory": f"{max(there.peak_mb, again.peak_mb) / 1e3:.1f} GB",
    }


def main() -> None:
    """Measure every file and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--workspace", default="demo/workspace")
    parser.add_argument("files", nargs="*", type=Path)
    args = parser.parse_args()
    workspace = open_workspace(args.workspace)
    loaded = load_model(workspace)
    weights = workspace.models.manifest(loaded.id).file("model.safetensors").bytes
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = [row(file, args.workspace, folder) for file in args.files or held_out(workspace, folder)]
    page = f"""# Compression, measured

`python -m benchmarks.compress`: every file was restored and compared. The goal is 15 % below xz, in each language.

{conditions("torch", "numba")}
- model: {loaded.config["model"]["preset"]}, {loaded.model.describe()["parameters"]:,} parameters; its file, which no
  size below counts, has {weights / 1e6:.1f} MB
- text: {"files given by hand" if args.files else "the workspace's held-out documents, by language"}
- speeds include start-up and loading, one thread

{table(rows)}
"""
    (DOCS / "compress.md").write_text(page, encoding="utf-8")
    print(page)


if __name__ == "__main__":
    main()
