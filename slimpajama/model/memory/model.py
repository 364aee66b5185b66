"""A network and the memory of a corpus as one language model."""

# B = batch, T = tokens per row, V = vocabulary, Q = B * T

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from slimpajama.model.architectures import LanguageModel
from slimpajama.model.architectures.base import OBJECTIVES, State
from slimpajama.model.memory.contexts import Corpus, Places
from slimpajama.model.memory.weights import Outlook, Weights
from slimpajama.text.suffixes import Suffixes

# Places whose distributions over the vocabulary stand at once: 17 MB at 8,192 pieces.
AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class Memory:
    """What a model looks up."""

    corpus: Corpus
    weights: Weights

    @classmethod
    def of(cls, parts: Sequence[Suffixes], weights: Weights) -> "Memory":
        """Return the memory of an index's parts."""
        return cls(Corpus(parts, weights.max_context), weights)

    def nll(self, places: Places, outlook: Outlook) -> NDArray[np.float64]:
        """Return the negative log-likelihood of the tokens at places in nats, (Q,)."""
        contexts, _ = self.corpus.ask(places)
        return self.weights.nll(contexts, outlook, len(self.corpus.unigrams))


class RememberingModel(LanguageModel):
    """A language model whose likelihoods are those of a network and a memory together.

    It takes the network's place wherever text is scored or written. It is not trained: that is the network's part.

    Args:
        before: Another memory that `nlls` shows beside, to compare with.
    """

    def __init__(self, network: LanguageModel, memory: Memory, before: Memory | None = None) -> None:
        super().__init__(network.sizes, network.vocab_size)
        self.network, self.memory, self.before = network, memory, before

    @property
    def embedding(self) -> torch.nn.Parameter:  # type: ignore[override] # the network's own
        """The network's."""
        return self.network.embedding

    def forward(
        self, tokens_BT: Tensor, content_BT: Tensor, weights: Mapping[str, float] = OBJECTIVES
    ) -> dict[str, Tensor]:
        losses: dict[str, Tensor] = self.network(tokens_BT, content_BT, weights)
        return losses

    def hidden(self, tokens_BT: Tensor) -> Tensor:
        return self.network.hidden(tokens_BT)

    def classes(self) -> Tensor:
        return self.network.classes()

    def advance(self, state: State) -> Tensor:
        return self.network.advance(state)

    def restore(self, tokens_BT: Tensor) -> Tensor:
        return self.network.restore(tokens_BT)

    def describe(self) -> dict[str, Any]:
        return self.network.describe()

    def nll(self, tokens_BT: Tensor) -> Tensor:
        return self.nlls(tokens_BT)[0]

    @torch.no_grad()
    def nlls(self, tokens_BT: Tensor) -> Tensor:
        """Return the negative log-likelihood of each token by both, by the network alone, and with `before`."""
        outlook = outlook_of(self.network, tokens_BT)
        places = places_in(tokens_BT.cpu().numpy(), self.memory.corpus.document_id)
        found = [memory.nll(places, outlook) for memory in (self.memory, self.before) if memory]
        found.insert(1, outlook.nll)
        return torch.from_numpy(np.stack(found)).view(-1, *tokens_BT.shape).to(tokens_BT.device)

    @torch.no_grad()
    def nll_and_likeliest(self, tokens_BT: Tensor) -> tuple[Tensor, Tensor]:
        places = places_in(tokens_BT.cpu().numpy(), self.memory.corpus.document_id)
        x_BTD, head_VD = self.network.states(tokens_BT)
        x_QD, target_Q = x_BTD.flatten(0, -2), tokens_BT.flatten()
        nll, best = [], []
        for start in range(0, len(x_QD), AT_ONCE):
            some = slice(start, start + AT_ONCE)
            chosen = Places(places.text, places.at[some], places.before[some])
            p_qV = torch.from_numpy(self._mixed(chosen, torch.nn.functional.linear(x_QD[some], head_VD).float()))
            nll.append(-p_qV.gather(1, target_Q[some, None].cpu())[:, 0].log().float())
            best.append(p_qV.argmax(dim=1))
        return tuple(torch.cat(found).view(tokens_BT.shape).to(tokens_BT.device) for found in (nll, best))  # type: ignore[return-value]

    @torch.no_grad()
    def start(self, tokens_BT: Tensor) -> tuple[State, Tensor]:
        state, logits_BV = self.network.start(tokens_BT)
        return state, self._remember(state, logits_BV)

    @torch.no_grad()
    def step(self, state: State, tokens_B: Tensor) -> Tensor:
        return self._remember(state, self.network.step(state, tokens_B))

    def _remember(self, state: State, logits_BV: Tensor) -> Tensor:
        """Return the mixture's logits (B, V) of the tokens after a state."""
        rows_BK = state.tokens_BT[:, -self.memory.corpus.max_context :].cpu().numpy()
        places = places_after(rows_BK, self.memory.corpus.document_id)
        return torch.from_numpy(self._mixed(places, logits_BV)).float().log().to(logits_BV.device)

    def _mixed(self, places: Places, logits_QV: Tensor) -> NDArray[np.float64]:
        """Return the distributions (Q, V) after places, given the network's logits (Q, V)."""
        corpus, weights = self.memory.corpus, self.memory.weights
        contexts, walks = corpus.ask(places)
        log_p_QV = logits_QV.float().log_softmax(dim=1)
        p_QV = log_p_QV.exp()
        numbers = torch.stack((-(p_QV * log_p_QV).sum(dim=1), log_p_QV.amax(dim=1))).double().cpu().numpy()
        shares = weights.shares(contexts, Outlook(np.zeros(len(p_QV)), *numbers))
        mixed: NDArray[np.float64] = p_QV.double().cpu().numpy()
        # In float32 they add up to one but for the last digits.
        mixed *= shares[:, -1:] / mixed.sum(axis=1, keepdims=True)
        mixed += shares[:, -2:-1] / self.vocab_size
        corpus.spread(places, walks, shares[:, :-2] / np.maximum(contexts.counts, 1), mixed)
        return mixed


def outlook_of(network: LanguageModel, tokens_BT: Tensor) -> Outlook:
    """Return what a network thinks of every place of rows, of which each is read by itself; Q = B * T."""
    return Outlook(*(x.flatten().double().cpu().numpy() for x in network.outlook(tokens_BT)))


def places_in(tokens_BT: NDArray[np.int64], document_id: int) -> Places:
    """Return every place in rows, of which each is a text of its own."""
    B, T = tokens_BT.shape
    # Since the last document token, or since the row's beginning.
    number_T = np.arange(T)
    begin_BT = np.maximum.accumulate(np.where(tokens_BT == document_id, number_T, 0), axis=1)
    before_BT = np.zeros((B, T), np.int64)
    before_BT[:, 1:] = number_T[1:] - begin_BT[:, :-1]
    return Places(_as_ids(tokens_BT), np.arange(B * T), before_BT.reshape(-1))


def places_after(tokens_BT: NDArray[np.int64], document_id: int) -> Places:
    """Return the place behind each of some rows."""
    B, T = tokens_BT.shape
    begin_B = np.where(tokens_BT == document_id, np.arange(T), 0).max(axis=1, initial=0)
    return Places(_as_ids(tokens_BT), np.arange(1, B + 1) * T, T - begin_B)


def _as_ids(tokens_BT: NDArray[np.int64]) -> NDArray[np.uint32]:
    return tokens_BT.reshape(-1).astype(np.uint32)


def without_memory(model: LanguageModel) -> LanguageModel:
    """Return the network alone."""
    return model.network if isinstance(model, RememberingModel) else model
