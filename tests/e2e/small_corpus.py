"""A small corpus in two languages, made of what every Python installation has, and of sentences drawn by a seed."""

import gzip
import hashlib
import json
import pydoc_data.topics
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from slimpajama.workspace.layout import is_published_manifest
from slimpajama.workspace.manifest import load_manifest
from slimpajama.workspace.store import sha256

SUBJECTS = "研究人员 图书馆 编辑部 这家公司 年轻的老师 气象台 村里的医生 出版社 工程师 市政府".split()
VERBS = "整理了 发布了 讨论了 翻译了 检查了 比较了 重新设计了 记录了 推荐了 保存了".split()
OBJECTS = "一批旧报纸 新的语言模型 天气数据 三本教科书 分词的结果 一份报告 古代的地图 训练文本 机器日志".split()
PLACES = "在北京 在上海的会议上 在学校里 昨天下午 今年春天 在网络上 在一次采访中 在实验室里".split()
ENDS = "，结果令人满意。 ，但是还有很多问题。 ，许多人表示支持。 ，下一步已经开始。 ，详情请看附录。".split()


QUESTIONS = {
    "zh": "下列哪一座城市在宋朝时期曾经作为都城，并且人口超过一百万？",
    "en": "Which of the following cities was a capital during the Song dynasty and had more than a million people?",
}


# In five documents, so it is a repeated passage.
NOTICE = (
    "\n版权声明：本馆的笔记只供读者在馆内阅读，任何人不得复制或者转发；如有疑问，请写信给编辑部，"
    "我们会在一周之内回信，节日除外。责任编辑：李小红。"
)


def chinese(seed):
    draw = random.Random(seed)
    count = draw.randint(6, 14)
    return "".join(
        draw.choice(PLACES)
        + "，"
        + draw.choice(SUBJECTS)
        + draw.choice(VERBS)
        + draw.choice(OBJECTS)
        + draw.choice(ENDS)
        for _ in range(count)
    )


def english():
    return [text for _, text in sorted(pydoc_data.topics.topics.items()) if len(text) > 500]


CONFIG = """
workspace = "workspace"

[ingest]
part_mb = 0.2

[[ingest.sources]]
name = "zh-news"
uri = "raw/zh-*.jsonl.gz"
priority = 2
licence = "made for the tests"

[[ingest.sources]]
name = "en-docs"
uri = "raw/en.parquet"
licence = "PSF-2.0"

[[ingest.sources]]
name = "notes"
uri = "raw/notes/*.txt"

[[decontaminate.evaluations]]
name = "exam"
uri = "exam/*.jsonl.gz"
text_field = ["question", "answer"]

[dedup]
cut_passages = true

[tokenizer]
vocab_size = 1024

[shards]
target_mb = 0.13
validation_share = 0.08
test_share = 0.08

[model]
preset = "tiny"

[train]
tokens = 60_000
batch_tokens = 2048
checkpoint_seconds = 1.0

[evaluate]
max_mb_per_language = 0.03
bootstrap = 100

[generate]
max_tokens = 12
prompts = ["研究人员", "The "]
"""


