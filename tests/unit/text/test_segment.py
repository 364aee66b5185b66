import copy
import re

import jieba
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimpajama.core.config import TextConfig
from slimpajama.text import segment
from slimpajama.text.dictionary import UserWord
from slimpajama.text.segment import Segmenter, engine_versions, parse_user_dictionary
from tests.unit.words_by_rule import by_rule

MIXED = st.text(
    st.sampled_from("我爱北京天安门龘𠀀々〇⼤⻓⺀，。“”the fox's 12.5\n\t\r\u3000_-é\x1f\u0301한カ"), max_size=60
)


@given(text=st.text(max_size=80) | MIXED)
def test_words_join_back_to_the_text(text: str):
    assert "".join(Segmenter(TextConfig()).cut(text)) == text


@given(MIXED)
def test_no_word_is_empty(text: str):
    assert all(Segmenter(TextConfig()).cut(text))


def test_chinese_is_cut_by_the_dictionary_and_latin_words_keep_the_space_before_them():
    words = Segmenter(TextConfig()).cut("我爱自然语言处理，the quick fox don't 12.5%。")
    assert words[:5] == ["我", "爱", "自然语言", "处理", "，"]
    assert words[5:] == ["the", " quick", " fox", " don't", " 12", ".", "5", "%。"]


def test_white_space_before_a_han_run_and_line_breaks_are_words_of_their_own():
    assert Segmenter(TextConfig()).cut("他 说\n\nYes  中国") == ["他", " ", "说", "\n", "\n", "Yes", "  ", "中国"]


def test_a_run_of_han_is_cut_the_same_wherever_it_stands():
    segmenter = Segmenter(TextConfig())
    alone = segmenter.cut("中华人民共和国成立了")
    assert segmenter.cut("中华人民共和国成立了，中华人民共和国成立了") == [*alone, "，", *alone]


@pytest.mark.parametrize(
    ("text", "radicals"),
    [
        ("我在大学里学习自然语言处理。一切都好", "我在⼤学⾥学习⾃然语⾔处理。⼀切都好"),
        ("长大后见到龙门，很高兴", "⻓⼤后⻅到⻰⻔，很⾼兴"),
    ],
)
def test_radicals_are_cut_as_the_ideographs_that_they_stand_for(text: str, radicals: str):
    words = Segmenter(TextConfig()).cut(radicals)
    assert "".join(words) == radicals
    assert list(map(len, words)) == list(map(len, Segmenter(TextConfig()).cut(text)))


def test_the_engine_rjieba_of_old_models_is_the_kernel_and_a_line_says_so(caplog):
    caplog.set_level("INFO", logger="slimpajama")
    segment._note_engine.cache_clear()
    old = TextConfig(engine="rjieba")
    assert Segmenter(old).cut("他来到了网易杭研大厦") == Segmenter(TextConfig()).cut("他来到了网易杭研大厦")
    assert engine_versions(old) == engine_versions(TextConfig())
    assert [record.getMessage() for record in caplog.records if "rjieba is now" in record.getMessage()] == [
        "text.engine: rjieba is now the compiled kernel, jieba, which gives the same words"
    ]


def test_the_guessing_of_unknown_words_can_be_switched_off():
    text = "他来到了网易杭研大厦"
    assert "杭研" in Segmenter(TextConfig(hmm=True)).cut(text)
    assert "杭研" not in Segmenter(TextConfig(hmm=False)).cut(text)


def test_versions_change_with_every_setting_that_changes_words():
    settings = [TextConfig(), TextConfig(hmm=False), TextConfig(stop_words=("zh",))]
    found = [engine_versions(cfg) for cfg in settings]
    assert all(a != b for index, a in enumerate(found) for b in found[index + 1 :])


def test_versions_change_with_the_user_dictionary():
    words = parse_user_dictionary("网易杭研 20\n".encode())[0]
    assert engine_versions(TextConfig(), words) != engine_versions(TextConfig())
    assert engine_versions(TextConfig(), words) != engine_versions(TextConfig(), [UserWord("网易杭研", 21)])


@pytest.fixture(scope="module")
def package():
    """The package jieba itself, on a dictionary that nobody else can change."""
    tokenizer = jieba.Tokenizer()
    tokenizer.FREQ, tokenizer.total = tokenizer.gen_pfdict(tokenizer.get_dict_file())
    tokenizer.initialized = True
    return tokenizer


