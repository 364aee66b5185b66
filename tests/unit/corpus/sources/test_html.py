import pytest
from hypothesis import given
from hypothesis import strategies as st

from slimpajama.corpus.sources.html import TreeTooLargeError, visible_text

PIECES = [
    *(
        "<p>",
        "</p>",
        "<div>",
        "</div>",
        "<b>",
        "</b>",
        "<pre>",
        "</pre>",
        "<table><tr><td>",
        "</td></tr></table>",
        "<br>",
    ),
    *("<li>", "<a href=x>", "</a>", "中文", "text", "\n", "&lt;", "<!--", "-->", "<template>", "<script>", "</script>"),
    *("<", ">", "<svg>", "</svg>", "<title>", "</title>", "<select><option>", "<frameset>", "<html hidden>", "\x1e"),
]


def test_the_title_comes_first_and_every_block_is_a_line():
    page = (
        "<html><head><title>标 题</title><style>p{}</style></head><body><p>第一<b>段</b>，有\n 空格</p><div>a<br>b"
        "<table><tr><td>1</td><td>2</td></tr><tr><td>3</td></tr></table></div>tail<script>var x;</script>"
        "<ul><li>甲<li>乙</ul><p hidden>no</p></body></html>"
    )
    assert visible_text(page).split("\n") == ["标 题", "第一段，有 空格", "a", "b", "1 2", "3", "tail", "甲", "乙"]


def test_inline_tags_do_not_cut_chinese_words():
    assert visible_text("<p>自<em>然</em>语<span>言</span></p>") == "自然语言"


def test_preformatted_text_keeps_its_lines_and_other_text_does_not():
    assert visible_text("<pre>a\nb</pre>c\nd") == "a\nb\nc d"


def test_a_title_that_the_page_repeats_is_not_doubled():
    assert visible_text("<title>T</title><h1>T</h1><p>x") == "T\nx"


def test_entities_are_characters():
    assert visible_text("<p>1 &lt; 2 &amp; &#20013;&hellip;") == "1 < 2 & 中…"


def test_a_control_character_that_the_reader_uses_itself_breaks_no_line():
    assert visible_text("<title>题&#30;目\x1e</title><p>一&#x1e;二 on\x1ee") == "题目\n一二 one"


@pytest.mark.parametrize("page", ["", "   ", "<script>x</script>", "<!-- only -->"])
def test_a_page_without_visible_text_is_empty(page: str):
    assert visible_text(page) == ""


def test_hundred_thousand_open_tags_are_refused_at_once():
    with pytest.raises(TreeTooLargeError, match="100000 tags, 100000 deep"):
        visible_text("<div>" * 100_000)


def test_a_long_flat_page_is_not_deep():
    assert visible_text("<ul>" + "<li>x" * 30_000).count("\n") == 29_999


@given(st.lists(st.sampled_from(PIECES), max_size=60).map(" ".join) | st.text(max_size=80))
def test_no_page_breaks_the_reader(page: str):
    text = visible_text(page)
    assert not any(line != line.strip(" ") or not line for line in text.split("\n") if text)
