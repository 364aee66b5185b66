"""A preparation's stages by name, each with what it reads of the ones before: so any process can enter any of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from slimpajama.core.config import Config
from slimpajama.core.errors import StorageError
from slimpajama.corpus.clean.stage import clean
from slimpajama.corpus.decontaminate import decontaminate
from slimpajama.corpus.dedup.stage import compare, deduplicate
from slimpajama.corpus.ingest import ingest
from slimpajama.corpus.segment import segment
from slimpajama.corpus.shards.stage import make_shards, make_tokenizer
from slimpajama.workspace import layout
from slimpajama.workspace.claims import share_of
from slimpajama.workspace.manifest import Manifest, load_manifest
from slimpajama.workspace.open import Workspace

STAGES: dict[str, tuple[Callable[..., Manifest], tuple[str, ...]]] = {
    "ingest": (ingest, ()),
    "clean": (clean, ("ingest",)),
    "compare": (compare, ("clean",)),
    "decontaminate": (decontaminate, ("clean", "compare")),
    "dedup": (deduplicate, ("clean", "compare", "decontaminate")),
    "segment": (segment, ("dedup",)),
    "tokenizer": (make_tokenizer, ("dedup", "segment")),
    "shards": (make_shards, ("dedup", "segment", "tokenizer")),
}


def run_stages(
    workspace: Workspace, cfg: Config, night: str, read: Callable[[Workspace, Config, str], Manifest] = ingest
) -> Iterator[Manifest]:
    """Run a preparation's stages one after the other in this process, as the flow `prepare-corpus` does.

    Args:
        workspace: The workspace.
        cfg: The night's configuration.
        night: The night.
        read: Its first stage; takes the same and returns a manifest of the same form.

    Yields:
        The manifest of each stage; deduplication's is the last where it leaves no document.
    """
    made: dict[str, Manifest] = {}
    for name, (run, needs) in (STAGES | {"ingest": (read, ())}).items():
        made[name] = run(workspace, cfg, night, *(made[need] for need in needs))
        yield made[name]
        if name == "dedup" and not made[name].paths(f"nights/{night}/documents/"):
            return


def run_share(workspace: Workspace, cfg: Config, night: str, stage: str, keys: list[str]) -> None:
    """Make some units of a stage that another process runs, and leave the rest of it alone.

    Args:
        workspace: The workspace, as this process reaches it.
        cfg: The night's configuration.
        night: The night.
        stage: Name of the stage.
        keys: Of its units.

    Raises:
        StorageError: If the stages before are not there, or this process would make other bytes: its code, libraries
            or settings are not those of the stage's own process.
    """
    run, needs = STAGES[stage]
    arguments: list[Any] = []
    for name in needs:
        path = f"{layout.night(night).work(name)}/manifest.json"
        if (manifest := load_manifest(workspace.store, path)) is None:
            raise StorageError(
                f"{stage} needs what {name} has made",
                where=f"{workspace.uri}/{path}",
                found="nothing",
                hint="Do all workers see the same workspace? A cluster needs one on S3 or on a shared disk.",
            )
        arguments.append(manifest)
    with share_of(keys):
        run(workspace, cfg, night, *arguments)