# Dictionary words and their beginnings, names that the Markov model guesses, rare and foreign ideographs.
CHINESE = st.lists(
    st.sampled_from(
        "中华 人民 共和国 南京市 市长 长江 大桥 江大桥 杭研 李小福 云计算 的 了 在 一 龘 〇 々 㐀 𠀀 豈 鿐".split()
    )
    | st.text(st.characters(min_codepoint=0x4E00, max_codepoint=0x9FFF), max_size=4)
    | st.sampled_from(["，", "a", " ", "\n", "1", "'"]),
    max_size=14,
).map("".join)


@pytest.mark.parametrize("hmm", [True, False])
@given(text=st.text(max_size=40) | MIXED | CHINESE | st.text("aé1 -'\u3000カ中😀", min_size=30, max_size=200))
@settings(max_examples=300)
def test_the_kernel_cuts_as_the_package_jieba_does(package, hmm: bool, text: str):
    expected = by_rule(text, lambda han, guess: list(package.cut(han, HMM=guess)), hmm)
    assert Segmenter(TextConfig(hmm=hmm)).cut(text) == expected


@pytest.mark.parametrize(
    "run", ["a" * 200, "-" * 65, "é" * 64 + "a", "1" * 64, " " * 130, "カ" * 40, "a'" * 70, "😀" * 17]
)
def test_no_word_is_longer_than_64_bytes(run: str):
    text = f"中文 {run}中文\n{run} x"
    words = Segmenter(TextConfig()).cut(text)
    assert "".join(words) == text
    assert 60 < max(len(word.encode()) for word in words) <= 64


@given(texts=st.lists(MIXED | CHINESE, max_size=5))
def test_a_block_of_documents_is_cut_as_each_of_them(texts: list[str]):
    segmenter = Segmenter(TextConfig())
    # A view into a longer array.
    padded = pa.array(["前面", *texts, "后面"], pa.large_string()).slice(1, len(texts))
    expected = [bytes(len(word.encode()) for word in segmenter.cut(text)) for text in texts]
    assert segmenter.lengths(padded).to_pylist() == expected


def test_a_long_run_without_punctuation_is_cut_as_a_whole(package):
    text = "南京市长江大桥来到了网易杭研大厦" * 500
    assert Segmenter(TextConfig()).cut(text) == list(package.cut(text))


@pytest.mark.parametrize("line", ["网易杭研 99999 nz", "网易杭研", "网易杭研 nz"])
def test_a_user_dictionary_adds_its_words(line: str):
    words = parse_user_dictionary(f"\ufeff{line}\r\n\n长江大桥来到\n".encode())[0]
    assert "网易杭研" not in Segmenter(TextConfig()).cut("来到了网易杭研大厦")
    cut = Segmenter(TextConfig(), words).cut("长江大桥来到网易杭研大厦")
    assert cut == ["长江大桥来到", "网易杭研", "大厦"]


def test_a_word_without_a_count_is_weighed_as_jieba_does(package):
    words = parse_user_dictionary("网易杭研\n自然语言处理".encode())[0]
    tokenizer = copy.copy(package)
    tokenizer.FREQ = dict(package.FREQ)
    for word in words:
        tokenizer.add_word(word.word, package.suggest_freq(word.word))
    text = "自然语言处理的人来到了网易杭研大厦，自然而然"
    assert Segmenter(TextConfig(), words).cut(text) == by_rule(text, lambda h, _: list(tokenizer.cut(h)), True)


MIXED_WORDS = sorted(
    line.split(" ")[0]
    for line in jieba.Tokenizer().get_dict_file().read().decode().splitlines()
    if not re.fullmatch("[\u4e00-\u9fd5]+", line.split(" ")[0])
)


