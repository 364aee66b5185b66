import glob
import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import pytest

from slimpajama.core.config import Config, IngestConfig, RunConfig, SourceConfig, protocol, validate
from slimpajama.core.errors import ConfigError, InputError
from slimpajama.corpus.sources import discover, remote
from slimpajama.corpus.sources.discover import Plan, current_version, open_input, plan
from slimpajama.corpus.sources.remote import fixed_folder


def config(root: Path, *patterns: str, part_mb: float = 8.0, protocols: tuple[str, ...] = ("file", "s3")) -> Config:
    sources = tuple(SourceConfig(name=f"s{number}", uri=uri) for number, uri in enumerate(patterns))
    ingest = IngestConfig(sources=sources, part_mb=part_mb, protocols=protocols)
    return Config(ingest=ingest, run=RunConfig(source_root=str(root)))


def write(root: Path, **files: str) -> None:
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".txt").write_text(text, encoding="utf-8")


def paths(found: Plan) -> list[tuple[str, str]]:
    return [(file.source, file.path) for file in found.files]


def test_files_come_by_source_and_in_order_of_their_paths(tmp_path: Path):
    write(tmp_path, b="b", a="a", deep__x__c="c", deep__d="d")
    found = plan(config(tmp_path, "deep/**/*.txt", "*.txt"), [])
    assert paths(found) == [("s0", "deep/d.txt"), ("s0", "deep/x/c.txt"), ("s1", "a.txt"), ("s1", "b.txt")]
    assert found.problems == ()


def test_only_new_and_changed_files_are_read_again(tmp_path: Path):
    write(tmp_path, a="one", b="two")
    cfg = config(tmp_path, "*.txt")
    known = [file.entry() for file in plan(cfg, []).files]
    assert plan(cfg, known).files == ()
    write(tmp_path, b="changed", c="new")
    os.utime(tmp_path / "a.txt", (0, 0))  # touched, not changed
    assert paths(plan(cfg, known)) == [("s0", "b.txt"), ("s0", "c.txt")]


def test_a_quick_plan_reads_only_what_path_and_size_leave_in_doubt(tmp_path: Path):
    write(tmp_path, a="one", b="two", c="three")
    cfg = config(tmp_path, "*.txt")
    known = [file.entry() for file in plan(cfg, []).files]
    write(tmp_path, b="zwei", c="drei!", d="new")
    quick, full = plan(cfg, known, quick=True), plan(cfg, known)
    assert paths(quick) == paths(full) == [("s0", "b.txt"), ("s0", "c.txt"), ("s0", "d.txt")]
    assert [bool(file.sha256) for file in quick.files] == [False, True, False]


def test_a_file_that_another_source_has_read_is_new_to_this_one(tmp_path: Path):
    write(tmp_path, a="one")
    known = [file.entry() for file in plan(config(tmp_path, "*.txt"), []).files]
    assert paths(plan(config(tmp_path, "*.txt", "a.*"), known)) == [("s1", "a.txt")]


def test_small_files_share_a_unit_and_a_large_one_has_its_own(tmp_path: Path):
    write(tmp_path, a="x" * 400, b="x" * 400, c="x" * 5000, d="x" * 900, e="x" * 200)
    units = plan(config(tmp_path, "*.txt", part_mb=0.001), []).units
    assert [[file.path for file in unit] for unit in units] == [["a.txt", "b.txt"], ["c.txt"], ["d.txt"], ["e.txt"]]


def test_a_pattern_without_files_is_a_problem_on_record(tmp_path: Path):
    ((source, path, bad),) = plan(config(tmp_path, "nothing/*.txt"), []).problems
    assert (source, path, bad.rule) == ("s0", "nothing/*.txt", "no-files")


