"""A tuning's report: figures for people, and texts that no renderer takes for anything else."""

from slimpajama.tune.markdown import render

HOSTILE = "<script>alert(1)</script> | a\n# b [x](javascript:y) 中文"


def report():
    chrf = {"chrf": 21.24, "interval": [20, 22.5], "n": 1200, "copied": 3.2, "length": 1.1}
    asked = {"source": "x" * 999, "question": "谁？", "reference": "甲", "output": "乙"}
    scores = {
        "tasks": {"translation": {"zh": chrf}},
        "samples": [{"source": HOSTILE, "question": "", "reference": HOSTILE, "output": HOSTILE}, asked],
    }
    return {"model": "m", "scores": scores, "decisions": {"translation": {"reason": HOSTILE, "promote": True}}}


def test_figures_stand_in_tables():
    text = render(report())
    assert "| translation | zh | chrf 21.2 | 20.0 to 22.5 | 1,200 | 3 % | 1.10 |" in text


def test_no_text_of_a_corpus_is_markup():
    text = render(report())
    assert "<script" not in text
    assert "](javascript" not in text
    assert text.count("<td>") == 6
    assert "中文" in text
    assert "谁？ … xxx" in text
    assert "x" * 400 not in text
