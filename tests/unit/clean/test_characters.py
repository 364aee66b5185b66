import unicodedata

from hypothesis import given, settings
from hypothesis import strategies as st

from slimpajama.clean.characters import count_characters


@given(st.text(max_size=80))
@settings(deadline=None)  # the first call builds the table
def test_content_is_what_is_neither_punctuation_symbol_space_nor_control_by_category(text: str):
    expected = sum(unicodedata.category(char)[0] not in "PSZC" for char in text)
    assert count_characters(text).content == expected


def test_chinese_punctuation_counts_no_more_than_english():
    assert count_characters("你好，世界！“好”").content == count_characters("你好世界好").content == 5
    assert count_characters("Hello, world!").content == 10


def test_ideographs_of_every_block_are_counted_and_kana_and_hangul_apart():
    counted = count_characters("中㐀𠀀﨑々〇 ひカ한 abc")
    assert (counted.han, counted.kana, counted.content) == (6, 3, 12)


def test_the_share_of_ideographs_in_nothing_is_zero():
    assert count_characters("").han_share == count_characters("，。 ").han_share == 0.0
    assert count_characters("中文ab").han_share == 0.5
