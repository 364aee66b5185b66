"""The benchmark corpus: Debian's documentation packages as JSON lines a language, and variants with exact truth.

    python -m benchmarks.corpus_data [--cache FOLDER]

apt fetches the packages as its sources list says (`apt-get download`: nothing is installed); they are unpacked in a
temporary folder. In the cache folder then stand, always in the same order,

    zh.jsonl, en.jsonl                  `id` (package and path) and `text`, once from every page
    with_variants/{zh,en}.jsonl         the same, and edited copies of some documents among them
    with_variants/truth_{zh,en}.tsv     pairs (id_a, id_b) and their exact Jaccard similarity
    corpus.json                         versions, counts, and a checksum of every file

A cache whose checksums hold is used as it is. Licences: GPL-2+, GFDL-1.2+, MPL-2.0, CC-BY-SA-3.0, PSF-2.0; the text
is for measuring on this machine and is no part of the project.
"""

from __future__ import annotations

import argparse
import functools
import gzip
import hashlib
import html
import itertools
import json
import random
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from slimpajama.core.errors import InputError
from slimpajama.core.logs import step_log
from slimpajama.corpus.dedup.normalise import normalise
from slimpajama.corpus.sources.decoding import page_text
from slimpajama.corpus.sources.html import visible_text

CACHE = Path.home() / ".cache" / "slimpajama-benchmarks" / "corpus"
LANGUAGES = ("zh", "en")
PACKAGES = (
    "linux-doc-6.1",
    "python3.11-doc",
    "debian-handbook",
    "debian-reference-zh-cn",
    "debian-reference-en",
    "manpages-zh",
    "installation-guide-amd64",
    "libreoffice-help-zh-cn",
    "libreoffice-help-en-us",
    "gnome-user-docs",
)
NGRAM = 13
# Characters; less is a page without a text of its own.
SHORTEST = 20
VARIANTS = 600  # a language
# Characters of documents that are edited: long enough to place edits, short enough to be many.
EDITED = (600, 20_000)

# Translations: of folders named by a language only English and Chinese ones are taken.
_LANGUAGE = re.compile(r"/(?:help|html|installation-guide-amd64|translations)/([a-z]{2}(?:[-_@][A-Za-z]+)?)(?=/)")
_TAKEN = re.compile(r"zh[-_](?:CN|TW)|en|en-US", re.IGNORECASE)
_LEFT_OUT = re.compile(
    r"/(?:_static|_images|figures|lintian|doc-base|bug|genindex[^/]*|search)(?:/|\.html)|/html/_sources/"
)
_HAN = re.compile(r"[\u3400-\u9fff]")
_ROFF_FONT = re.compile(r"\\f(?:\(..|\[[^\]]*\]|.)|\\[&/,^|%]|\\s[-+]?\d")
_ROFF_CHAR = {r"\-": "-", r"\e": "\\", r"\(co": "©", r"\(bu": "•", r"\(aq": "'", r"\(lq": "“", r"\(rq": "”", r"\ ": " "}
_ROFF_CHARS = re.compile("|".join(map(re.escape, _ROFF_CHAR)))
_TAG = re.compile(r"<[^>]*>")
_COMMENT = re.compile(r"<!--.*?-->|<\?.*?\?>|<info>.*?</info>", re.DOTALL)
_BLANK = re.compile(r"\s*\n\s*\n\s*")


def roff_text(page: str) -> str:
    """Return what a man page says: requests and font changes taken out, their arguments left."""
    lines = []
    for line in page.splitlines():
        if line.startswith((r".\"", r"'\"", ".nr", ".ds", ".de", ".if", ".ie", ".el", ".so", "..")):
            continue
        text = line
        if line.startswith((".", "'")):
            text = line.partition(" ")[2].replace('"', "") if line[1:].strip() else ""
        lines.append(_ROFF_CHARS.sub(lambda found: _ROFF_CHAR[found[0]], _ROFF_FONT.sub("", text)))
    return "\n".join(lines).strip()


def mallard_text(page: str) -> str:
    """Return the text of a page of Mallard or DocBook XML; blank lines squeezed to one."""
    return _BLANK.sub("\n\n", html.unescape(_TAG.sub("", _COMMENT.sub("", page)))).strip()