def test_what_is_no_readable_file_is_a_problem_and_does_not_hang(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe.txt")
    (tmp_path / "folder.txt").mkdir()
    (tmp_path / "broken.txt").symlink_to(tmp_path / "gone")
    write(tmp_path, fine="text")
    found = plan(config(tmp_path, "*.txt"), [])
    assert paths(found) == [("s0", "fine.txt")]
    assert [path for _, path, _ in found.problems] == ["broken.txt", "pipe.txt"]


def test_loops_of_links_are_not_followed_round_and_a_link_elsewhere_is(tmp_path: Path):
    """By `glob` alone, two loops make 2^40 paths."""
    write(tmp_path, raw__a="a", raw__deep__b="b", raw__deep__x__c="c", elsewhere__d="d")
    for place, goal in (("raw/one", "."), ("raw/two", "."), ("raw/deep/up", ".."), ("raw/there", "../elsewhere")):
        (tmp_path / place).symlink_to(goal)
    (tmp_path / "raw" / "again").symlink_to("deep")
    found = [file.path for file in plan(config(tmp_path, "raw/**/*.txt"), []).files]
    assert found == ["raw/a.txt", "raw/deep/b.txt", "raw/deep/x/c.txt", "raw/there/d.txt"]
    assert paths(plan(config(tmp_path, "**/x/**/*.txt"), [])) == [("s0", "raw/deep/x/c.txt")]
    assert paths(plan(config(tmp_path, "raw/one/*.txt", "raw/**"), []))[0] == ("s0", "raw/one/a.txt")
    assert [file.path for file in plan(config(tmp_path, f"{tmp_path}/raw/**/b.*"), []).files] == [
        f"{tmp_path}/raw/deep/b.txt"
    ]


@pytest.mark.parametrize(
    "pattern", ["**/*.txt", "raw/**/*.txt", "./raw/**/*.txt", "r*/**/*", "raw/**", "raw/*/*.txt", "**"]
)
def test_where_there_are_no_links_a_pattern_matches_what_glob_does(tmp_path: Path, pattern: str):
    write(tmp_path, raw__a="a", raw__deep__b="b", raw__deep__x__c="c", d="d", raw__hidden="h", other__e="e")
    (tmp_path / "raw" / ".hidden").mkdir()
    (tmp_path / "raw" / ".hidden" / "no.txt").touch()
    matched = glob.glob(pattern, root_dir=tmp_path, recursive=True)  # noqa: PTH207 - keeps the prefix
    expected = sorted(path for path in matched if (tmp_path / path).is_file())
    assert [file.path for file in plan(config(tmp_path, pattern), []).files] == expected


def test_a_folder_that_cannot_be_listed_is_on_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write(tmp_path, raw__a="a", raw__closed__b="b")
    scan = os.scandir

    def refuses(path: str) -> object:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuses)
    found = plan(config(tmp_path, "raw/**/*.txt"), [])
    assert paths(found) == [("s0", "raw/a.txt")]
    ((_, path, bad),) = found.problems
    assert path.endswith("raw/closed")
    assert (bad.rule, bad.value) == ("unreadable", "Permission denied")


@pytest.mark.parametrize("section", ["ingest", "decontaminate", "pairs"])
@pytest.mark.parametrize(
    "uri",
    [
        "zip://*.txt::raw/a.zip",
        "zip://*.txt::s3://b/a.zip",
        "tar://文件/*.txt::file:///data/a.tar",
        "zip:///data/a.zip",
        "simplecache::s3://b/*",
    ],
)
def test_an_archive_or_a_chain_is_refused_when_the_configuration_is_read(uri: str, section: str):
    allowed = ["file", "s3", "zip", "tar", "simplecache", "simplecache::s3"]
    name = "evaluations" if section == "decontaminate" else "sources"
    source = {"name": "a", "uri": uri} | ({"task": "translation"} if section == "pairs" else {})
    data = {"ingest": {"protocols": allowed}}
    data.setdefault(section, {})[name] = [source]
    with pytest.raises(ConfigError, match=rf"{name}.0.uri: an archive or a chain of protocols is no source; unpack it"):
        validate(data)


