"""Links planted in a workspace, then every command that writes or checks: what lies outside must stay as it is.

    python -m benchmarks.attacks links

A finished night with a champion and a tuned model is copied for each link. The link leads to a folder or a file outside
that looks like what it stands for, so that names meet. Commands run one after the other, by the library, as the command
line runs them.
"""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

from benchmarks.attacks import Row
from benchmarks.machine import ROOT
from benchmarks.night import go_on
from slimpajama.core.config import Config, load_config
from slimpajama.core.errors import SlimpajamaError
from slimpajama.core.progress import Sink, report_to
from slimpajama.ops.export import export_dataset
from slimpajama.ops.forget import forget
from slimpajama.ops.repair import repair
from slimpajama.ops.retention import clean_up
from slimpajama.ops.verify import verify
from slimpajama.workspace.open import open_workspace

sys.path += [str(ROOT / "tests" / "e2e")]
from golden_corpus import write_golden, write_golden_night
from library_night import prepare_night

FIRST, TODAY = "n1", "n2"
PLACES = (
    f"nights/{TODAY}",
    f"nights/{TODAY}/work",
    f"nights/{TODAY}/work/clean",
    f"nights/{TODAY}/documents",
    f"nights/{TODAY}/manifest.json",
    f"nights/{FIRST}",
    f"nights/{FIRST}/work",
    f"nights/{FIRST}/documents",
    f"nights/{FIRST}/manifest.json",
    "nights/index.json",
    "nights/.tmp",
    "models/{champion}",
    "models/{champion}/evaluations",
    "models/{champion}/work",
    "models/unfinished",
    "models/champion.json",
    "tuned/{tuned}",
    "tuned/current.json",
    "pairs/{pairs}",
    f"reports/{FIRST}",
    f"reports/{FIRST}/report.html",
    f"reports/{TODAY}",
    "forgotten/index.json",
    "repair",
    ".tmp",
    ".lock",
    ".lock.swap",
)
# Only these may be links, and only their owner's.
FIRST_LEVEL = ("nights", "models", "tuned", "pairs", "reports", "forgotten")
STRANGER = 4242
OWNERS = {"champion": "models", "tuned": "tuned", "pairs": "pairs"}
TEXT = "请保留 keep me\n"
State = dict[str, tuple[int, int, bytes]]


