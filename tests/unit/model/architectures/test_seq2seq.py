"""The tuned model: what it may see, that caches and padding change nothing, and that it can copy."""

from types import SimpleNamespace

import pytest
import torch

from slimpajama.core.config import ApplyConfig, ModelConfig
from slimpajama.model.architectures import Optimiser, build
from slimpajama.model.architectures.seq2seq import NO_QUOTE, PairModel
from slimpajama.model.generate.beam import beam_search

V, END = 300, 0


def model(seed=0, **settings):
    base = build(ModelConfig(preset="tiny", row_tokens=32, **settings), V, seed)
    pair = PairModel(base, ("copy", "other"), END, torch.Generator().manual_seed(seed + 1))
    generator = torch.Generator().manual_seed(seed + 2)
    # Output projections start at zero, and a test over zeros would see nothing.
    with torch.no_grad():
        for parameter in pair.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return pair.eval()


def ids(*shape, seed=0):
    return torch.randint(1, V, shape, generator=torch.Generator().manual_seed(seed))


def kinds(n):
    return torch.arange(n) % 2


@pytest.mark.parametrize("length", [32, 96])
def test_no_score_looks_ahead(length):
    """Replacing tokens from t on must not change the scores up to t; and the source must change all of them."""
    pair, target = model(), ids(2, 16)
    memory = pair.remember(ids(2, length, seed=1), kinds(2))
    before = pair.nll(memory, target, kinds(2))
    for t in range(1, 16):
        changed = target.clone()
        changed[:, t:] = ids(2, 16 - t, seed=t + 5)
        assert torch.equal(pair.nll(memory, changed, kinds(2))[:, :t], before[:, :t])
    other = pair.nll(pair.remember(ids(2, length, seed=2), kinds(2)), target, kinds(2))
    assert (other != before).all()


def test_the_task_and_every_window_of_the_source_are_read():
    pair, source, target = model(), ids(1, 96), ids(1, 8)
    before = pair.nll(pair.remember(source, torch.tensor([0])), target, torch.tensor([0]))
    assert (pair.nll(pair.remember(source, torch.tensor([1])), target, torch.tensor([1])) != before).all()
    for place in (0, 40, 95):
        changed = source.clone()
        changed[0, place] = source[0, place] % (V - 1) + 1
        assert (pair.nll(pair.remember(changed, torch.tensor([0])), target, torch.tensor([0])) != before).any()