def test_a_file_name_that_is_no_utf8_still_has_a_printable_path(tmp_path: Path):
    name = os.fsencode(tmp_path) + b"/\xff.txt"
    try:
        with open(name, "wb") as file:
            file.write(b"text")
    except OSError:
        # This disk takes UTF-8 names only, so there is nothing to go wrong.
        return
    (file_,) = plan(config(tmp_path, "*.txt"), []).files
    assert file_.path == "\\xff.txt"
    assert open_input(file_).read() == b"text"


def test_a_change_after_planning_is_seen(tmp_path: Path):
    write(tmp_path, a="one")
    (file,) = plan(config(tmp_path, "*.txt"), []).files
    assert current_version(file) == file.sha256
    write(tmp_path, a="two")
    assert current_version(file) != file.sha256


@pytest.mark.parametrize(
    ("pattern", "folder"),
    [
        ("raw/*.jsonl", "raw/"),
        ("raw/2024/*/a*.txt", "raw/2024/"),
        ("a.txt", ""),
        ("raw/a.txt", "raw/"),
        ("/data/**/x.txt", "/data/"),
        ("s3://bucket/prefix/*.gz", "s3://bucket/prefix/"),
        ("./raw/[ab].txt", "./raw/"),
        ("http://[2001:db8::1]:80/语料/*/a.txt", "http://[2001:db8::1]:80/语料/"),
        ("http://[2001:db8::1]/a.txt", "http://[2001:db8::1]/"),
        ("s3://[ab]ucket/a.txt", "s3://"),
    ],
)
def test_the_fixed_folder_of_a_pattern_ends_before_its_first_wildcard(pattern: str, folder: str):
    assert fixed_folder(pattern) == folder


def test_a_remote_store_is_listed_and_read_by_its_protocol():
    store = fsspec.filesystem("memory")
    store.pipe({"/demo/raw/b.txt": b"two", "/demo/raw/a.txt": b"one", "/demo/raw/c.bin": b"no"})
    cfg = config(Path("/"), "memory://demo/raw/*.txt", protocols=("memory",))
    found = plan(cfg, [])
    assert [file.path for file in found.files] == ["memory:///demo/raw/a.txt", "memory:///demo/raw/b.txt"]
    assert [open_input(file).read() for file in found.files] == [b"one", b"two"]
    assert plan(cfg, [file.entry() for file in found.files]).files == ()


def test_a_pattern_that_a_store_does_not_understand_is_an_error_that_says_so():
    with pytest.raises(InputError, match=r"demo/\*\*\.txt: cannot be listed: Invalid pattern"):
        plan(config(Path("/"), "memory://demo/**.txt", protocols=("memory",)), [])


def test_an_unknown_protocol_is_an_error_that_names_it():
    with pytest.raises(InputError, match="nosuch"):
        plan(config(Path("/"), "nosuch://x/*", protocols=("nosuch",)), [])


@pytest.mark.parametrize(
    ("uri", "refused"),
    [
        ("memory://x/*", "memory"),
        ("https://example.org/a.txt", "https"),
        ("S3://x/*", "S3"),
        ("http://[2001:db8::1]/a.txt", "http"),
    ],
)
def test_a_protocol_that_is_not_allowed_is_an_error_that_names_the_setting(uri: str, refused: str):
    source = {"name": "web", "uri": uri}
    with pytest.raises(ConfigError, match=f"source web needs '{refused}', which ingest.protocols does not allow"):
        validate({"ingest": {"sources": [source]}})
    assert validate({"ingest": {"sources": [source], "protocols": [protocol(uri)]}})


def test_an_address_that_no_server_can_have_is_refused_when_the_configuration_is_read():
    source = {"name": "web", "uri": "http://[2001:db8::1/a.txt"}
    with pytest.raises(ConfigError, match="uri: invalid IPv6 URL"):
        validate({"ingest": {"sources": [source], "protocols": ["http"]}})


