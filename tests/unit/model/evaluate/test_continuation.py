from __future__ import annotations

import numpy as np
import pytest
import torch

from slimpajama.core.config import ModelConfig, TokenizerConfig
from slimpajama.model.architectures import LanguageModel, build
from slimpajama.model.evaluate.score import score_continuations, score_ends, score_ids, score_text, split_pair
from slimpajama.text.tokenizer import SEPARATOR, Tokenizer, train_tokenizer

ROW = 32
PAIRS = [
    ("今天天气", "很好。"),
    ("The weather is", " fine today."),
    ("", "学习语言模型"),
    ("Answer: ", "weather"),
    ("今天学习", ""),
    # Both longer than a row.
    ("我们在北京学习语言模型，" * 6, "今天天气很好，数据也很好。" * 3),
    ("混合 mixed\x1f\0", "\U0001f600 text"),
]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    texts = ["今天 天气 很 好 。", "北京 的 天气", "学习 语言 模型", "自来水 来自 海上", "the weather is fine today"]
    return Tokenizer.load(train_tokenizer([t.replace(" ", SEPARATOR) for t in texts] * 9, TokenizerConfig()))


@pytest.fixture(scope="module", params=["tiny", "gpt", "article"])
def model(request: pytest.FixtureRequest, tokenizer: Tokenizer) -> LanguageModel:
    torch.manual_seed(0)
    made = build(ModelConfig(preset=request.param, row_tokens=ROW), tokenizer.vocab_size, seed=3)
    # Fresh weights predict the same for everything.
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.05)
    return made.eval()


def token_by_token(model: LanguageModel, tokenizer: Tokenizer, context: str, continuation: str):
    """The definition: each token alone, its context cut as `plan_windows` promises."""
    ids, first = split_pair(tokenizer, context, continuation)
    sequence = [tokenizer.document_id, *ids]
    total, greedy = 0.0, True
    for place in range(first + 1, len(sequence)):
        begin = 0 if place < ROW else (1 + (place - ROW) // (ROW // 2)) * (ROW // 2)
        _, (logits_V,) = model.start(torch.tensor([sequence[begin:place]]))
        total += float(logits_V.double().log_softmax(dim=0)[sequence[place]])
        greedy &= int(logits_V.argmax()) == sequence[place]
    return total, greedy


def test_likelihoods_are_those_of_the_tokens_taken_one_by_one(model: LanguageModel, tokenizer: Tokenizer):
    found = score_continuations(model, tokenizer, PAIRS)
    expected = [token_by_token(model, tokenizer, *pair) for pair in PAIRS]
    assert [value for value, _ in found] == pytest.approx([value for value, _ in expected], rel=1e-5)  # float32
    assert [greedy for _, greedy in found] == [greedy for _, greedy in expected]


def test_what_greedy_decoding_gives_is_greedy_and_nothing_else(model: LanguageModel, tokenizer: Tokenizer):
    context = tokenizer.encode("今天天气")
    ids = list(context)
    for _ in range(5):
        _, (logits_V,) = model.start(torch.tensor([[tokenizer.document_id, *ids]]))
        ids.append(int(logits_V.argmax()))
    other = [*ids[:-1], (ids[-1] + 1) % tokenizer.vocab_size]
    _, greedy_D = score_ends(model, [ids, other], [len(context)] * 2, tokenizer.document_id)
    assert greedy_D.tolist() == [True, False]


def test_context_and_continuation_add_up_to_the_whole_text(model: LanguageModel, tokenizer: Tokenizer):
    ids = [tokenizer.encode(context + continuation) for context, continuation in PAIRS]
    whole_D = score_ids(model, ids, tokenizer.document_id)
    for first in (0, 1, 40):
        ends_D, _ = score_ends(model, ids, [first] * len(ids), tokenizer.document_id)
        begins_D = np.array(
            [score_ids(model, [i[:first]], tokenizer.document_id)[0] if len(i) < ROW else np.nan for i in ids]
        )
        short_D = ~np.isnan(begins_D)
        assert short_D.sum() == len(ids) - 1
        assert (begins_D + ends_D)[short_D] == pytest.approx(whole_D[short_D], rel=1e-5)


def test_after_an_empty_context_the_whole_text_counts(model: LanguageModel, tokenizer: Tokenizer):
    for text in ["今天天气很好。", "the weather is fine today. " * 10]:
        ((value, _),) = score_continuations(model, tokenizer, [("", text)])
        assert value == pytest.approx(-score_text(model, tokenizer, text)["nll_nats"], rel=1e-6)


def test_pairs_score_the_same_alone_and_among_others(model: LanguageModel, tokenizer: Tokenizer):
    together = score_continuations(model, tokenizer, PAIRS)
    alone = [score_continuations(model, tokenizer, [pair])[0] for pair in PAIRS]
    assert [value for value, _ in together] == pytest.approx([value for value, _ in alone], rel=1e-5)


def test_the_continuation_begins_at_the_token_that_holds_its_first_byte(tokenizer: Tokenizer):
    ids, first = split_pair(tokenizer, "今天", "天气很好")
    assert tokenizer.decode(ids[:first]) == "今天"
    assert tokenizer.decode(ids[first:]) == "天气很好"


def test_white_space_that_ends_the_context_counts_with_the_continuation(tokenizer: Tokenizer):
    for context, continuation in [("the weather ", "is fine"), ("the weather", " is fine")]:
        ids, first = split_pair(tokenizer, context, continuation)
        assert tokenizer.decode(ids[first:]) == " is fine"


def test_a_word_that_crosses_the_border_belongs_to_the_continuation(tokenizer: Tokenizer):
    """The dictionary makes 自来水 one word, and the vocabulary one piece: counting the context's own tokens, as the
    harness's own adapters do, would leave bytes of the continuation unscored."""
    ids, first = split_pair(tokenizer, "自", "来水")
    assert tokenizer.decode(ids[first:]) == "自来水"
    assert first == 0 < len(tokenizer.encode("自"))
