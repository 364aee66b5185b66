"""Gap questions: what is asked can be found, and nothing else is said of it."""

from collections import Counter

from slimpajama.corpus.demo.cloze import GAP, english_names, passages, questions

NEWS = (
    "The minister met Anna Berg in London on Monday. They spoke for an hour about the harbour and its future. "
    "Later Anna Berg told reporters that the harbour would stay open. J. Smith of London agreed with every word of it."
)


def asked(passage, lang="en", names=None):
    names = english_names(passage) if names is None else names
    return list(questions(passage, names, lang, Counter(set(names))))


def test_names_are_words_with_a_capital_inside_sentences():
    assert english_names(NEWS) == ("Anna Berg", "London")
    assert english_names("It rained, The Times said in May, and a Berg fell.") == ("The Times", "Berg")


def test_the_answer_stands_in_the_passage_and_the_sentence_does_not():
    found = asked(NEWS.replace("Later Anna", "Later that day Anna"))
    assert [(question, answer) for _, question, answer in found] == [
        (f"Later that day {GAP} told reporters that the harbour would stay open.", "Anna Berg"),
        (f"J. Smith of {GAP} agreed with every word of it.", "London"),
    ]
    for passage, question, answer in found:
        assert answer in passage
        assert question.replace(GAP, answer) not in passage


def test_a_name_that_stands_once_or_twice_in_the_sentence_is_not_asked_for():
    assert not asked("Only once did they see Anna Berg in all of these long years.")
    twice = "They told Berg that a Berg is a hill, and everybody laughed about it."
    assert not asked(f"He knew the Berg. {twice}")


def test_part_of_a_longer_name_is_not_asked_for():
    assert not asked("They all saw Anna in the garden. Later the reporters wrote down what Anna Berg had said.")


def test_the_rarest_name_is_asked_for_first():
    names, text = ("中国", "兰红光"), "兰红光在中国出生，长在海边的小城。兰红光多年以后又回到了中国的海边。"
    texts_with = Counter([*names, "中国"])
    assert next(questions(text, names, "zh", texts_with))[1:] == (f"{GAP}多年以后又回到了中国的海边。", "兰红光")


def test_chinese_headings_and_bylines_are_no_questions():
    text = "今天兰红光在海边的小城。\n（记者兰红光昨天在北京报道。）\n兰红光昨天在北京的公园里散步"
    assert not asked(text, "zh", ("兰红光",))


def test_passages_are_whole_lines_in_order():
    text = "one\n\ntwo\nthree\nfour is longer than all"
    assert list(passages(text, 9)) == ["one\ntwo", "three", "four is longer than all"]