def write_lines(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as raw, gzip.GzipFile(fileobj=raw, mode="wb", mtime=0, filename="") as file:
        for row in rows:
            file.write((json.dumps(row, ensure_ascii=False) + "\n").encode())


def write_corpus(folder):
    """Write raw files and `config.toml` below `folder`; return the folder."""
    raw = folder / "raw"
    texts = [chinese(n) for n in range(400)]
    texts += texts[:20]  # exact duplicates
    texts += [text + "（转载）" for text in texts[20:40]]  # near-duplicates
    write_lines(raw / "zh-a.jsonl.gz", [{"text": text} for text in texts])
    asked = [chinese(3000) + QUESTIONS["zh"], english()[0] + QUESTIONS["en"].upper()]
    others = [chinese(1000 + n) for n in range(100)] + ["太短"]
    write_lines(raw / "zh-b.jsonl.gz", [{"text": text} for text in others + asked])
    write_lines(folder / "exam" / "one.jsonl.gz", [{"question": q, "answer": "A"} for q in QUESTIONS.values()])
    pq.write_table(pa.table({"text": english()}), raw / "en.parquet")
    (raw / "notes").mkdir()
    for n in range(5):
        (raw / "notes" / f"{n}.txt").write_text("笔记：" + chinese(2000 + n) + NOTICE, encoding="utf-8")
    (folder / "config.toml").write_text(CONFIG, encoding="utf-8")
    return folder


NOT_PUBLISHED = (".tmp/", ".lock")


def published(workspace):
    """Return the sha256 of every file of a workspace."""
    files = sorted(path for path in Path(workspace).rglob("*") if path.is_file())
    names = {path.relative_to(workspace).as_posix(): path for path in files}
    return {
        name: hashlib.sha256(path.read_bytes()).hexdigest()
        for name, path in names.items()
        if not name.startswith(NOT_PUBLISHED)
    }


def published_in(store):
    """Return the sha256 of every file of a workspace, on S3 too, listed ones by their paths in the manifests."""
    present = store.list()
    manifests = [load_manifest(store, path) for path in present if is_published_manifest(path)]
    paths = {store.name(entry.path, entry.sha256): entry.path for manifest in manifests for entry in manifest.files}
    return {paths.get(name, name): sha256(store.read(name)) for name in present}


def arguments(corpus, workspace):
    """Return the command line of one whole night."""
    return ["run", "--config", corpus / "config.toml", "--workspace", workspace, "--night", "n1"]


# Everything below is text of our own, so that pictures of it may be shown; `english()` is other people's.

WHO = "The librarian|A young teacher|The editor|The weather station|Our engineer|A village doctor|The museum".split("|")
DID = "sorted|compared|printed again|translated|measured|repaired|wrote down|kept".split("|")
WHAT = (
    "a box of old newspapers|three school books|the river levels|a map of the harbour|the machine logs|"
    "letters from the coast|a list of words|the train timetable"
).split("|")
WHERE = "in the reading room|before breakfast|during the storm|with great care|for the third time|by hand".split("|")
SO = (
    "Nobody had expected it.|The result was better than last year.|Two questions are still open.|It took all day.|"
    "The children asked for more.|A copy was sent to the archive.".split("|")
)


def sentences(seed):
    """Return an English text drawn by a seed."""
    draw = random.Random(seed)
    lines = [
        f"{draw.choice(WHO)} {draw.choice(DID)} {draw.choice(WHAT)} {draw.choice(WHERE)}. {draw.choice(SO)}"
        for _ in range(draw.randint(5, 12))
    ]
    return " ".join(lines)


HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(2)>',
    "[here](javascript:alert(3))",
    "![](javascript:alert(4))",
    "</td></tr></table></details><h1>taken over</h1>",
    "<iframe srcdoc='<script>parent.alert(5)</script>'></iframe>",
    "&lt;script&gt;alert(6)&lt;/script&gt;",
    '```mermaid\nflowchart LR\n a["<img src=x onerror=alert(7)>"]\n```',
    "| a | b |\n|---|---|\n| *c* | `d` |",
    "$\\href{javascript:alert(8)}{x}$ {{ 7 * 7 }}",
    "https://example.invalid/pixel.png",
    "\u202egnp.egami",
)

STORY = """
workspace = "{workspace}"

[[ingest.sources]]
name = "news"
uri = "raw/zh*.jsonl.gz"
licence = "made for the pictures"

[[ingest.sources]]
name = "letters"
uri = "raw/en*.jsonl.gz"
priority = 1

[tokenizer]
vocab_size = 1024

[shards]
target_mb = {shard_mb}
validation_share = 0.08
test_share = 0.08

[model]
preset = "tiny"

[train]
tokens = {tokens}
batch_tokens = 2048

[evaluate]
max_mb_per_language = 0.03
bootstrap = 100

[generate]
max_tokens = 40
prompts = {prompts}
"""


def write_story(folder, tokens=120_000, prompts=("研究人员", "The librarian"), shard_mb=0.13):
    """Write the configuration of a corpus that `write_story_night` fills; return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    prompts = json.dumps(prompts, ensure_ascii=False)
    settings = STORY.format(workspace="workspace", tokens=tokens, prompts=prompts, shard_mb=shard_mb)
    (folder / "story.toml").write_text(settings, encoding="utf-8")
    return folder / "story.toml"


def write_story_night(folder, number, documents=300, hostile=(), short=6):
    """Write one night's raw files: new texts, copies of its own and of the night before, and hostile ones."""
    first = number * documents
    kinds = ("zh", chinese, "（转载）", "公园里"), ("en", sentences, " (reprinted)", "In the park. ")
    for lang, make, copied, changed in kinds:
        texts = [make(first + n) for n in range(documents)]
        texts += [text + copied for text in texts[:12]] + texts[12:20]
        texts += [changed + make(max(0, first - documents) + n) for n in range(20, 30)]  # of the night before
        texts += [make(first + n)[:40] for n in range(short)]
        texts += [f"{evil} {make(first + n)}{evil}" for n, evil in enumerate(hostile)]  # beside those without
        texts += hostile  # too short
        write_lines(folder / "raw" / f"{lang}-{number:02d}.jsonl.gz", [{"text": text} for text in texts])