@pytest.mark.parametrize("settings", [{}, {"latent_width": 24, "latent_levels": 16}])
def test_writing_token_by_token_gives_the_likelihoods_of_the_whole(settings):
    pair, target = model(**settings), ids(3, 12)
    memory = pair.remember(ids(3, 64, seed=1), kinds(3))
    expected = pair.nll(memory, target, kinds(3))
    state, scores_BV = pair.start(memory, kinds(3))
    for t in range(12):
        found = -scores_BV.gather(1, target[:, t : t + 1])[:, 0]
        torch.testing.assert_close(found, expected[:, t], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(scores_BV.exp().sum(dim=1), torch.ones(3), rtol=1e-4, atol=1e-4)
        scores_BV = pair.step(state, target[:, t])


def test_states_follow_their_rows():
    pair, target = model(), ids(2, 6)
    state, _ = pair.start(pair.remember(ids(2, 32, seed=1), kinds(2)), kinds(2))
    for t in range(5):
        pair.step(state, target[:, t])
    swapped = state.take(torch.tensor([1, 0, 1]))
    expected = pair.step(state, target[:, 5])
    found = pair.step(swapped, target[[1, 0, 1], 5])
    torch.testing.assert_close(found, expected[[1, 0, 1]], rtol=1e-4, atol=1e-4)


def test_what_is_behind_a_sources_end_is_not_read():
    pair, source, target = model(), ids(1, 40), ids(1, 8)
    padded = torch.nn.functional.pad(source, (0, 24), value=V)
    longer = torch.nn.functional.pad(source, (0, 56), value=V)
    torch.testing.assert_close(
        pair.nll(pair.remember(padded, kinds(1)), target, kinds(1)),
        pair.nll(pair.remember(longer, kinds(1)), target, kinds(1)),
    )


def test_a_target_behind_its_end_costs_nothing():
    pair, source = model(), ids(2, 32)
    short, long = torch.full((2, 8), V), torch.full((2, 12), V)
    short[:, :6] = long[:, :6] = ids(2, 6, seed=3)
    with torch.no_grad():
        losses = [pair(source, target, kinds(2), torch.full((2, 2), NO_QUOTE))["total"] for target in (short, long)]
    torch.testing.assert_close(*losses)


def test_the_champion_is_not_trained_and_the_decoder_begins_as_its_copy():
    pair, base = model(), build(ModelConfig(preset="tiny", row_tokens=32), V, 5)
    pair.adopt(base)
    assert not any(parameter.requires_grad for parameter in pair.base.parameters())
    assert all(parameter.requires_grad for parameter in pair.decoder.parameters())
    for name, tensor in base.state_dict().items():
        assert torch.equal(pair.base.state_dict()[name], tensor)
        if name.startswith("decoder."):
            assert torch.equal(pair.state_dict()[name], tensor)


def learned(batch, steps, decay, seed=0):
    """Return a model that has learnt from what `batch` makes of a number, a step each; the rate falls over `decay`."""
    base = build(ModelConfig(preset="tiny", row_tokens=32), V, seed)
    pair = PairModel(base, ("copy",), END, torch.Generator().manual_seed(seed + 1))
    optimiser = Optimiser(pair, 0.5)
    for step in range(steps):
        loss = pair(*batch(100_000 * (seed + 1) + step))["total"]
        grads = torch.autograd.grad(loss, list(optimiser.parameters.values()), materialize_grads=True)
        for parameter, grad in zip(optimiser.parameters.values(), grads, strict=True):
            parameter.grad = grad
        optimiser.step(min(1.0, (steps - step) / decay))
    return pair.eval()


def nats_of_copies(seed=0):
    """Return the nats a token that copies out of unseen sources cost a model that has learnt to copy."""

    def batch(number):
        source = ids(16, 32, seed=number)
        start = torch.randint(0, 24, (16, 1), generator=torch.Generator().manual_seed(number))
        target = source.gather(1, start + torch.arange(8))
        return source, target, torch.zeros(16, dtype=torch.long), torch.full((16, 2), NO_QUOTE)

    pair = learned(batch, steps=200, decay=100, seed=seed)
    source, kind = ids(32, 32, seed=10_000), torch.zeros(32, dtype=torch.long)
    # The first token may be any of the source's.
    return float(pair.nll(pair.remember(source, kind), source[:, 5:13], kind)[:, 1:].detach().mean())


def test_it_learns_to_copy_what_it_has_never_seen():
    """Sources of random tokens: only looking at them can tell the target. Chance is 5.7; seen were 0.03 to 0.05."""
    assert nats_of_copies() < 1.0


@torch.no_grad()
def every_target(pair, memory, most):
    """Return score and tokens of every target of at most `most` tokens before its end, by the whole likelihood."""
    found = []
    frontier = [((), 0.0)]
    for length in range(1, most + 2):
        longer = []
        for tokens, total in frontier:
            state, scores = pair.start(memory, torch.tensor([0]))
            for token in tokens:
                scores = pair.step(state, torch.tensor([token]))
            found.append(((total + float(scores[0, END])) / length, tokens))
            longer += [((*tokens, t), total + float(scores[0, t])) for t in range(V) if t != END]
        frontier = longer
    return found


def test_enough_beams_find_the_best_target_there_is():
    pair = model()
    memory = pair.remember(ids(1, 16), kinds(1))
    best = max(every_target(pair, memory, 1))
    # More beams than a configuration may ask for.
    every = SimpleNamespace(beams=V, length_penalty=1.0, no_repeat=0)
    found = beam_search(pair, memory, 0, every, least=0, most=1)
    assert found[0].tokens == list(best[1])
    assert found[0].score == pytest.approx(best[0], rel=1e-4)


def test_length_and_repetition_are_under_control():
    pair = model()
    memory = pair.remember(ids(1, 16), kinds(1))
    for least, most in ((1, 20), (9, 20), (20, 20)):
        found = beam_search(pair, memory, 0, ApplyConfig(beams=3, no_repeat=2), least=least, most=most)
        for one in found:
            assert END not in one.tokens
            assert least <= len(one.tokens) <= most
            pairs = list(zip(one.tokens, one.tokens[1:], strict=False))
            assert len(pairs) == len(set(pairs))


def with_question(n, question=6, passage=26, seed=0):
    """Rows of a question, its end, and a passage."""
    source = ids(n, question + passage, seed=seed)
    source[:, question] = END
    return source


def test_a_quote_lies_in_the_passage_alone():
    pair = model()
    source = with_question(2)
    source[:, 28:] = V
    quote = pair.remember(source, kinds(2)).quote_B2S
    assert torch.isfinite(quote[:, :, 7:28]).all()
    assert torch.isinf(quote[:, :, :7]).all()
    assert torch.isinf(quote[:, :, 28:]).all()


def test_features_show_where_the_questions_words_stand():
    """Each of one to three tokens in a row has five: its rarity, and its sums over 9 and 33 tokens and the sentence,
    this one also by that of the best sentence."""
    pair = model()
    source = with_question(1)
    source[0, :6], source[0, 7:] = torch.arange(1, 7), torch.arange(100, 125)
    source[0, 20:22] = source[0, 2:4]
    pair.rarity_V[source[0, 2]], pair.rarity_V[source[0, 3]] = 0.5, 0.25
    # In the question, too, where it ends nothing of the passage.
    pair.ends_V[source[0, [3, 18, 24]]] = True
    source[0, 28] = source[0, 3]
    one, around, _, sentence, best, two, _, _, _, _, three, *_ = pair.features(source)[0][0, :, :15].T
    assert one.nonzero().flatten().tolist() == [20, 21, 28]
    assert (one[20], one[21]) == (0.5, 0.25)
    assert around.nonzero().flatten().tolist() == list(range(16, 32))
    assert sentence.nonzero().flatten().tolist() == [*range(19, 22), *range(25, 29)]
    assert sentence[19] == pytest.approx(0.75 / (4 + 0.75))  # of the question's whole
    assert sentence[25] == pytest.approx(0.25 / (4 + 0.75))
    assert best[[19, 25]].tolist() == pytest.approx([1.0, 1 / 3])
    assert two.nonzero().flatten().tolist() == [20]
    assert two[20] == 0.75
    assert not three.any()
    assert not pair.features(source)[0][..., 15:].any()


def test_a_sentence_has_each_of_the_questions_words_once():
    pair = model()
    source = with_question(1)
    source[0, :6], source[0, 7:] = torch.tensor([1, 2, 3, 4, 5, 1]), torch.arange(100, 125)
    # Three times, and twice in the question.
    source[0, [9, 10, 11]] = 1
    # Two of them are more.
    source[0, [20, 22]] = torch.tensor([2, 3])
    pair.ends_V[source[0, 15]] = True
    best = pair.features(source)[0][0, :, 4]
    assert best[[9, 20]].tolist() == pytest.approx([1 / 2, 1.0])


def test_without_a_question_features_show_what_the_source_comes_back_to():
    pair = model()
    source = torch.arange(1, 33)[None].clone()
    source[0, 20] = source[0, 5]
    features, quotable = pair.features(source)
    assert not features[..., :15].any()
    assert features[0, :, 15].nonzero().flatten().tolist() == [5, 20]
    assert quotable.all()


def share_of_right_quotes(seed=0):
    """Return how many ends of quotes are found by a model that has learnt to quote what follows the question's word.

    The tokens of a source differ from each other, so the word stands in one place.
    """

    def batch(number, n=16):
        generator = torch.Generator().manual_seed(number)
        source = torch.stack([torch.randperm(V - 1, generator=generator)[:32] + 1 for _ in range(n)])
        source[:, 2] = END
        place = torch.randint(3, 28, (n, 1), generator=generator)
        source.scatter_(1, place, source[:, :1])
        quote = torch.cat((place + 1, place + 2), dim=1)
        return source, source[:, 5:9], torch.zeros(n, dtype=torch.long), quote

    pair = learned(batch, steps=200, decay=50, seed=seed)
    source, _, kind, quote = batch(10_000, 128)
    return float((pair.remember(source, kind).quote_B2S.argmax(dim=2) == quote).float().mean())


def test_it_learns_to_quote_what_stands_behind_the_questions_word():
    """Chance is 0.03; seen were 0.99 to 1."""
    assert share_of_right_quotes() > 0.9
