"""Network and memory as one model: one distribution, whoever asks, and no look ahead."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from slimpajama.core.config import ModelConfig
from slimpajama.model.architectures import build
from slimpajama.model.memory.contexts import Corpus
from slimpajama.model.memory.model import Memory, RememberingModel, outlook_of, places_in, without_memory
from slimpajama.model.memory.weights import learn
from slimpajama.text.suffixes import suffixes_of

DOCUMENT, VOCAB, K = 0, 60, 4
ROW = 32


def tokens(seed: int, n: int) -> np.ndarray:
    """Return tokens that repeat themselves, in documents."""
    rng = np.random.default_rng(seed)
    steps = np.cumsum(rng.integers(0, 3, n)) % (VOCAB - 1) + 1
    steps[rng.random(n) < 0.02] = DOCUMENT
    return np.array([DOCUMENT, *steps, DOCUMENT])


@pytest.fixture(scope="module")
def model() -> RememberingModel:
    torch.manual_seed(0)
    network = build(ModelConfig(preset="tiny", row_tokens=ROW), VOCAB, seed=0).eval()
    # Zero-initialised projections: give it opinions.
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    corpus = Corpus([suffixes_of(tokens(seed, 2000), VOCAB, DOCUMENT) for seed in (1, 2)], K)
    rows = tokens(3, 40 * ROW)[: 40 * ROW].reshape(-1, ROW)
    contexts, _ = corpus.ask(places_in(rows, DOCUMENT))
    weights = learn(contexts, outlook_of(network, torch.from_numpy(rows)), VOCAB)
    return RememberingModel(network, Memory(corpus, weights)).eval()


def held_out(rows: int) -> torch.Tensor:
    return torch.from_numpy(tokens(4, rows * ROW)[: rows * ROW].reshape(rows, ROW))


def test_likelihoods_of_all_tokens_add_up_to_one(model):
    for length in range(1, ROW - 1, 3):
        _, logits = model.start(held_out(3)[:, :length])
        assert logits.double().exp().sum(dim=1).numpy() == pytest.approx(1, abs=1e-6)
    # In the type that they are computed in:
    places = places_in(held_out(3).numpy(), DOCUMENT)
    with torch.no_grad():
        x, head = model.network.states(held_out(3))
        mixed = model._mixed(places, (x @ head.T).flatten(0, 1))
    assert mixed.sum(axis=1) == pytest.approx(1, abs=1e-9)
    assert (mixed > 0).all()


def test_a_step_says_of_each_token_what_scoring_says(model):
    rows = held_out(4)
    nll = model.nll(rows).numpy()
    state, logits = model.start(rows[:, :1])
    for at in range(1, ROW - 1):
        said = -logits.gather(1, rows[:, at : at + 1])[:, 0].numpy()
        assert said == pytest.approx(nll[:, at], abs=1e-4), at
        logits = model.step(state, rows[:, at])


def test_the_likeliest_token_is_that_of_the_distribution(model):
    rows = held_out(2)
    nll, best = model.nll_and_likeliest(rows)
    assert nll.numpy() == pytest.approx(model.nll(rows).numpy(), abs=1e-4)
    state, logits = model.start(rows[:, :1])
    for at in range(1, ROW - 1):
        assert logits.argmax(dim=1).tolist() == best[:, at].tolist()
        logits = model.step(state, rows[:, at])


@given(st.integers(1, ROW - 1), st.integers(0, 100))
@settings(max_examples=25, deadline=None)
def test_tokens_from_a_place_on_change_no_likelihood_before_it(model, place, seed):
    rows = held_out(2)
    changed = rows.clone()
    changed[:, place:] = torch.randint(
        0, VOCAB, changed[:, place:].shape, generator=torch.Generator().manual_seed(seed)
    )
    before, after = (model.nlls(some)[:, :, :place].numpy() for some in (rows, changed))
    assert before == pytest.approx(after, abs=1e-5)


def test_parts_are_what_network_and_other_memory_say_alone(model):
    rows = held_out(2)
    corpus = Corpus(model.memory.corpus.parts[:1], K)
    other = RememberingModel(model.network, Memory(corpus, model.memory.weights)).eval()
    three = RememberingModel(model.network, model.memory, other.memory).eval().nlls(rows)
    assert torch.equal(three[0], model.nlls(rows)[0])
    assert three[1].float().numpy() == pytest.approx(model.network.nll(rows).numpy(), abs=1e-5)
    assert torch.equal(three[2], other.nlls(rows)[0])
    assert without_memory(model) is model.network
    assert without_memory(model.network) is model.network
    assert model.network.nlls(rows).shape == (1, 2, ROW)


def test_a_row_that_is_full_goes_on_from_its_end(model):
    rows = held_out(2)
    state, _ = model.start(rows[:, : ROW - 1])
    for token in (5, 6, 7):
        logits = model.step(state, torch.full((2,), token))
    assert logits.double().exp().sum(dim=1).numpy() == pytest.approx(1, abs=1e-6)
    assert state.tokens_BT.size(1) < ROW
    assert state.tokens_BT[:, -3:].tolist() == [[5, 6, 7]] * 2
