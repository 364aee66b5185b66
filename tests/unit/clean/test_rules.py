import pytest

from slimpajama.clean.characters import Characters, count_characters
from slimpajama.clean.rules import first_verdict, not_a_wanted_language, too_short
from slimpajama.config import CleanConfig

CFG = CleanConfig(min_chars=10, min_chars_han=4)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("a" * 10, True),
        ("a" * 9 + "... !!!", False),
        ("中文四字", True),
        ("三个字，。！！！", False),
        ("中文 abcdef", False),  # mostly Latin: the longer bound
    ],
)
def test_length_is_counted_without_punctuation_and_by_script(text: str, kept: bool):
    assert (too_short(count_characters(text), CFG) is None) == kept


def test_a_verdict_says_what_was_measured_and_what_was_asked_for():
    verdict = too_short(Characters(content=9, han=0, kana=0), CFG)
    assert verdict is not None
    assert (verdict.rule, verdict.value, verdict.threshold) == ("short-document", "9 content characters", "at least 10")


def test_the_defaults_are_those_of_slimpajama_for_english_and_less_for_chinese():
    defaults = CleanConfig()
    assert too_short(Characters(199, 0, 0), defaults) is not None
    assert too_short(Characters(200, 0, 0), defaults) is None
    assert too_short(Characters(70, 70, 0), defaults) is None
    assert too_short(Characters(69, 69, 0), defaults) is not None


def test_a_language_off_the_list_is_removed():
    verdict = not_a_wanted_language("de", CleanConfig(languages=("zh", "en")))
    assert verdict is not None
    assert (verdict.value, verdict.threshold) == ("de", "zh, en")
    assert not_a_wanted_language("zh", CleanConfig(languages=("zh", "en"))) is None


def test_a_text_without_content_is_removed_even_where_no_length_is_asked_for():
    cfg = CleanConfig(min_chars=0, min_chars_han=0)
    verdict = first_verdict(count_characters("。。。 !!"), "unknown", cfg)
    assert verdict is not None
    assert verdict.rule == "no-content"
    assert first_verdict(count_characters("好"), "zh", cfg) is None
