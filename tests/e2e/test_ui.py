"""What a person sees of a night in Prefect's two UIs and in the report, in a real browser, over a hostile corpus."""

import os
import subprocess
import sys

import pytest
from browser import UIS, browser, chromium, opened, pages
from servers import ROOT, post
from small_corpus import HOSTILE, write_story, write_story_night

pytestmark = pytest.mark.skipif(not chromium(), reason="no Chromium or Chrome is installed: apt-get install chromium")
NIGHT = "2026-11-23"
SHOWN = {
    "verdict": "There was no champion yet", "funnel": "too few to call anything unusual", "removed": "near-duplicate",
    "duplicates": "alert(", "samples": "＜script＞alert(1)＜/script＞",
}  # fmt: skip


@pytest.fixture(scope="module")
def night(tmp_path_factory, prefect_server):
    """One night over hostile text, seen by a server: the API's address and the report's file."""
    folder = tmp_path_factory.mktemp("story")
    config = write_story(folder, tokens=20_000, prompts=("研究人员", "The librarian", *HOSTILE[:2]))
    write_story_night(folder, 0, documents=100, hostile=HOSTILE)
    command = [sys.executable, "-m", "slimpajama", "run", "--config", config, "--night", NIGHT]
    subprocess.run(list(map(str, command)), env=os.environ | prefect_server, cwd=ROOT, check=True)
    return prefect_server["PREFECT_API_URL"], folder / "workspace" / "reports" / NIGHT / "report.html"


@pytest.fixture(scope="module")
def profile():
    """One browser profile for all tests: both UIs are large, and cached after the first page."""
    with browser() as started:
        profile = started.new_context()
        profile.set_default_timeout(120_000)  # of milliseconds; a busy machine may need them
        yield profile


@pytest.fixture
def page(profile):
    """A page that takes down what a hostile text would do: open a dialog, ask another host."""
    page = profile.new_page()
    page.done = []
    page.on("dialog", lambda dialog: (page.done.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda request: page.done.append(request.url) if "example.invalid" in request.url else None)
    yield page
    page.close()


def address(night, ui, name):
    api, _ = night
    return f"{api.removesuffix('/api')}{UIS[ui]}{pages(api, NIGHT)[name]}"


def assert_inert(page, text):
    """Nothing ran, nothing was fetched, no element of theirs is there, and the text can be read."""
    assert page.done == []
    assert text in page.locator("body").inner_text()
    assert page.locator("h1:has-text('taken over'), iframe, img[src='x'], [href^='javascript:'], [src^='javascript:'], "
                        "[href*='example.invalid']").count() == 0  # fmt: skip


def test_a_script_that_does_run_would_be_noticed(page):
    page.set_content("".join(HOSTILE[1:2]))
    page.wait_for_timeout(500)
    assert page.done == ["2"]


@pytest.mark.parametrize("ui", UIS)
def test_hostile_text_in_artifacts_is_only_text_and_as_wide_as_its_page(night, page, ui):
    for name, text in SHOWN.items():
        opened(page, address(night, ui, name)).wait_for_timeout(300)
        assert_inert(page, text)
        for table in page.locator("table").all():
            assert table.evaluate("table => table.scrollWidth <= table.parentElement.parentElement.clientWidth"), name


def test_hostile_text_in_the_report_is_only_text(night, page):
    page.goto(night[1].as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
    page.wait_for_timeout(300)
    assert_inert(page, "<script>alert(1)</script>")
    assert "javascript:alert(3)" in page.locator("body").inner_text()


@pytest.mark.parametrize("ui", UIS)
def test_the_loss_curve_is_a_picture(night, page, ui):
    opened(page, address(night, ui, "training"))
    curve = page.get_by_alt_text("loss curve")
    curve.wait_for()
    assert curve.evaluate("picture => picture.complete && picture.naturalWidth") > 300


def test_the_new_ui_draws_the_graph_and_the_classic_one_says_where_it_is_drawn(night, page):
    opened(page, address(night, "v2", "flow")).locator("svg").get_by_text("earlier nights").wait_for()
    opened(page, address(night, "v1", "flow")).get_by_text("at /v2, draws").wait_for()


def test_the_classic_ui_lists_the_task_runs_of_the_night(night, page):
    """It lists none where a task depends on a subflow."""
    page.goto(address(night, "v1", "run"))
    page.get_by_text("Task Runs", exact=True).click()
    for name in ("report", "artifacts"):
        page.get_by_role("link", name=f"{name}-{NIGHT}").first.wait_for()


def test_a_running_stage_shows_how_far_it_is_in_the_ui(prefect_server, page):
    program = """
import time
from prefect import flow, task
from slimpajama.progress import also_to, live, track
from tasks.observe import show_progress

@task
def train():
    with track("rehearsal", total=10, unit="tokens") as bar:
        for _ in range(10):
            time.sleep(0.2)
            bar.advance(1, "loss 1.5")

@flow
def long():
    with also_to(live(show_progress(), 0.5)):
        train()

long()
"""
    environment = os.environ | prefect_server
    subprocess.run([sys.executable, "-c", program], env=environment, cwd=ROOT, check=True)
    api = prefect_server["PREFECT_API_URL"]
    (artifact,) = post(api, "/artifacts/filter", {"artifacts": {"key": {"any_": ["progress-rehearsal"]}}})
    assert artifact["data"] == 100
    assert artifact["task_run_id"]
    assert artifact["created"] < artifact["updated"]
    for prefix in UIS.values():
        page.goto(f"{api.removesuffix('/api')}{prefix}/artifacts/artifact/{artifact['id']}")
        page.get_by_text("10 tokens of 10 tokens").wait_for()
        page.get_by_text("Progress: 100").wait_for()
