"""Pages of other origins in a real browser: what they read of the servers on this machine, and what they start."""

import sys

import pytest
from servers import ROOT, post

sys.path.append(str(ROOT))
from browser import chromium

from benchmarks.attacks import pages

pytestmark = pytest.mark.skipif(not chromium(), reason="no Chromium or Chrome is installed: apt-get install chromium")


@pytest.fixture(scope="module")
def visit():
    """Let a page try every way on a target and return what got through."""
    with pages.visitor() as context, pages.site() as elsewhere:
        yield lambda target: pages.visit(context, target, elsewhere, pages.every_try())


def test_a_page_reads_and_starts_what_it_likes_on_a_server_without_a_password(visit, prefect_server):
    """So each way is one that a server has to withstand."""
    api = prefect_server["PREFECT_API_URL"]
    broken = visit(pages.prefect_target("open", api.removesuffix("/api"), lambda path, body: post(api, path, body)))
    for way in ("fetch", "json", "plain", "credentials", "guess", "socket"):
        assert [line for line in broken if f"by {way}:" in line], way
    for way in ("json", "untyped", "beacon", "no-cors"):
        assert [line for line in broken if line.endswith(f"by {way}")], way


def test_a_page_reads_and_starts_nothing_on_the_temporary_server_of_a_run(visit, tmp_path):
    with pages.temporary(tmp_path) as target:
        assert visit(target) == []


def test_a_page_reads_nothing_of_serve(visit, tmp_path):
    with pages.serving(tmp_path) as target:
        assert visit(target) == []
