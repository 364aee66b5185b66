"""Fixed inputs of the golden tests: the same bytes on every machine, two small nights with pairs."""

import json

from small_corpus import chinese, sentences

CONFIG = """
[ingest]
part_mb = 0.05

[[ingest.sources]]
name = "news"
uri = "raw/zh-*.jsonl"
priority = 2
licence = "made for the tests"

[[ingest.sources]]
name = "letters"
uri = "raw/en-*.jsonl"

[[ingest.sources]]
name = "notes"
uri = "raw/notes/*.txt"

[clean]
mask_pii = true

[[decontaminate.evaluations]]
name = "exam"
uri = "exam/*.jsonl"
text_field = ["question", "answer"]

[tokenizer]
vocab_size = 512

[shards]
target_mb = 0.05
validation_share = 0.1
test_share = 0.1

[model]
preset = "tiny"

[train]
tokens = 16_384
batch_tokens = 2048
precision = "fp32"

[evaluate]
max_mb_per_language = 0.02
bootstrap = 100

[generate]
max_tokens = 12
prompts = ["研究人员", "The librarian"]

[[pairs.sources]]
name = "handbook"
uri = "pairs/translation.jsonl"
task = "translation"
fields = {group = "page"}

[[pairs.sources]]
name = "digests"
uri = "pairs/summarization.jsonl"
task = "summarization"

[[pairs.sources]]
name = "questions"
uri = "pairs/answers.jsonl"
task = "question-answering"

[pairs]
test_share = 0.2
validation_share = 0.1

[tune]
nightly = true
tokens = 8_192
batch_tokens = 1024
source_tokens = 64
target_tokens = 16
max_test_pairs = 3

[apply]
beams = 2
max_tokens = 8

[run]
workers = 2
"""
EXAM = [
    {"question": "下列哪一座城市在宋朝时期曾经作为都城，并且人口超过一百万？", "answer": "杭州"},
    {"question": "Which of these cities was a capital and had more than a million people at that time?", "answer": "A"},
]


def _lines(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def write_golden(folder):
    """Write configuration, evaluation file, pairs and the first night's raw files; return the configuration's path."""
    (folder / "raw" / "notes").mkdir(parents=True)
    (folder / "golden.toml").write_text(CONFIG, encoding="utf-8")
    _lines(folder / "exam" / "one.jsonl", EXAM)
    pairs = [(sentences(9000 + n)[:90], chinese(9000 + n)[:40]) for n in range(60)]
    translations = [{"source": en, "target": zh, "page": str(n // 3)} for n, (en, zh) in enumerate(pairs)]
    _lines(folder / "pairs" / "translation.jsonl", translations)
    digests = [
        {"source": make(8000 + n), "target": make(8000 + n)[:30]} for make in (chinese, sentences) for n in range(30)
    ]
    _lines(folder / "pairs" / "summarization.jsonl", digests)
    answers = [
        {"source": make(7000 + n), "question": f"{make(7000 + n)[5:20]}?", "target": [make(7000 + n)[:9]]}
        for make in (chinese, sentences)
        for n in range(30)
    ]
    _lines(folder / "pairs" / "answers.jsonl", answers)
    write_golden_night(folder, 0)
    return folder / "golden.toml"


def write_golden_night(folder, number, documents=90):
    """Write one night's raw files: new texts, copies of its own and of the night before, what rules refuse."""
    first = number * documents
    for lang, make, mark in (("zh", chinese, "（转载）"), ("en", sentences, " (reprinted)")):
        texts = [make(first + n) for n in range(documents)]
        texts += texts[:6] + [text + mark for text in texts[6:12]]
        texts += [mark + make(max(0, first - documents) + n) for n in range(12, 20)]
        texts += [text[:25] for text in texts[:4]]
        texts += [make(first + 5000) + EXAM[lang == "en"]["question"], f"{make(first + 6000)} me@example.org"]
        _lines(folder / "raw" / f"{lang}-{number}.jsonl", [{"text": text} for text in texts] + [{"wrong": 1}])
    for n in range(3):
        text = f"笔记{number}：{chinese(first + 2000 + n)}"
        (folder / "raw" / "notes" / f"{number}-{n}.txt").write_text(text, encoding="utf-8")
