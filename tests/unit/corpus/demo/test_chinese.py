from slimpajama.corpus.demo.chinese import articles, headline, names, paragraphs, reviews


def test_tagged_words_become_plain_paragraphs():
    tagged = "同胞/n  们/k  ：/w\n\n１９９８年/t  1/2/m  ，/w  [中央/n  电台/n]nt\n"
    assert list(paragraphs(tagged))[:1] == ["同胞们："]
    assert list(paragraphs("价格/n  1/2/m  。/w")) == ["价格1/2。"]


def test_an_article_begins_at_a_headline_after_text():
    lines = [
        "省长的问候",
        "本报记者阎晓明",
        "最后一个下午，省长带着慰问品去看望困难企业。",
        "（附图片１张）",
        "春天的故事",
        "春天来了，花开了。",
        "本报讯昨天，一座大桥通车。",
    ]
    assert [article.split("\n")[0] for article in articles(lines)] == [
        "省长的问候",
        "春天的故事",
        "本报讯昨天，一座大桥通车。",
    ]
    assert "\n".join(articles(lines)) == "\n".join(lines)


def test_the_lines_of_a_poem_stay_together():
    lines = ["布老虎", "勇敢的灵魂", "烈烈雄风中", "那是他们的脚步"]
    assert list(articles(lines)) == ["\n".join(lines)]


def test_reviews_are_one_a_line_and_repeated_ones_stay():
    assert list(reviews("\ufeff很好\r\n\n 不错 \n很好\n")) == ["很好", "不错", "很好"]


def test_a_headline_is_one_line_above_a_clause():
    text = "今天上午，省长带着慰问品去看望困难企业的职工，询问他们的生活情况，并且祝他们新年好。"
    assert headline(f"省长的问候\n{text}\n完。") == ("省长的问候", f"{text}\n完。")
    for article in (f"本报记者江玉\n{text}", f"图片（附图片）\n{text}", f"问候\n阎晓明\n{text}", text, "省长的问候"):
        assert headline(article) is None


def test_names_of_a_line_are_known_by_its_text():
    line = "江/nr  泽民/nr  在/p  北京/ns  会见/v  记者/n  ，/w  北京/ns  人/n  沪/j"
    assert names(f"{line}\n\n今天/t") == {"江泽民在北京会见记者，北京人沪": ("江泽民", "北京"), "": (), "今天": ()}
