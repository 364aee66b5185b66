"""The small net that weighs contexts and network."""

import json

import numpy as np
import pytest
import torch

from slimpajama.core.errors import ModelError
from slimpajama.model.memory.contexts import Contexts, Corpus
from slimpajama.model.memory.model import places_in
from slimpajama.model.memory.weights import Outlook, Weights, learn, members, not_asked
from slimpajama.text.suffixes import suffixes_of

DOCUMENT, VOCAB, K = 0, 12, 4


def text(seed: int, n: int) -> np.ndarray:
    """Return tokens in which two in a row tell the next one, seven times of eight."""
    rng = np.random.default_rng(seed)
    tokens = [1, 2]
    while len(tokens) < n:
        told = (7 * tokens[-1] + 5 * tokens[-2]) % (VOCAB - 1) + 1
        tokens.append(told if rng.random() < 7 / 8 else int(rng.integers(1, VOCAB)))
    return np.array([DOCUMENT, *tokens, DOCUMENT])


@pytest.fixture(scope="module")
def evidence() -> tuple[Contexts, Outlook, np.ndarray]:
    corpus = Corpus([suffixes_of(text(0, 6000), VOCAB, DOCUMENT)], K)
    held_out = text(1, 1500)
    contexts, _ = corpus.ask(places_in(held_out[None], DOCUMENT))
    rng = np.random.default_rng(2)
    # A network that is sure and right at every fourth place, and knows nothing elsewhere.
    knows = rng.random(len(held_out)) < 0.25
    nll = np.where(knows, 0.01, np.log(VOCAB))
    return contexts, Outlook(nll, np.where(knows, 0.05, np.log(VOCAB)), np.where(knows, -0.01, -np.log(VOCAB))), knows


def test_the_mixture_is_better_than_the_network_and_than_every_context(evidence):
    contexts, outlook, knows = evidence
    weights = learn(contexts, outlook, VOCAB)
    mixed = weights.nll(contexts, outlook, VOCAB)
    assert mixed.mean() < 0.8 * outlook.nll.mean()
    alone = learn(contexts, not_asked(len(outlook.nll)), VOCAB).nll(contexts, not_asked(len(outlook.nll)), VOCAB)
    assert mixed.mean() < 0.9 * alone.mean()
    # It listens to the network where the network is sure.
    shares = weights.shares(contexts, outlook)
    assert shares[knows, -1].mean() > 2 * shares[~knows, -1].mean()


def test_shares_add_up_to_one_and_leave_out_what_is_not_known(evidence):
    contexts, outlook, _ = evidence
    weights = learn(contexts, outlook, VOCAB)
    for look in (outlook, not_asked(len(outlook.nll))):
        shares = weights.shares(contexts, look)
        assert shares.sum(axis=1) == pytest.approx(1, abs=1e-12)
        assert (shares[:, : K + 1][contexts.counts == 0] == 0).all()
    assert (shares[:, -1] == 0).all()
    assert members(contexts, outlook, VOCAB)[:, -2] == pytest.approx(1 / VOCAB)


def test_weights_are_the_same_on_any_number_of_threads_and_come_back_exactly(evidence):
    contexts, outlook, _ = evidence
    made = []
    before = torch.get_num_threads()
    for threads in (1, 4):
        torch.set_num_threads(threads)
        made.append(json.dumps(learn(contexts, outlook, VOCAB).to_json()).encode())
    torch.set_num_threads(before)
    assert made[0] == made[1]
    loaded = Weights.load(made[0], "weights.json")
    assert json.dumps(loaded.to_json()).encode() == made[0]
    assert loaded.max_context == K


def test_shares_of_a_place_do_not_depend_on_the_others(evidence):
    contexts, outlook, _ = evidence
    weights = learn(contexts, outlook, VOCAB)
    some = slice(100, 120)
    alone = weights.shares(contexts.take(some), Outlook(*(x[some] for x in outlook)))
    assert np.array_equal(alone, weights.shares(contexts, outlook)[some])


@pytest.mark.parametrize("change", ["no json", "missing", "shape", "NaN", "text", "list"])
def test_what_are_no_weights_is_one_clear_error(evidence, change):
    contexts, outlook, _ = evidence
    made = learn(contexts, outlook, VOCAB).to_json()
    if change == "missing":
        del made["out"]
    elif change == "shape":
        made["hidden"] = made["hidden"][:-1]
    elif change == "NaN":
        made["out_bias"][0] = float("nan")
    elif change == "text":
        made["hidden_bias"][0] = "x"
    data = b"{" if change == "no json" else b"[]" if change == "list" else json.dumps(made).encode()
    with pytest.raises(ModelError, match="not the weights of a memory"):
        Weights.load(data, "weights.json")
