import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimpajama.config import TextConfig
from slimpajama.text.segment import Segmenter, engine_versions

ENGINES = ("rjieba", "jieba")
MIXED = st.text(st.sampled_from("我爱北京天安门龘𠀀々〇，。“”the fox's 12.5\n\t\r\u3000_-é\x1f\u0301한カ"), max_size=60)


@pytest.mark.parametrize("engine", ENGINES)
@given(text=st.text(max_size=80) | MIXED)
@settings(deadline=None)  # the first call loads the dictionary
def test_words_join_back_to_the_text(engine: str, text: str):
    assert "".join(Segmenter(TextConfig(engine=engine)).cut(text)) == text


@given(MIXED)
@settings(deadline=None)  # the first call loads the dictionary
def test_no_word_is_empty(text: str):
    assert all(Segmenter(TextConfig()).cut(text))


@pytest.mark.parametrize("engine", ENGINES)
def test_chinese_is_cut_by_the_dictionary_and_latin_words_keep_the_space_before_them(engine: str):
    words = Segmenter(TextConfig(engine=engine)).cut("我爱自然语言处理，the quick fox don't 12.5%。")
    assert words[:5] == ["我", "爱", "自然语言", "处理", "，"]
    assert words[5:] == ["the", " quick", " fox", " don't", " 12", ".", "5", "%。"]


def test_white_space_before_a_han_run_and_line_breaks_are_words_of_their_own():
    assert Segmenter(TextConfig()).cut("他 说\n\nYes  中国") == ["他", " ", "说", "\n", "\n", "Yes", "  ", "中国"]


def test_a_run_of_han_is_cut_the_same_wherever_it_stands():
    segmenter = Segmenter(TextConfig())
    alone = segmenter.cut("中华人民共和国成立了")
    assert segmenter.cut("中华人民共和国成立了，中华人民共和国成立了") == [*alone, "，", *alone]


def test_both_engines_agree_where_no_word_must_be_guessed():
    text = "国务院关于加强环境保护的决定：各级人民政府应当依照法律的规定，采取措施防治污染。"
    cut = [Segmenter(TextConfig(engine=engine, hmm=False)).cut(text) for engine in ("rjieba", "jieba")]
    assert cut[0] == cut[1]


def test_the_guessing_of_unknown_words_can_be_switched_off():
    text = "他来到了网易杭研大厦"
    assert "杭研" in Segmenter(TextConfig(hmm=True)).cut(text)
    assert "杭研" not in Segmenter(TextConfig(hmm=False)).cut(text)


def test_versions_change_with_every_setting_that_changes_words():
    settings = [
        TextConfig(),
        TextConfig(engine="jieba"),
        TextConfig(hmm=False),
        TextConfig(stop_words=("zh",)),
    ]
    found = [engine_versions(cfg) for cfg in settings]
    assert all(a != b for index, a in enumerate(found) for b in found[index + 1 :])