@pytest.mark.parametrize("hmm", [True, False])
def test_words_of_the_dictionary_that_mix_scripts_are_cut_as_the_package_cuts_them(package, hmm: bool):
    assert {"B超", "U盘", "T恤", "C++"} < set(MIXED_WORDS)
    segmenter = Segmenter(TextConfig(hmm=hmm))
    for word in MIXED_WORDS:
        for sentence in (
            f"我买了{word}回家",
            f"{word}坏了，他的{word}。",
            f"强大{word}在第3{word}里，64G{word}",
            f"唱卡拉OK、{word}{word}",
            f"学 {word} 吧",
        ):
            # Letters and signs between are cut by our rule, with the space before them.
            expected = by_rule(sentence, lambda text, guess: list(package.cut(text, HMM=guess)), hmm)
            assert segmenter.cut(sentence) == expected
        alone = list(package.cut(f"我买了{word}回家", HMM=hmm))
        assert segmenter.cut(f"我买了{word}回家") == alone


@given(
    text=st.lists(
        st.sampled_from([*MIXED_WORDS, "大", "小", "江南", "在", "的", "市长", "a", "C", "+", "#", " ", "é", "超"])
    ).map("".join),
    hmm=st.booleans(),
)
@settings(max_examples=300)
def test_words_that_mix_are_cut_as_the_package_does_in_any_neighbourhood(package, text: str, hmm: bool):
    expected = by_rule(text, lambda piece, guess: list(package.cut(piece, HMM=guess)), hmm)
    assert Segmenter(TextConfig(hmm=hmm)).cut(text) == expected


def test_a_long_text_with_words_that_mix_is_cut_as_a_whole(package):
    text = "我的U盘和C++语言的书abc" * 300
    expected = by_rule(text, lambda piece, guess: list(package.cut(piece, HMM=guess)), True)
    assert Segmenter(TextConfig()).cut(text) == expected
    assert expected.count("U盘") == expected.count("C++") == 300


@pytest.mark.parametrize(
    ("lines", "text", "words"),
    [
        ("C++17 3", "我学C++17，and C++17!", ["我", "学", "C++17", "，", "and", " ", "C++17", "!"]),
        ("卡拉OK 5 n", "唱卡拉OK吧", ["唱", "卡拉OK", "吧"]),
        ("Machine Learning", "use Machine Learning now", ["use", " ", "Machine Learning", " now"]),
        ("机器 学习 9 n", "做机器 学习吗", ["做", "机器 学习", "吗"]),
        ("iPhone 15 9 n\n苹果手机", "买iPhone 15和苹果手机", ["买", "iPhone 15", "和", "苹果手机"]),
        ("カラオケ店\n佐々木", "在カラオケ店见佐々木", ["在", "カラオケ店", "见", "佐々木"]),
        ("词典,3", "看词典,3呢", ["看", "词典,3", "呢"]),
        ("😀笑", "他😀笑了", ["他", "😀笑", "了"]),
        ("U盘 0", "买U盘", ["买", "U", "盘"]),
    ],
)
def test_a_user_dictionary_may_hold_any_word(lines: str, text: str, words: list[str]):
    user_words, refused = parse_user_dictionary(lines.encode())
    assert refused == ()
    assert Segmenter(TextConfig(hmm=False), user_words).cut(text) == words


def test_a_word_without_a_count_that_mixes_is_weighed_as_the_package_does(package):
    names = ["卡拉OK", "iPhone手机", "C++语言", "小S", "T恤衫店"]
    user_words, _ = parse_user_dictionary("\n".join(names).encode())
    tokenizer = copy.copy(package)
    tokenizer.FREQ = dict(package.FREQ)
    for name in names:
        tokenizer.add_word(name, package.suggest_freq(name))
    text = "他在T恤衫店用iPhone手机唱卡拉OK学C++语言，小S也在"
    assert Segmenter(TextConfig(), user_words).cut(text) == list(tokenizer.cut(text))


@pytest.mark.parametrize("line", [b"\xff\xfe 3", "词 1234567890 n".encode(), "长".encode() * 22, b"a\x1fb"])
def test_a_line_that_is_no_dictionary_entry_costs_that_line(line: bytes):
    words, refused = parse_user_dictionary("好词 3\n".encode() + line + "\n\n云计算".encode())
    assert [word.word for word in words] == ["好词", "云计算"]
    assert refused == (2,)


def test_a_large_user_dictionary_fits():
    words, refused = parse_user_dictionary("".join(f"词{n:x}号\n" for n in range(300_000)).encode())
    assert len(words) == 300_000
    assert not refused
    assert Segmenter(TextConfig(), words).cut("第词4e20号") == ["第", "词4e20号"]