@pytest.mark.parametrize("host", ["[::1]", "[::ffff:127.0.0.1]", "[fd00:ec2::254]", "[64:ff9b::a9fe:a9fe]"])
@pytest.mark.parametrize("pattern", ["a.txt", "*.txt"])
def test_no_private_address_of_the_new_protocol_is_opened(host: str, pattern: str):
    with pytest.raises(InputError, match="is inside a private network"):
        plan(config(Path("/"), f"http://{host}:9/{pattern}", protocols=("http",)), [])


def test_two_colons_in_a_name_are_part_of_it(tmp_path: Path):
    write(tmp_path, **{"a::s3": "one", "一::二": "two"})
    found = plan(config(tmp_path, f"file://{tmp_path}/*::*.txt"), [])
    assert [open_input(file).read() for file in found.files] == [b"one", b"two"]


def covered(root: Path) -> Path:
    """Write a raw file and a workspace with outputs below a folder; return the workspace."""
    write(root, raw__a="一", ws__nights__n__documents__part="other", ws__reports__n="other", ws__models__m="other")
    return root / "ws"


@pytest.mark.parametrize("pattern", ["**/*", "**/*.txt", "ws/**/*", "./", "link/**/*.txt", "link/n/documents/part.txt"])
def test_a_pattern_that_covers_the_workspace_never_takes_it_in_and_says_so(
    tmp_path: Path, pattern: str, caplog: pytest.LogCaptureFixture
):
    workspace = covered(tmp_path)
    (tmp_path / "link").symlink_to(workspace / "nights")
    source = SourceConfig(name="all", uri=pattern, format="txt")
    cfg = Config(
        workspace=str(workspace), ingest=IngestConfig(sources=(source,)), run=RunConfig(source_root=str(tmp_path))
    )
    found = plan(cfg, [])
    assert [Path(path) for _, path in paths(found)] == ([Path("raw/a.txt")] if pattern[0] in "*." else [])
    assert [bad.rule for _, _, bad in found.problems] == ([] if found.files else ["no-files"])
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "source all: its pattern covers the workspace; " in record.getMessage()


def test_files_beside_the_workspaces_own_folders_are_read_and_nothing_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    write(tmp_path, raw__a="一", nights="no folder", models2__b="two")
    cfg = config(tmp_path, "**/*.txt")
    assert len(plan(replace(cfg, workspace=str(tmp_path)), []).files) == 3
    assert not caplog.records


def test_a_workspace_in_a_store_is_no_source_of_itself(caplog: pytest.LogCaptureFixture):
    fsspec.filesystem("memory").pipe({"/lake/ws/nights/n/a.txt": b"no", "/lake/ws/.lock": b"no", "/lake/a.txt": b"one"})
    cfg = replace(config(Path("/"), "memory://lake/**", protocols=("memory",)), workspace="memory:///lake/ws/")
    assert paths(plan(cfg, [])) == [("s0", "memory:///lake/a.txt")]
    assert len(caplog.records) == 1


def test_a_relative_path_needs_the_protocol_of_this_disk():
    with pytest.raises(ConfigError, match="needs 'file'"):
        validate({"ingest": {"sources": [{"name": "s", "uri": "raw/*.txt"}], "protocols": ["s3"]}})


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "4")
            self.end_headers()
            self.wfile.write(b"text")

        do_HEAD = do_GET

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}/a.txt"
        running.shutdown()


def test_no_address_inside_a_private_network_is_opened(server: str, monkeypatch: pytest.MonkeyPatch):
    cfg = config(Path("/"), server, protocols=("http",))
    with pytest.raises(InputError, match=r"127\.0\.0\.1 is inside a private network"):
        plan(cfg, [])
    # What a redirect gets round.
    monkeypatch.setattr(remote.socket, "getaddrinfo", lambda host, port: [])
    with pytest.raises(InputError, match=r"/a\.txt: 127\.0\.0\.1 is inside a private network"):
        plan(cfg, [])
    fsspec.filesystem("http").clear_instance_cache()
    # So it was this that stood in the way.
    monkeypatch.setattr(remote, "check_public", lambda address: None)
    assert [open_input(file).read() for file in plan(cfg, []).files] == [b"text"]
    fsspec.filesystem("http").clear_instance_cache()


