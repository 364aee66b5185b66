import random

import pyarrow as pa
import pytest

from slimpajama.core.config import CleanConfig
from slimpajama.core.errors import ConfigError
from slimpajama.core.schema import QUALITY
from slimpajama.corpus.clean.normalise import normalise
from slimpajama.corpus.clean.quality import measure, measure_text
from slimpajama.corpus.clean.rules import PRESETS, RULES, first_verdicts, judge

ZH = (
    "清晨的雾还没有散去，老人推开木门，看见院子里落满了昨夜的梧桐叶。他弯下腰，一片一片地捡起来，放进竹篮。\n"
    "隔壁的孩子背着书包跑过，喊了一声爷爷早，又消失在巷口。远处传来卖豆浆的吆喝，混着自行车铃声，慢慢地近了。\n"
    "太阳从屋檐后面升起来，照在湿漉漉的石板路上。他想起很多年前，自己也是这样在雾里跑去上学，母亲站在门口看着。\n"
    "如今城里盖了许多高楼，这条巷子却没有变，只是邻居换了几家，墙上的字也淡了。他把竹篮放到墙角，转身去烧水泡茶。\n"
    "收音机里说明天要下雨，孩子放学回来该带伞了。他从柜子里找出那把旧伞，撑开看看，骨架还好，布面补一补就能用。"
)
EN = (
    "The fog had not lifted yet when the old man opened the door and saw that the yard was full of leaves.\n"
    "He bent down to pick them up, one by one, and put them into a basket that his wife had made long ago.\n"
    "A boy from next door ran past with his school bag, called out a greeting and was gone around the corner.\n"
    "Far away someone was selling bread, and the sound of a bicycle bell came slowly nearer through the street."
)
ENGLISH_ADVERT = "Buy two pairs of these shoes and get the third for free "
ADVERT = "全场五折优惠，正品保证，七天包退，加微信领红包！"


def words(rng: random.Random, n: int, script: str) -> str:
    """Return n random words, so that nothing repeats by chance."""
    if script == "zh":
        return "".join(chr(rng.randrange(0x4E00, 0x9000)) for _ in range(2 * n))
    return " ".join("".join(rng.choices("abcdefghij", k=6)) for _ in range(n))


def failed(text: str, lang: str, **cfg: object) -> list[str]:
    return [v.rule for v in judge(measure_text(text), lang, CleanConfig(**cfg)) if not v.passed]  # type: ignore[arg-type]


@pytest.mark.parametrize("preset", ["slimpajama", "fineweb", "chinese", "none"])
@pytest.mark.parametrize(("text", "lang"), [(ZH, "zh"), (EN, "en")])
def test_good_prose_passes_every_preset(preset: str, text: str, lang: str):
    assert failed(text, lang, preset=preset) == []


def lines(n: int, line: str, other: str) -> str:
    """Return n lines of the one kind and one of the other, all different."""
    return "\n".join([*(line.replace("%", chr(0x4E00 + 7 * k) + str(k)) for k in range(n)), other])


