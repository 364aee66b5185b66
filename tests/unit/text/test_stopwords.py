import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from slimpajama.core.config import TextConfig
from slimpajama.text import stopwords
from slimpajama.text.stopwords import stop_words

CFG = TextConfig()


def content_flags(words: list[str], cfg: TextConfig) -> list[bool]:
    return list(stopwords.content_flags(pa.array(words, pa.string()), cfg))


def test_function_words_of_both_languages_carry_no_content():
    words = ["我们", "的", "因为", "the", " The", " AND", " don't", " don’t"]
    assert content_flags(words, CFG) == [False] * len(words)


def test_nouns_verbs_and_numbers_of_both_languages_carry_content():
    words = ["北京", "学习", "数据库", " compiler", "Beijing", " 1998", "龘", "é"]
    assert content_flags(words, CFG) == [True] * len(words)


@given(st.text(st.characters(categories=["P", "S", "Z", "Cc"]), max_size=5))
def test_punctuation_symbols_and_white_space_carry_no_content(word: str):
    assert content_flags([word], CFG) == [False]


@given(st.lists(st.text(max_size=4), max_size=30))
def test_there_is_one_flag_a_word_and_it_depends_on_the_word_alone(words: list[str]):
    assert content_flags(words, CFG) == [content_flags([word], CFG)[0] for word in words]


def test_a_language_that_is_not_chosen_keeps_its_function_words():
    assert content_flags([" the", "的"], TextConfig(stop_words=("zh",))) == [True, False]
    assert content_flags([" the", "的"], TextConfig(stop_words=())) == [True, True]


def test_the_lists_are_there_in_full():
    assert len(stop_words(("zh",))) > 700
    assert len(stop_words(("en",))) > 1000