def plain(page: str) -> str:
    """Return a text as it stands."""
    return page.strip()


def way_to_read(path: str) -> Callable[[str], str] | None:
    """Return what turns the file at `path` into text, or nothing where it holds none."""
    name = path.removesuffix(".gz")
    if re.search(r"/man/.*\.[1-9][a-z]*$", name):
        return roff_text
    if name.endswith(".html"):
        return visible_text
    if name.endswith(".page"):
        return mallard_text
    return plain if name.endswith((".rst", ".txt")) and "/share/doc/" in path else None


def documents(package: Path) -> Iterator[tuple[str, str]]:
    """Yield path and text of each document of an unpacked package, by path."""
    for file in sorted(path for path in package.rglob("*") if path.is_file() and not path.is_symlink()):
        path = f"/{file.relative_to(package).as_posix()}"
        read, language = way_to_read(path), _LANGUAGE.search(path)
        if read is None or _LEFT_OUT.search(path) or (language and not _TAKEN.fullmatch(language[1])):
            continue
        raw = gzip.decompress(file.read_bytes()) if path.endswith(".gz") else file.read_bytes()
        text = read(page_text(raw) if read is visible_text else raw.decode("utf-8", "replace"))
        if len(text) >= SHORTEST:
            yield path, text


def language_of(text: str) -> str:
    """Return `zh` where a tenth of a text is Chinese characters: what a translator left in English is English."""
    return "zh" if 10 * len(_HAN.findall(text)) >= len(text) else "en"


