"""Chromium, driven by Playwright, and the pages that Prefect's two UIs show of a night."""

import contextlib
import shutil

import pytest
from servers import post

playwright = pytest.importorskip("playwright.sync_api", reason="needs the extra `test`, which `make test` installs")
# The classic one and the new one, by the path that they start at.
UIS = {"v1": "", "v2": "/v2"}
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def chromium():
    """Return the installed browser's path, or None."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@contextlib.contextmanager
def browser():
    """Start the installed browser without a window."""
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=chromium(), args=FLAGS)
        try:
            yield started
        finally:
            started.close()


def pages(api, night):
    """Return a night's flow run (`run`) and artifacts (`verdict`, `funnel`, ...) as paths that both UIs know."""
    runs = post(api, "/flow_runs/filter", {"flow_runs": {"name": {"like_": f"nightly-workspace-{night}"}}})
    chosen = {"artifacts": {"flow_run_id": {"any_": [run["id"] for run in runs]}}}
    found = {artifact["key"]: artifact["id"] for artifact in post(api, "/artifacts/filter", chosen)}
    artifacts = {key.removeprefix("night-"): f"/artifacts/artifact/{id_}" for key, id_ in found.items()}
    return {"run": f"/runs/flow-run/{runs[0]['id']}"} | artifacts


def opened(page, url):
    """Go to a page of an artifact and wait until its text is there."""
    page.goto(url)
    page.locator("h2").first.wait_for()
    return page