RNG = random.Random(1)
CASES = [
    ("gopher-few-words", "太短的一段话。", "Far too short a text."),
    ("gopher-many-words", words(RNG, 100_100, "zh"), words(RNG, 100_100, "en")),
    ("gopher-short-words", "", "a b c d e f g h " * 20),
    ("gopher-long-words", "中" * 40 + "abcdefghijklm" * 8, "internationalisation " * 60),
    ("gopher-symbols", "#话题# 今天 #天气# 很好 …… 你们 #觉得# 呢", "# one # two # three ... and # four # five"),
    ("gopher-bullet-lines", lines(20, "• 第%项说明", "完。"), lines(20, "- item %", "Done.")),
    ("gopher-ellipsis-lines", lines(3, "点击查看全文%……", "完。"), lines(3, "Read more %...", "Done.")),
    ("gopher-alphabetic", "价格 10 20 30 40 50 60 70 80 90", "10 20 30 40 == == || ** word"),
    ("gopher-stop-words", words(RNG, 60, "zh"), words(RNG, 60, "en")),
    ("gopher-dup-lines", "版权所有\n版权所有\n版权所有\n正文", "Share this\nShare this\nShare this\nText"),
    ("gopher-dup-line-chars", "", "All rights reserved by the owner\nAll rights reserved by the owner\nText"),
    ("gopher-dup-paragraphs", "", "One\n\nOne\n\nOne\n\nTwo"),
    ("gopher-dup-paragraph-chars", "", "A long paragraph\n\nA long paragraph\n\nTwo"),
    ("gopher-top-2gram", "正品包邮" * 10 + words(RNG, 20, "zh"), "free shipping " * 10 + words(RNG, 20, "en")),
    ("gopher-top-3gram", "正品包邮速抢" * 10 + words(RNG, 9, "zh"), "free shipping today " * 10 + words(RNG, 9, "en")),
    ("gopher-top-4gram", "正品包邮速抢点击" * 9, "free shipping only today " * 9),
    *((f"gopher-dup-{n}gram", ADVERT * 20, ENGLISH_ADVERT * 20) for n in range(5, 11)),
    ("c4-lorem-ipsum", "正文 Lorem ipsum dolor 占位", "Lorem ipsum dolor sit amet"),
    ("c4-curly-bracket", "", "function f() { return 1 }"),
    ("c4-javascript", "", "Please enable JavaScript\nThis site needs javascript\nText"),
    ("fineweb-punctuated-lines", lines(10, "第%行没有标点", "末行也没有"), lines(10, "Line % without a stop", "None")),
    ("fineweb-dup-line-chars", "版权所有\n版权所有\n正文第一行", "All rights reserved\nAll rights reserved\nText"),
    ("fineweb-short-lines", "", lines(10, "Menu %", "A line that is much longer than thirty characters.")),
    ("fineweb-lines-per-word", lines(20, "第%行", "完"), lines(20, "Menu %", "End")),
    ("mojibake", f"{ZH}锟斤拷锟斤拷", f"{EN} It wasn\xe2€™t a cafÃ©."),
]


@pytest.mark.parametrize(("rule", "chinese", "english"), CASES)
def test_each_rule_refuses_what_it_is_there_for_in_both_languages(rule: str, chinese: str, english: str):
    for text, lang in ((chinese, "zh"), (english, "en")):
        assert not text or rule in failed(text.strip(), lang, preset="fineweb")
        assert rule not in failed(ZH if lang == "zh" else EN, lang, preset="fineweb")


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ("chinesewebtext-length", "不到两百个字的一段话。" * 3),
        ("chinesewebtext-line-length", "\n".join(["首页", "新闻", "体育", "财经", "娱乐", "登录注册"])),
        ("chinesewebtext-han-share", "中文 " + "abcdefghij " * 10),
        ("chinesewebtext-13gram", ADVERT * 20),
    ],
)
def test_the_chinese_preset_asks_what_chinesewebtext_asks(rule: str, text: str):
    assert rule in failed(text, "zh", preset="chinese")
    assert rule not in failed(ZH, "zh", preset="chinese")
    assert not [name for name in failed(EN, "en", preset="chinese") if name.startswith("chinesewebtext")]


def test_every_rule_is_in_a_preset_measures_a_stored_signal_and_is_tested():
    tested = {name for name, *_ in CASES} | {name for name in RULES if name.startswith("chinesewebtext")}
    assert set(RULES) == tested == {name for preset in PRESETS.values() for name in preset}
    assert {rule.signal for rule in RULES.values()} - {"mojibake"} <= {field.name for field in QUALITY}


WRONG = [
    ("utf-8", "gb18030"),
    ("utf-8", "cp1252"),
    ("utf-8", "latin-1"),
    ("gb18030", "cp1252"),
    ("gb18030", "utf-8"),
    ("gb18030", "cp950"),
    ("cp950", "gb18030"),
]


@pytest.mark.parametrize(("written", "read"), WRONG)
@pytest.mark.parametrize("preset", list(PRESETS))
def test_text_that_was_read_in_a_wrong_encoding_is_told_in_every_preset(written: str, read: str, preset: str):
    traditional = "今天的天氣很好，我們去公園。這是我在那裡的第一天。"
    right = traditional if written == "cp950" else "今天的天气很好，我们去公园。这是我在那里的第一天。"
    text = normalise(right.encode(written).decode(read, "replace"))
    assert "mojibake" in failed(text, "zh", preset=preset)
    assert "mojibake" not in failed(ZH, "zh", preset=preset)