def attack(folder: Path, tries: int, seed: int) -> list[Row]:
    """Plant each link and run every command.

    Args:
        folder: Empty; what is tried lies there.
        tries: Links, evenly of all kinds; 0 for all.
        seed: Has no part in it: every link is planted.
    """
    del seed
    cfg = replace(load_config(write_golden(folder / "raw")), workspace=str(folder / "base"))
    with report_to(Sink()):
        prepare_night(cfg, FIRST)
        go_on(cfg, FIRST)
        write_golden_night(folder / "raw", 1)
        links = all_links(Path(cfg.workspace))
        links = links[:: max(1, len(links) // tries)][:tries] if tries else links
        broken = [sentence for place, kind in links for sentence in _try(folder / "one", cfg, place, kind)]
    return [Row("links in a workspace: files outside changed, losses that verify misses", len(links), broken)]


def all_links(workspace: Path) -> list[tuple[str, str]]:
    """Return where a link is planted, and of which kind."""
    names = {kind: _newest(workspace / place) for kind, place in OWNERS.items()}
    kinds = ("folder", "file"), ("owner's", "lost", *(["stranger's"] if os.geteuid() == 0 else []))
    deep = [(place.format(**names), kind) for place in PLACES for kind in kinds[0]]
    return deep + [(place, kind) for place in FIRST_LEVEL for kind in kinds[1]]


def _newest(folder: Path) -> str:
    return max(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _try(folder: Path, cfg: Config, place: str, kind: str) -> list[str]:
    """Return what one link lets through."""
    shutil.rmtree(folder, ignore_errors=True)
    outside, base = folder / "outside", cfg.workspace
    shutil.copytree(base, folder / "workspace")
    cfg = replace(cfg, workspace=str(folder / "workspace"))
    _plant(folder / "workspace" / place, outside, kind)
    before, broken = _state(outside), list[str]()
    for name, command in COMMANDS.items():
        what = ""
        try:
            command(cfg, base)
        except SlimpajamaError as error:
            what = f"refuses it: {error}" if kind == "owner's" else ""
        except Exception as error:
            what = f"ends in {type(error).__name__}: {error}"
        after = _state(outside)
        if kind != "owner's" and after != before:
            what = f"changes {sorted(set(before.items()) ^ set(after.items()))[0][0]}"
            before = after
        broken += [f"{place}, {kind}: {name} {what}"] if what else []
    return broken


def _plant(link: Path, outside: Path, kind: str) -> None:
    """Put a link in the place of a file or folder, to something outside that looks like it."""
    target = outside / link.name
    outside.mkdir()
    link.parent.mkdir(parents=True, exist_ok=True)
    if link.exists():
        shutil.move(link, target)
    if kind == "file":
        target = target if target.is_file() else outside / "a file"
        target.write_bytes((target.read_bytes() if target.exists() else b"") + TEXT.encode())
    elif kind == "lost":
        target = outside / "not there"
    else:
        target = outside / "a folder" if target.is_file() else target
        (target / "work" / "里").mkdir(parents=True, exist_ok=True)
        for name in ("work/a.txt", "work/里/b.txt", *(["state.json"] if kind == "folder" else [])):
            (target / name).write_text(TEXT, encoding="utf-8")
    link.symlink_to(target)
    if kind == "stranger's":
        os.chown(link, STRANGER, STRANGER, follow_symlinks=False)


def _state(folder: Path) -> State:
    """Return inode, time and content of everything below a folder."""

    def one(path: Path) -> tuple[int, int, bytes]:
        status = path.lstat()
        return (status.st_ino, status.st_mtime_ns, path.read_bytes()) if path.is_file() else (status.st_ino, 0, b"")

    return {str(path): one(path) for path in folder.rglob("*")}


def _verify(cfg: Config, base: str) -> None:
    files, bad = verify(open_workspace(cfg.workspace), 2)
    listed = verify(open_workspace(base), 2)[0]
    if files < listed and not bad:
        raise LookupError(f"{files} of {listed} files are looked at, and nothing is wrong")


def _forget(cfg: Config, _: str) -> None:
    forget(open_workspace(cfg.workspace), "pattern", "^笔记0", sure=True)


def _repair(cfg: Config, _: str) -> None:
    """Repair a night and a report of which a file is lost, unless a link leads there."""
    workspace = Path(cfg.workspace)
    for folder in (f"reports/{FIRST}", f"nights/{FIRST}/removed"):
        for lost in sorted((workspace / folder).glob("*.[jp]*"))[:1]:
            if lost.resolve().is_relative_to(workspace.resolve()):
                lost.unlink()
    repair(open_workspace(cfg.workspace), cfg)


def _night(cfg: Config, _: str) -> None:
    prepare_night(cfg, TODAY)
    go_on(cfg, TODAY)


def _clean_up(cfg: Config, _: str) -> None:
    clean_up(open_workspace(cfg.workspace), replace(cfg.retention, nights=1))


def _rollback(cfg: Config, _: str) -> None:
    models = open_workspace(cfg.workspace).models
    for model in models.published():
        models.promote(model, "an attack")
    models.rollback()


def _export(cfg: Config, _: str) -> None:
    target = Path(cfg.workspace).with_name("exported")
    export_dataset(open_workspace(cfg.workspace), target)


COMMANDS = {
    "verify": _verify,
    "forget": _forget,
    "repair": _repair,
    "clean-up": _clean_up,
    "a night": _night,
    "rollback": _rollback,
    "clean-up again": _clean_up,
    "export": _export,
}
