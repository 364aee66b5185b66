"""Measure how soon Prefect's UI shows a night of 500 shards, in a real browser; or take the pictures of docs/ui.md.

    python -m benchmarks.ui                          # writes docs/benchmarks/ui.md
    python -m benchmarks.ui --pictures docs/images

Builds its own corpus, night and server on loopback. Chromium must be installed.
"""

from __future__ import annotations

import argparse
import io
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.machine import DOCS, ROOT, conditions, table

# Servers, corpus and browser are those of the tests.
sys.path.insert(0, str(ROOT / "tests" / "e2e"))
from browser import UIS, browser, pages
from servers import prefect_api
from small_corpus import HOSTILE, write_story, write_story_night

SHARD_MB = 0.0075
AGAIN = "run, again"
TEXTS = {
    "run": "Beginning flow run",
    "verdict": "There was no champion",
    "funnel": "text kept",
    "removed": "near-duplicate",
    "duplicates": "near-duplicate",
    "training": "from random weights",
    "samples": "The librarian",
    "flow": "The flow of a night",
    AGAIN: "Beginning flow run",
}
SIZE: Any = {"width": 1180, "height": 860}


def run_night(config: Path, night: str, environment: dict[str, str]) -> None:
    """Run one night, seen by the server."""
    command = [sys.executable, "-m", "slimpajama", "run", "--config", config, "--night", night]
    subprocess.run(list(map(str, command)), env=os.environ | environment, cwd=ROOT, check=True)


def turn(chromium: Any, base: str, paths: dict[str, str]) -> dict[str, float]:
    """Return the seconds until each page's text is there; a new browser profile opens one after the other."""
    context = chromium.new_context(viewport=SIZE)
    page = context.new_page()
    took = {}
    for name, text in TEXTS.items():
        began = time.perf_counter()
        page.goto(base + paths[name], wait_until="commit")
        page.get_by_text(text).first.wait_for()
        took[name] = time.perf_counter() - began
    context.close()
    return took


def measure(folder: Path, documents: int, turns: int) -> str:
    """Return the page: a night of about 500 shards, each of its pages in both UIs."""
    config = write_story(folder, tokens=20_000, shard_mb=SHARD_MB)
    write_story_night(folder, 0, documents=documents)
    with prefect_api(folder) as environment, browser() as chromium:
        run_night(config, "big", environment)
        shards = len(list((folder / "workspace" / "nights" / "big" / "shards").rglob("*.parquet")))
        api = environment["PREFECT_API_URL"]
        paths = pages(api, "big")
        paths[AGAIN] = paths["run"]
        load = os.getloadavg()[0]
        runs = {
            ui: [turn(chromium, api.removesuffix("/api") + prefix, paths) for _ in range(turns)]
            for ui, prefix in UIS.items()
        }
        version = chromium.version
    rows: list[dict[str, object]] = []
    for name, text in TEXTS.items():
        row: dict[str, object] = {"page": name, "text waited for": text}
        for ui, found in runs.items():
            took = [seconds[name] for seconds in found]
            row[f"{ui}, s"] = f"{statistics.median(took):.2f} ({min(took):.2f} to {max(took):.2f})"
        rows.append(row)
    return "\n".join(
        [
            "# How soon the UI shows a night, measured",
            "",
            f"`python -m benchmarks.ui`: a night of {2 * documents:,} and some documents in {shards} shard files.",
            "A new browser profile opens the flow run, then each artifact, in the classic UI (v1) or the new (v2);",
            f"from the address being entered until the text can be read. Median of {turns} turns (fastest to slowest).",
            "The goal is 5 s. The first page is opened with nothing cached: it brings the UI's own program with it.",
            "",
            conditions("prefect", "playwright"),
            f"- browser: Chromium {version}, without a window, on the server's machine;",
            f"  load average before the first turn {load:.1f} on {os.cpu_count()} cores",
            "",
            table(rows),
            "",
        ]
    )


def shoot(page: Any, path: Path) -> None:
    """Save what the page shows, in few colours: a quarter of the bytes."""
    with Image.open(io.BytesIO(page.screenshot())) as picture:
        picture.convert("RGB").quantize(64).save(path, optimize=True)


def take_pictures(folder: Path, out: Path, nights: int) -> None:
    """Run some nights, the last one unlike the others, and take pictures of it."""
    config = write_story(folder)
    last = f"2026-11-{20 + nights - 1}"
    with prefect_api(folder) as environment, browser() as chromium:
        for number in range(nights):
            strange = number == nights - 1
            write_story_night(folder, number, hostile=HOSTILE if strange else (), short=200 if strange else 6)
            run_night(config, f"2026-11-{20 + number}", environment)
        api = environment["PREFECT_API_URL"]
        paths = pages(api, last)
        page = chromium.new_page(viewport=SIZE)
        for name in paths:
            for ui, prefix in UIS.items():
                page.goto(f"{api.removesuffix('/api')}{prefix}{paths[name]}")
                # Graphs are drawn with an animation.
                page.wait_for_timeout(20_000 if name == "run" else 4000)
                shoot(page, out / f"{ui}-{name}.png")
        page.goto((folder / "workspace" / "reports" / last / "report.html").as_uri())
        shoot(page, out / "report.png")


def main() -> None:
    """Measure and write the page, or take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=2600, help="of each language")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--pictures", type=Path, metavar="DIR", help="take pictures instead")
    parser.add_argument("--nights", type=int, default=5, help="before the pictures")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="slimpajama-") as temporary:
        folder = Path(temporary)
        if given.pictures:
            given.pictures.mkdir(parents=True, exist_ok=True)
            take_pictures(folder, given.pictures, given.nights)
        else:
            page = measure(folder, given.documents, given.turns)
            (DOCS / "ui.md").write_text(page, encoding="utf-8")
            print(page)


if __name__ == "__main__":
    main()
