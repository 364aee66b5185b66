import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from marked_pages import f1, marked_pages

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
    assert visible_text(page).split("\n") == ["标 题", "第一段，有空格", "a", "b", "1 2", "3", "tail", "甲", "乙"]


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


def large_page(element):
    """Return a page of 60,000 paragraphs in which 30 kinds of an element stand."""
    return "".join(f"<p>{element.format(n % 30)} 看 see" for n in range(60_000))


def test_a_large_page_in_which_formatting_is_closed_is_read():
    page = large_page("<code class='kind-{}'><span class=pre>说明 note</span></code>")
    assert visible_text(page).count("说明 note 看 see") == 60_000


@pytest.mark.parametrize(
    "element",
    [
        "<code class='kind-{}'><table></code></table>",
        "<code class='kind-{}'><!-- </code> -->",
        "<code class='kind-{}'>说明</code\x0b>",
        """<code class="kind-{}" title="></code>">""",
        """<code class=kind-{} x"y="></code>">""",
    ],
)
def test_a_large_page_in_which_formatting_may_stay_open_is_refused_before_it_is_parsed(element):
    with pytest.raises(TreeTooLargeError, match="90 to be open at once"):
        visible_text(large_page(element))


def test_a_long_flat_page_is_not_deep():
    assert visible_text("<ul>" + "<li>x" * 30_000).count("\n") == 29_999


@pytest.mark.parametrize(
    "hidden",
    [
        "<span style='display:none'>藏 no</span>",
        "<span style='DISPLAY : none !important; color:red'>藏 no</span>",
        "<div style='visibility: hidden'><p>藏 no</p></div>",
        "<font style='color:#fff;font-size:0px'>藏 no</font>",
        "<i style='width:0;height:0'>藏 no</i>",
        "<i style='height:0px;overflow:hidden'>藏 no</i>",
        "<i style='position:absolute;clip:rect(0 0 0 0)'>藏 no</i>",
        "<p hidden>藏 no</p>",
        "<p hidden=until-found>藏 no</p>",
        "<b aria-hidden='true'>藏 no</b>",
        "<font class='jammer'>藏 no</font>",
        "<span class='visually-hidden x'>藏 no</span>",
        "<span style='position:absolute;left:-9999px'>藏 no</span>",
        "<style>.q0{text-indent:-999em}</style><a class=q0>藏 no</a>",
        "<font style='OPACITY:0'>藏 no</font>",
        "<p style='font-size:1px'>藏 no</p>",
        "<div style='content-visibility:hidden'>藏 no</div>",
        "<dialog>藏 no</dialog><video>藏 no</video><datalist><option>藏 no</datalist>",
        "<style>.a, .q1 { display: none }</style><p class='b q1'>藏 no</p>",
        "<style>/* .x{} */ #q2 > span{visibility:hidden}</style><p id=q2><span>藏 no</span></p>",
        "<style>@media screen and (min-width:600px){.q3{display:none}}</style><p class=q3>藏 no</p>",
        "<style>.q4{display:block}</style><style>div.q4:not(.open){display:none}</style><div class=q4>藏 no</div>",
        "<style>.q5{display:none!important}</style><p class=q5 style='display:block'>藏 no</p>",
    ],
)
@pytest.mark.parametrize("main", [False, True])
def test_what_a_browser_does_not_show_is_no_text(hidden: str, main: bool):
    page = f"<body><p>一句看得见的话。</p>{hidden}<p>One that is seen.</p>"
    assert visible_text(page, main).split("\n") == ["一句看得见的话。", "One that is seen."]


@pytest.mark.parametrize(
    "shown",
    [
        "<p style='display:block'>看 see</p>",
        "<p aria-hidden=false>看 see</p>",
        "<style>.q{display:none}.q.on{display:block}</style><p class='q on'>看 see</p>",
        "<style>.q{display:none}</style><p class=q style='display:block'>看 see</p>",
        "<style>@media print{.q{display:none}}</style><p class=q>看 see</p>",
        "<style>@media (max-width:600px){.q{display:none}}</style><p class=q>看 see</p>",
        "<style>.q:hover,.q::before{display:none}</style><p class=q>看 see</p>",
        "<style>body{display:none}</style><p>看 see</p>",
        "<noscript><style>.q{display:none}</style></noscript><p class=q>看 see</p>",
        "<ul style='font-size:0'><li style='font-size:14px'>看 see</li></ul>",
        "<div style='visibility:hidden'><p style='visibility:visible'>看 see</p></div>",
        "<p style='height:0'>看 see</p>",
        # A slider, what a script fades in, an indented line, and a window that is open.
        "<div style='position:absolute;left:-1920px'>看 see</div>",
        "<div style='opacity:0'>看 see</div>",
        "<p style='text-indent:-2em;font-size:12px'>看 see</p>",
        "<dialog open>看 see</dialog>",
    ],
)
def test_what_a_later_or_stronger_style_shows_is_text(shown: str):
    assert visible_text(f"<body>{shown}") == "看 see"


def test_where_the_source_breaks_a_line_is_a_space_in_english_and_none_in_chinese():
    page = "<p>今天下\n  午，<b>\n天气</b>很好\nOK\n好 了</p><p>two\nlines</p><table><td>甲\n</td>\n<td>乙</td></table>"
    assert visible_text(page) == "今天下午，天气很好 OK 好 了\ntwo lines\n甲 乙"
    assert visible_text(f"<main>{page}</main>", main=True).split("\n")[:2] == [
        "今天下午，天气很好 OK 好 了",
        "two lines",
    ]


def test_the_content_of_marked_pages_is_found_in_both_languages():
    pages = list(marked_pages())
    assert len(pages) == 60
    for language in ("-zh-", "-en-"):
        chosen = [page for page in pages if language in page.name]
        found = [f1(visible_text(page.html, main=True), page.main) for page in chosen]
        whole = [f1(visible_text(page.html), page.main) for page in chosen]
        assert sum(found) / len(chosen) >= 0.95
        assert sum(whole) / len(chosen) < 0.8
        assert min(found) > 0.8


def test_a_page_whose_menu_is_all_of_it_keeps_its_text():
    page = "<body>" + "<ul>" + "".join(f"<li><a href={n}>页 {n}</a>" for n in range(9)) + "</ul>"
    assert "页 8" in visible_text(page, main=True)


@pytest.mark.parametrize(
    "page",
    [
        "<style>" + "/*" * 200_000,
        "<style>" + "a{" * 100_000 + "}" * 100_000,
        "<style>" + "a" * 400_000,
        "<style>" + "a " * 200_000 + "{display:none}</style><p>x",
        "<p style='" + "display:none;" * 50_000 + "'>x",
        "<p>" + "回复上一主题" * 50_000,
        "<!--" + "<pre " * 4_000,
    ],
)
def test_hostile_styles_take_no_time(page: str):
    began = time.process_time()
    visible_text(page, main=True)
    assert time.process_time() - began < 5


def test_more_selectors_than_are_matched_in_seconds_are_refused():
    with pytest.raises(TreeTooLargeError, match="60000 selectors of style"):
        visible_text("<style>" + ".a{display:none}" * 60_000 + "</style>" + "<p class=a>x" * 2000)


@given(st.lists(st.sampled_from(PIECES), max_size=60).map(" ".join) | st.text(max_size=80))
def test_no_page_breaks_the_reader(page: str):
    text = visible_text(page)
    assert not any(line != line.strip(" ") or not line for line in text.split("\n") if text)