@pytest.mark.parametrize(
    "address",
    [
        "10.1.2.3",
        "169.254.169.254",
        "::1",
        "fe80::1%eth0",
        "::ffff:127.0.0.1",
        "0.0.0.0",
        "100.64.0.1",
        "224.0.0.1",
        "fd00:ec2::254",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::808:808",
        "2002:7f00:1::",
        "ff02::1",
    ],
)
def test_private_addresses_of_every_kind_are_refused(address: str):
    with pytest.raises(PermissionError, match="inside a private network"):
        remote.check_public((0, 0, 0, "", (address, 80)))


@pytest.mark.parametrize("address", ["8.8.8.8", "::ffff:8.8.8.8", "2001:4860:4860::8888", "64:ff9b::808:808"])
def test_public_addresses_are_opened(address: str):
    remote.check_public((0, 0, 0, "", (address, 443)))


def test_where_a_server_redirects_to_is_checked_too(monkeypatch: pytest.MonkeyPatch):
    asked: list[str] = []
    refused: set[str] = set()

    class Redirects(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.headers["Host"])
            self.send_response(302)
            self.send_header(
                "Location", f"http://127.0.0.2:{self.server.server_port}/秘密.txt".encode().decode("latin-1")
            )
            self.end_headers()

        do_HEAD = do_GET

        def log_message(self, *args: object) -> None:
            pass

    def check(address: Any) -> None:
        # Which stands for a public address here.
        if address[4][0] != "127.0.0.1":
            refused.add(address[4][0])
            raise PermissionError(f"{address[4][0]} is inside a private network")

    monkeypatch.setattr(remote, "check_public", check)
    fsspec.filesystem("http").clear_instance_cache()
    with ThreadingHTTPServer(("", 0), Redirects) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        uri = f"http://127.0.0.1:{running.server_port}/a.txt"
        file = discover.InputFile("web", uri, 1, "x", uri)
        with pytest.raises(PermissionError, match=r"127\.0\.0\.2 is inside a private network"):
            open_input(file).read()
        running.shutdown()
    fsspec.filesystem("http").clear_instance_cache()
    assert refused == {"127.0.0.2"}
    assert {name.partition(":")[0] for name in asked} == {"127.0.0.1"}


def test_of_a_folder_all_is_read_but_notes_and_caches_which_are_on_record(tmp_path: Path):
    saved = ["train/data-00000-of-00001.arrow", "test/data-00000-of-00001.arrow", "data/part-0.parquet"]
    saved += ["c4-train.00000-of-01024.json.gz", "extra.jsonl.gz", "中文.txt", "unknown.xyz"]
    others = ["dataset_dict.json", "train/state.json", "train/dataset_info.json", "train/cache-1f.arrow", "README.md"]
    for name in saved + others:
        (tmp_path / "hf" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "hf" / name).write_text("x")
    found = plan(config(tmp_path, "hf/"), [])
    assert paths(found) == [("s0", f"hf/{name}") for name in sorted(saved)]
    assert {(path, bad.rule) for _, path, bad in found.problems} == {(f"hf/{name}", "left-out") for name in others}
    texts = Config(
        ingest=IngestConfig(sources=(SourceConfig(name="s", uri="hf/", format="md"),)),
        run=RunConfig(source_root=str(tmp_path)),
    )
    assert paths(plan(texts, [])) == [("s", f"hf/{name}") for name in sorted([*saved, "README.md"])]
    store = fsspec.filesystem("memory")
    store.pipe({f"/saved/{name}": b"x" for name in saved + others})
    remote = plan(config(Path("/"), "memory://saved/", protocols=("memory",)), [])
    assert [file.path for file in remote.files] == [f"memory:///saved/{name}" for name in sorted(saved)]
    assert {path.removeprefix("memory:///saved/") for _, path, _ in remote.problems} == set(others)
