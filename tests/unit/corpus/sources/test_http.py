"""Sources on a web server that is not well: it is asked again; then an error says what, or the file is on record."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import pytest

from slimpajama.core.config import Config, IngestConfig, RunConfig, SourceConfig
from slimpajama.core.errors import InputError
from slimpajama.corpus.ingest import read_whole
from slimpajama.corpus.sources import remote, streams
from slimpajama.corpus.sources.discover import plan
from slimpajama.corpus.sources.records import ReadOptions
from slimpajama.corpus.sources.remote import fixed_folder

WANT = ReadOptions(max_document_bytes=1_000_000)
TEXT = "今天天气很好，我们去公园。The weather is fine today."
INDEX = '<html><a href="a.txt">a</a> <a href="b.txt">b</a></html>'


@dataclass
class Site:
    """A server on loopback, and how it answers."""

    url: str
    wrong: dict[str, list[str]] = field(default_factory=dict)
    """By path: what goes wrong with the requests for it, one after the other: a status, `drop` or `cut`."""
    ranges: bool = True
    """Whether a part of a file can be asked for."""
    headers: dict[str, str] = field(default_factory=dict)

    def sources(self, *paths: str) -> Config:
        """Return a configuration of a source a path."""
        sources = tuple(SourceConfig(name=f"s{number}", uri=self.url + path) for number, path in enumerate(paths))
        return Config(ingest=IngestConfig(sources=sources, protocols=("http",)), run=RunConfig())


class Loopback6(ThreadingHTTPServer):
    """A server on the loopback of IPv6."""

    address_family = socket.AF_INET6


@pytest.fixture
def site(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(remote, "check_public", lambda address: None)
    monkeypatch.setattr(remote, "_WAITS_S", (0.0, 0.0))

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wrong = here.wrong.get(self.path, [])
            problem = wrong.pop(0) if wrong else ""
            if problem == "drop":
                self.close_connection = True
                return
            page = self.path.endswith("/")
            data = (INDEX if page else TEXT).encode()
            asked = here.ranges and self.headers.get("Range", "").removeprefix("bytes=")
            if asked:
                first, _, last = asked.partition("-")
                data = data[int(first) : int(last) + 1]
            self.send_response(int(problem) if problem.isdigit() else 206 if asked else 200)
            for name, value in here.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Content-Type", "text/html" if page else "text/plain")
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(data[:9] if problem == "cut" else data)
            self.close_connection = problem == "cut"

        do_HEAD = do_GET

        def log_message(self, *args: object) -> None:
            pass

    host = getattr(request, "param", "127.0.0.1")
    with (Loopback6 if ":" in host else ThreadingHTTPServer)((host, 0), Answers) as running:
        # A client that hung up.
        running.handle_error = lambda *_: None
        here = Site(f"http://{f'[{host}]' if ':' in host else host}:{running.server_port}")
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        fsspec.filesystem("http").clear_instance_cache()
        yield here
        running.shutdown()
    fsspec.filesystem("http").clear_instance_cache()


def texts(cfg: Config) -> list[str]:
    batches = (batch for file in plan(cfg, []).files for batch in read_whole(file, WANT))
    return [text for batch in batches for text in batch.table["text"].to_pylist()]


@pytest.mark.skipif(not Path("/proc/net/if_inet6").exists(), reason="this machine has no IPv6")
@pytest.mark.parametrize("site", ["::1"], indirect=True)
@pytest.mark.parametrize(
    ("pattern", "files"),
    [("/a.txt", 1), ("/*.txt", 2), ("/[ab].txt", 2), ("/b*", 1), ("/语料/*.txt", 2), ("/c*", 0), ("/**/*.txt", 2)],
)
def test_an_address_of_ipv6_is_read_like_any_other(site: Site, pattern: str, files: int):
    cfg = site.sources(pattern)
    found = plan(cfg, [])
    assert texts(cfg) == [TEXT] * files
    assert all(file.path.startswith(f"{site.url}/") for file in found.files)
    assert all("/" not in file.path.removeprefix(fixed_folder(site.url + pattern)) for file in found.files)


@pytest.mark.parametrize("path", ["/a.txt", "/*.txt"])
@pytest.mark.parametrize("problem", ["429", "500", "503", "drop"])
def test_a_server_that_is_busy_or_hangs_up_is_asked_again(site: Site, problem: str, path: str):
    site.wrong = {place: [problem, problem] for place in ("/", "/a.txt", "/b.txt")}
    assert texts(site.sources(path)) == [TEXT] * (1 if path == "/a.txt" else 2)


@pytest.mark.parametrize("path", ["/a.txt", "/*.txt"])
@pytest.mark.parametrize("problem", ["429", "500", "drop"])
def test_a_server_that_stays_so_ends_the_night_with_an_error_that_names_it(site: Site, problem: str, path: str):
    site.wrong = {place: [problem] * 99 for place in ("/", "/a.txt")}
    with pytest.raises(InputError, match=r"http://127\.0\.0\.1.*gives no answer.*Run again") as caught:
        plan(site.sources(path), [])
    assert problem == "drop" or problem in caught.value.found


@pytest.mark.parametrize("path", ["/a.txt", "/*.txt"])
@pytest.mark.parametrize("status", ["401", "403", "410"])
def test_a_server_that_refuses_a_source_is_named(site: Site, status: str, path: str):
    site.wrong = {place: [status] * 99 for place in ("/", "/a.txt")}
    with pytest.raises(InputError, match=rf"http://127\.0\.0\.1.*refuses it: found {status}"):
        plan(site.sources(path), [])


def test_what_is_not_there_is_on_record(site: Site):
    site.wrong = {"/a.txt": ["404"] * 99, "/": ["404"] * 99}
    found = plan(site.sources("/a.txt", "/*.txt"), [])
    assert found.files == ()
    assert [(source, bad.rule) for source, _, bad in found.problems] == [("s0", "no-files"), ("s1", "no-files")]


@pytest.mark.parametrize(("status", "value"), [("403", "403 Forbidden"), ("404", "b.txt")])
def test_one_file_of_several_that_is_refused_is_on_record_and_the_others_are_read(site: Site, status: str, value: str):
    site.wrong = {"/b.txt": [status] * 99}
    found = [batch for file in plan(site.sources("/*.txt"), []).files for batch in read_whole(file, WANT)]
    assert [text for batch in found for text in batch.table["text"].to_pylist()] == [TEXT]
    (bad,) = [bad for batch in found for bad in batch.rejected]
    assert bad.rule == "unreadable"
    assert value in bad.value


def test_a_body_that_breaks_off_is_asked_for_again_or_ends_the_night(site: Site):
    files = plan(site.sources("/a.txt"), []).files
    # HEAD, then the first GET.
    site.wrong = {"/a.txt": ["", "cut"]}
    assert [text for batch in read_whole(files[0], WANT) for text in batch.table["text"].to_pylist()] == [TEXT]
    site.wrong = {"/a.txt": ["", *["cut"] * 99]}
    with pytest.raises(InputError, match="gives no answer"):
        list(read_whole(files[0], WANT))


def test_a_server_that_cannot_be_reached_is_named(site: Site):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(InputError, match=rf"1:{port}/a\.txt: the server gives no answer.*Connect call failed"):
        plan(Site(f"http://127.0.0.1:{port}").sources("/a.txt"), [])


def test_a_name_that_does_not_resolve_is_an_error_with_a_hint(monkeypatch: pytest.MonkeyPatch):
    def unknown(*_: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(remote.socket, "getaddrinfo", unknown)
    with pytest.raises(InputError, match=r"invalid/a\.txt: cannot be opened: Name or service not known\. Is the"):
        plan(Site("http://nowhere.invalid").sources("/a.txt"), [])


def test_a_file_is_read_block_by_block_and_a_server_that_sends_it_only_whole_is_named(
    site: Site, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(fsspec.implementations.http, "DEFAULT_BLOCK_SIZE", 7)
    monkeypatch.setattr(streams, "BLOCK", 7)
    assert texts(site.sources("/a.txt")) == [TEXT]
    site.ranges = False
    with pytest.raises(InputError, match=r"/a\.txt: the server sends no part of a file\. Copy the file to a disk"):
        texts(site.sources("/a.txt"))


def test_a_server_that_announces_to_send_files_only_whole_is_read_but_for_tables(site: Site):
    site.ranges, site.headers = False, {"Accept-Ranges": "none"}
    assert texts(site.sources("/a.txt")) == [TEXT]
    (file,) = plan(site.sources("/a.parquet"), []).files
    (bad,) = [bad for batch in read_whole(file, WANT) for bad in batch.rejected]
    assert (bad.rule, bad.value) == ("unreadable", "Cannot seek streaming HTTP file")


def test_a_streamed_body_that_breaks_off_ends_the_night_for_the_file_would_not_be_read_again(site: Site):
    site.ranges, site.headers = False, {"Accept-Ranges": "none"}
    (file,) = plan(site.sources("/a.txt"), []).files
    site.wrong = {"/a.txt": ["", "cut"]}
    with pytest.raises(InputError, match=r"/a\.txt: the connection broke off: .*Run again"):
        list(read_whole(file, WANT))