def fetch(folder: Path) -> dict[str, str]:
    """Download and unpack the packages into `folder`, a folder each; return their versions.

    Raises:
        InputError: There is no apt, or it does not find a package.
    """
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise InputError(
                "the benchmark corpus comes from Debian's packages",
                where=tool,
                found="no such program",
                hint="Run this on Debian or in a container of it, or copy a cache folder made there (--cache).",
            )
    step_log("bench").info(f"downloading {len(PACKAGES)} packages with apt ...")
    update = subprocess.run(["apt-get", "update", "-qq"], capture_output=True, text=True, check=False)
    done = subprocess.run(
        ["apt-get", "download", "-qq", *PACKAGES], cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise InputError(
            "apt-get download failed",
            found=f"{update.stderr} {done.stderr}".strip()[-500:],
            hint="`apt-get update` as root, then run again.",
        )
    versions = {}
    for archive in sorted(folder.glob("*.deb")):
        name, version, _ = archive.name.split("_")
        (folder / name).mkdir()
        subprocess.run(["dpkg-deb", "-x", archive, folder / name], check=True)
        versions[name] = version.replace("%3a", ":")
    return versions


def shingles(text: str, ngram: int = NGRAM) -> set[str]:
    """Return the character n-grams that similarity is defined on, by plain Python: the reference for all kernels."""
    folded = normalise(text)
    return {folded[i : i + ngram] for i in range(max(1, len(folded) - ngram + 1))}


def exact_jaccard(a: str, b: str) -> float:
    """Return the Jaccard similarity of two texts' sets of 13-grams."""
    left, right = shingles(a), shingles(b)
    shared = len(left & right)
    return shared / (len(left) + len(right) - shared)


def edited(text: str, similarity: float, words: Sequence[str], rng: random.Random) -> str:
    """Return `text` with edits that leave about `similarity` of its 13-grams.

    Edits of one place: words deleted, foreign words put in, characters replaced, a block moved. A cut of n-grams at
    one place costs about 13 of them on either side, so `places` follows from the share that shall be lost.
    """
    # Share of either side's n-grams that the other lacks.
    lost = (1 - similarity) / (1 + similarity)
    places = max(1, round(len(text) * lost / 1.15 / (NGRAM + 3)))
    for _ in range(places):
        at, kind = rng.randrange(len(text)), rng.randrange(8)
        if kind < 3:
            text = text[:at] + text[at + rng.randint(1, 8) :]
        elif kind < 6:
            text = f"{text[:at]}{rng.choice(words)}{text[at:]}"
        elif kind < 7:
            text = text[:at] + rng.choice(words)[:1] + text[at + 1 :]
        else:
            start = rng.randrange(len(text))
            block = text[start : start + rng.randint(40, 200)]
            rest = text[:start] + text[start + len(block) :]
            text = rest[:at] + block + rest[at:]
    return text


def variants(
    records: Sequence[tuple[str, str]], language: str
) -> tuple[list[tuple[str, str]], list[tuple[str, str, float]]]:
    """Return the records with edited copies among them, and every pair (original, copy) with its exact similarity."""
    rng = random.Random(f"variants-{language}")
    shortest, longest = EDITED
    chosen = rng.sample([n for n, (_, text) in enumerate(records) if shortest <= len(text) <= longest], VARIANTS)
    words = sorted(
        {text[i : i + 6].split("\n")[0] for _, text in records[:500] for i in range(0, len(text), 997)} - {""}
    )
    made, truth = list(records), []
    for number, which in enumerate(chosen):
        name, text = records[which]
        copy = edited(text, 0.5 + 0.5 * (number + 0.5) / VARIANTS, words, rng)
        made.append((f"{name}#variant-{number}", copy))
        truth.append((name, made[-1][0], exact_jaccard(text, copy)))
    # A copy may stand before its original.
    rng.shuffle(made)
    return made, truth


@functools.cache
def recipe() -> str:
    """Return a checksum of this file: a cache that another version of it made is made anew."""
    return _sha256(Path(__file__))


def write_lines(path: Path, records: Sequence[tuple[str, str]]) -> None:
    """Write records as JSON lines of `id` and `text`."""
    with path.open("w", encoding="utf-8") as file:
        for name, text in records:
            file.write(json.dumps({"id": name, "text": text}, ensure_ascii=False) + "\n")


def read_lines(path: Path) -> list[tuple[str, str]]:
    """Return `id` and `text` of JSON lines."""
    with path.open(encoding="utf-8") as file:
        return [(record["id"], record["text"]) for record in map(json.loads, file)]


def prepare(cache: Path = CACHE) -> Path:
    """Return a folder with the corpus; it is made where the cache lacks it or holds something else."""
    about = cache / "corpus.json"
    if about.exists():
        made = json.loads(about.read_text(encoding="utf-8"))
        if made.get("recipe") == recipe() and all(_sha256(cache / file) == sha for file, sha in made["sha256"].items()):
            return cache
    (cache / "with_variants").mkdir(parents=True, exist_ok=True)
    about.unlink(missing_ok=True)
    records: dict[str, list[tuple[str, str]]] = {language: [] for language in LANGUAGES}
    with tempfile.TemporaryDirectory() as folder:
        versions = fetch(Path(folder))
        sizes: dict[str, int] = {}
        for package in PACKAGES:
            step_log("bench").info(f"reading {package} ...")
            for path, text in documents(Path(folder) / package):
                records[language_of(text)].append((package + path, text))
                kind = f"{package} {path.removesuffix('.gz').rpartition('.')[2]} {language_of(text)}"
                sizes[kind] = sizes.get(kind, 0) + len(text.encode())

    for language, originals in records.items():
        step_log("bench").info(f"editing documents ({language}) ...")
        write_lines(cache / f"{language}.jsonl", originals)
        both, truth = variants(originals, language)
        write_lines(cache / "with_variants" / f"{language}.jsonl", both)
        lines = ["id_a\tid_b\tjaccard", *(f"{a}\t{b}\t{jaccard:.9f}" for a, b, jaccard in truth)]
        (cache / "with_variants" / f"truth_{language}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    files = sorted(
        path.relative_to(cache).as_posix() for path in itertools.chain(cache.glob("*.jsonl"), cache.glob("*/*.*"))
    )
    counts: dict[str, Any] = {
        language: {"documents": len(found), "text_bytes": sum(len(text.encode()) for _, text in found)}
        for language, found in records.items()
    }
    made = {
        "recipe": recipe(),
        "packages": versions,
        **counts,
        "sha256": {file: _sha256(cache / file) for file in files},
    }
    about.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
    return cache


def _sha256(path: Path) -> str:
    if not path.exists():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main() -> None:
    """Make the corpus and print what it holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=CACHE)
    print((prepare(parser.parse_args().cache) / "corpus.json").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
