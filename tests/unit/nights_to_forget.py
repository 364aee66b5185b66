"""Two small nights in two languages, with personal data that is to be forgotten."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from steps import (
    clean,
    compare,
    decontaminate,
    deduplicate,
    find_passages,
    ingest,
    make_shards,
    make_tokenizer,
    segment,
)

from slimpajama.core.config import Config, load_config
from slimpajama.workspace.manifest import Manifest, entry_of, json_bytes
from slimpajama.workspace.nights import Nights
from slimpajama.workspace.open import Workspace
from slimpajama.workspace.parquet import read_table
from slimpajama.workspace.store import Store, sha256

FIRST, SECOND, THIRD = "2026-01-01", "2026-01-02", "2026-01-03"
ZH = """在北京的图书馆里 研究人员整理了 昨天下午 一批旧报纸 新的语言模型 ，结果令人满意。 ，许多人表示支持。
工程师检查了 今年春天 古代的地图 ，下一步已经开始。 村里的医生记录了 天气数据""".split()
EN = """the library opened its doors to a group of readers while engineers were checking old maps and weather reports
of that spring and nobody at the meeting knew which of these books had been translated before""".split()
SECRET = {"zh": "张三的身份证号码是一一零一零五", "en": "Jane Roe of Elm Street owes"}


def text(lang: str, seed: int) -> str:
    draw = random.Random(seed)
    if lang == "zh":
        return "".join(draw.choice(ZH) for _ in range(40))
    return "".join(" ".join(draw.choice(EN) for _ in range(12)).capitalize() + ". " for _ in range(8)).strip()


def secret(lang: str) -> str:
    """A text like the others, with personal data in it."""
    other = text(lang, 1000)
    return other[:60] + SECRET[lang] + other[60:]


def first_night() -> dict[str, list[str]]:
    return {lang: [text(lang, n) for n in range(20)] + [secret(lang), secret(lang)[:-4]] for lang in ("zh", "en")}


def second_night() -> dict[str, list[str]]:
    """A near copy, an exact one, new text; in English one that holds all of the first night's, which is held out."""
    around = f"{text('en', 80)} {secret('en')} {text('en', 81)}"
    new = {lang: [secret(lang)[4:], secret(lang)] + [text(lang, n) for n in range(50, 60)] for lang in ("zh", "en")}
    return {"zh": new["zh"], "en": [*new["en"], around]}


def write_raw(folder: Path, night: str, texts: dict[str, list[str]]) -> None:
    for lang, some in texts.items():
        path = folder / "raw" / f"{lang}-{night}.jsonl"
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join(json.dumps({"text": one}, ensure_ascii=False) for one in some), encoding="utf-8")


def settings(folder: Path) -> Config:
    return load_config(
        None,
        [
            'ingest.sources=[{name="zh", uri="raw/zh-*"}, {name="en", uri="raw/en-*"}]',
            f'run.source_root="{folder}"',
            "run.workers=1",
            "tokenizer.vocab_size=400",
            "shards.test_share=0.1",
            "shards.validation_share=0.1",
        ],
    )


def prepare(store: Store, cfg: Config, night: str) -> Manifest:
    made = [ingest(Workspace(store), cfg, night)]
    made.append(clean(Workspace(store), cfg, night, made[0]))
    made.append(compare(Workspace(store), cfg, night, made[1]))
    made.append(decontaminate(Workspace(store), cfg, night, made[1], made[2]))
    made.append(find_passages(Workspace(store), cfg, night, *made[1:4]))
    made.append(kept := deduplicate(Workspace(store), cfg, night, *made[1:4]))
    if kept.paths(f"nights/{night}/documents/"):
        words = segment(Workspace(store), cfg, night, kept)
        tokenizer = make_tokenizer(Workspace(store), cfg, night, kept, words)
        made += [words, tokenizer, make_shards(Workspace(store), cfg, night, kept, words, tokenizer)]
    return Nights(store).publish(night, made, cfg)


def write_model(store: Store, model: str, nights: list[str], started_from: str = "") -> None:
    about = {"night": nights[-1], "nights": dict.fromkeys(nights, ""), "started_from": started_from}
    store.write(f"models/{model}/manifest.json", json_bytes(Manifest("train", model, (), {}, about)))


def rows(store: Store, folder: str, night: str = FIRST) -> list[dict[str, Any]]:
    paths = Nights(store).load(night).paths(f"nights/{night}/{folder}/")
    return [row for path in paths for row in read_table(store, entry_of(path, store.read(path))).to_pylist()]


def id_of(store: Store, wanted: str, night: str = FIRST) -> str:
    [found] = [row["id"] for row in rows(store, "documents", night) if row["sha256"] == sha256(wanted.encode())]
    return str(found)
