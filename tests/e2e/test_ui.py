"""What a person sees of a night in Prefect's two UIs and in the report, in a real browser, over a hostile corpus."""

import json
import os
import subprocess
import sys
import urllib.request

import pytest
from browser import UIS, browser, chromium, opened, pages
from servers import ROOT, free_ports, post, started, until
from small_corpus import HOSTILE, write_story, write_story_night

pytestmark = pytest.mark.skipif(not chromium(), reason="no Chromium or Chrome is installed: apt-get install chromium")
NIGHT = "2026-11-23"
SHOWN = {
    "verdict": "There was no champion yet",
    "funnel": "too few to call anything unusual",
    "removed": "near-duplicate",
    "duplicates": "alert(",
    "samples": "＜script＞alert(1)＜/script＞",
}


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
        # Of milliseconds; a busy machine may need them.
        profile.set_default_timeout(120_000)
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
    """The text can be read, nothing ran, nothing was fetched, and no element of theirs is there."""
    page.wait_for_function("text => document.body.innerText.includes(text)", arg=text)
    # For what would run behind it.
    page.wait_for_timeout(300)
    assert page.done == []
    assert (
        page.locator(
            "h1:has-text('taken over'), iframe, img[src='x'], [href^='javascript:'], [src^='javascript:'], "
            "[href*='example.invalid']"
        ).count()
        == 0
    )


def test_a_script_that_does_run_would_be_noticed(page):
    page.set_content("".join(HOSTILE[1:2]))
    page.wait_for_timeout(500)
    assert page.done == ["2"]


@pytest.mark.parametrize("ui", UIS)
def test_hostile_text_in_artifacts_is_only_text_and_as_wide_as_its_page(night, page, ui):
    for name, text in SHOWN.items():
        opened(page, address(night, ui, name))
        assert_inert(page, text)
        for table in page.locator("table").all():
            assert table.evaluate("table => table.scrollWidth <= table.parentElement.parentElement.clientWidth"), name


def test_hostile_text_in_the_report_is_only_text(night, page):
    page.goto(night[1].as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
    assert_inert(page, "<script>alert(1)</script>")
    assert "javascript:alert(3)" in page.locator("body").inner_text()


def test_hostile_text_in_the_page_of_the_server_is_only_text(night, page):
    """What is asked, and whatever an answer says: a model may write any text, and its name comes from a workspace."""
    (port,) = free_ports(1)
    workspace = night[1].parents[2]
    command = [sys.executable, "-m", "slimpajama", "serve", "--port", port, "--workspace", workspace]
    said = "".join(HOSTILE)
    choice = {"text": said, "index": 0, "finish_reason": "stop"}
    event = f"data: {json.dumps({'model': said, 'choices': [choice]})}\n\ndata: [DONE]\n\n"
    answers = iter(({"body": event}, {"status": 400, "body": json.dumps({"error": {"message": said}})}))
    with started(command, workspace.parent / "serve.log"):
        until(lambda: urllib.request.urlopen(f"http://127.0.0.1:{port}/health"), 300, "the server")
        page.goto(f"http://127.0.0.1:{port}/")
        page.locator("#prompt").fill(said)
        page.locator("#max_tokens").fill("8")
        # Answered by the model itself.
        page.locator("#go").click()
        page.get_by_text("as long as allowed").or_(page.get_by_text("finished")).wait_for()
        assert page.locator("#prompted").inner_text() == said
        page.route("**/v1/completions", lambda route: route.fulfill(**next(answers)))
        for place in ("#written", "#note"):
            page.locator("#go").click()
            page.locator(place).get_by_text("alert(1)").wait_for()
            assert_inert(page, "<script>alert(1)</script>")


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
from slimpajama.core.progress import Live, also_to, track
from tasks.observe import show_progress

@task
def train():
    with track("rehearsal", total=10, unit="tokens") as bar:
        for _ in range(10):
            time.sleep(0.2)
            bar.advance(1, "loss 1.5")

@flow
def long():
    with also_to(Live(show_progress(), 0.5)):
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
