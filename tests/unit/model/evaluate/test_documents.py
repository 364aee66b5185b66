from __future__ import annotations

import random
from typing import Any

from slimpajama.core.config import EvaluateConfig
from slimpajama.model.evaluate.documents import choose, cut_words, held_out_documents
from slimpajama.workspace.nights import Nights

INDEX = [(("zh", "en")[n % 2], f"{n:032x}", 100 + n) for n in range(100)]


def test_the_choice_does_not_depend_on_the_order_of_the_files():
    shuffled = random.Random(0).sample(INDEX, len(INDEX))
    assert choose(shuffled, 2000) == choose(INDEX, 2000)


def test_each_language_gets_its_budget_and_no_more_than_one_document_above_it():
    sizes = {id_: n_bytes for _, id_, n_bytes in INDEX}
    chosen = choose(INDEX, 4000)
    for lang in ("en", "zh"):
        total = [sizes[id_] for name, id_ in chosen if name == lang]
        assert 4000 <= sum(min(size, 200) for size in total) < 4200


def test_one_language_does_not_change_the_choice_in_another():
    only_zh = [row for row in INDEX if row[0] == "zh"]
    assert choose(only_zh, 1000) == [row for row in choose(INDEX, 1000) if row[0] == "zh"]


def test_a_huge_document_uses_up_a_twentieth_of_the_budget_only():
    huge = [("en", f"{n:032x}", 10**9) for n in range(50)]
    assert len(choose(huge, 1000)) == 20


def test_long_documents_are_cut_between_words():
    assert cut_words(["语言", "模型", "。"], 12) == ["语言", "模型"]
    assert cut_words(["语言", "模型"], 12) == ["语言", "模型"]
    assert cut_words(["x" * 50], 12) == ["x" * 50]
    assert cut_words([], 12) == []


def test_held_out_documents_come_from_the_test_split_of_every_night(workspace: Any):
    nights = {night: Nights(workspace.store).load(night) for night in workspace.nights}
    found = held_out_documents(workspace.store, nights, EvaluateConfig(max_mb_per_language=1.0))
    assert len(found) == 80
    assert {document.night for document in found} == set(workspace.nights)
    assert [document.lang for document in found] == ["en"] * 40 + ["zh"] * 40
    fewer = held_out_documents(workspace.store, nights, EvaluateConfig(max_mb_per_language=0.001))
    assert {document.id for document in fewer} < {document.id for document in found}
    assert all(document.n_bytes <= 50 for document in fewer)