@pytest.mark.parametrize(
    "text",
    [
        "Où est le café où Zoë a dit « déjà vu » à Müller ? Ça coûte 3 € l’été, naïve façade, Ångström, señor.",
        "锟斤拷 is what becomes of a replacement mark: " + EN * 40,
        "一个坏字节只留下一个替换符\ufffd，" + ZH,
        "α系数和Σ求和，ㄅㄆㄇㄈ是注音，﹝注﹞，日本語のひらがなとカタカナ。" * 9,
        "收藏\ue65e分享\ue600，下一篇\uf105 and \ue900 share：" * 9,
        "┌──┬──┐\n│甲│乙│\n└──┴──┘\n" * 9,
    ],
)
def test_other_scripts_and_a_few_marks_are_no_mojibake(text: str):
    assert "mojibake" not in failed(text, "zh")


@pytest.mark.parametrize("preset", list(PRESETS))
def test_a_block_gives_the_verdicts_that_its_documents_give_alone(preset: str):
    cfg = CleanConfig(preset=preset, languages=("zh", "en"))  # type: ignore[arg-type]
    texts = [ZH, EN, "", "。。。", ADVERT * 30, *(text for case in CASES for text in case[1:])]
    langs, _, quality = measure(pa.array(texts, pa.large_string()))
    expected = {}
    for row, (text, lang) in enumerate(zip(texts, langs, strict=True)):
        if first := next((v for v in judge(measure_text(text), lang, cfg) if not v.passed), None):
            expected[row] = first
    assert first_verdicts(quality, langs, cfg) == expected
    assert expected


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("a" * 10, True),
        ("a" * 9 + "... !!!", False),
        ("中文四字", True),
        ("三个字，。！！！", False),
        # Mostly Latin: the longer bound.
        ("中文 abcdef", False),
    ],
)
def test_length_is_counted_without_punctuation_and_by_script(text: str, kept: bool):
    assert ("short-document" not in failed(text, "zh", min_chars=10, min_chars_han=4)) == kept


def test_a_verdict_says_what_was_measured_and_what_was_asked_for():
    verdicts = {v.rule: v for v in judge(measure_text("太短了。"), "de", CleanConfig(languages=("zh", "en")))}
    assert [*verdicts] == ["no-content", "short-document", "language", "mojibake"]
    short, language = verdicts["short-document"], verdicts["language"]
    assert (short.value, short.threshold, short.passed) == ("3 content characters", "at least 70", False)
    assert (language.value, language.threshold, language.passed) == ("de", "zh, en", False)
    dup = {v.rule: v for v in judge(measure_text(ADVERT * 20), "zh", CleanConfig(preset="chinese"))}["gopher-dup-5gram"]
    assert (dup.threshold, dup.passed) == ("at most 0.198", False)
    assert float(dup.value) > 0.9


def test_a_text_without_content_is_removed_whatever_the_preset():
    assert failed("。。。 !!", "unknown", preset="none") == ["no-content"]
    assert failed("好", "zh", preset="none") == []


def test_a_threshold_replaces_or_joins_the_presets_for_all_or_for_chinese_alone():
    text = ADVERT * 20
    assert "gopher-dup-5gram" not in failed(text, "zh", preset="chinese", thresholds={"gopher-dup-5gram-han": 1})
    assert "gopher-dup-5gram" in failed(text, "zh", thresholds={"gopher-dup-5gram": 0.5})
    assert "gopher-dup-5gram" not in failed(EN * 2, "en", thresholds={"gopher-dup-5gram-han": 0.1})
    both = {"gopher-dup-5gram": 0.1, "gopher-dup-5gram-han": 1.0}
    assert "gopher-dup-5gram" in failed(EN * 2, "en", thresholds=both)
    assert "gopher-dup-5gram" not in failed(text, "zh", thresholds=both)


def test_a_threshold_of_no_rule_names_the_nearest():
    with pytest.raises(ConfigError, match="gopher-dup-5gram"):
        failed(ZH, "zh", thresholds={"gopher-dup-5grams": 0.1})


def test_a_signal_that_an_older_night_did_not_measure_is_passed_over():
    quality = dict.fromkeys((field.name for field in QUALITY), None) | {"content_chars": 300, "han_share": 0.0}
    assert [v.rule for v in judge(quality, "en", CleanConfig(preset="fineweb"))] == [
        "no-content",
        "short-document",
        "language",
    ]
