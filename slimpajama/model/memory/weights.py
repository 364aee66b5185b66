"""How far each context is trusted, and how far the network: weights that a small net learns on the validation split.

The likelihood of a token is a mixture. Its members are the shares with which the token follows the contexts of 0 to K
tokens, the same share for every token, and the network's likelihood. How much each counts is a softmax over what a net
of one hidden layer makes of features that are known before the token is seen: how often each context occurs, how many
different tokens follow it and how evenly, how long the longest known context is, and how sure the network is.
"""

# Q = places, K = longest context, J = features, H = hidden units, M = members of the mixture: K + 3

import json
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from slimpajama.core.errors import ModelError
from slimpajama.model.device import one_thread
from slimpajama.model.memory.contexts import FEATURES, Contexts
from slimpajama.text.kernels import compiled

Floats = NDArray[np.float64]
# 16 gave 0.1 % more bits per byte, 64 as many.
HIDDEN = 32
EPOCHS, STEPS, BATCH, RATE, DECAY = 8, 500, 512, 5e-3, 1e-3


class Outlook(NamedTuple):
    """What the network thinks of each place, float64 (Q,) each."""

    nll: Floats
    """Negative log-likelihood of the token that stands there, in nats."""
    entropy: Floats
    """Of its distribution, in nats; -1 where the network was not asked."""
    peak: Floats
    """Natural logarithm of the largest probability."""


def not_asked(places: int) -> Outlook:
    """Return the outlook of a network that was not asked."""
    return Outlook(np.zeros(places), np.full(places, -1.0), np.zeros(places))


@dataclass(frozen=True, slots=True)
class Weights:
    """The net's weights: softmax((relu(x @ hidden + hidden_bias), x) @ out + out_bias)."""

    hidden: Floats
    """(J, H)."""
    hidden_bias: Floats
    out: Floats
    """(H + J, M)."""
    out_bias: Floats

    @property
    def max_context(self) -> int:
        """K."""
        return len(self.out_bias) - 3

    def shares(self, contexts: Contexts, outlook: Outlook) -> Floats:
        """Return how much each member of the mixture counts at each place, (Q, M); rows add up to one."""
        shares = np.zeros((len(contexts.counts), len(self.out_bias)))
        _weigh(self.hidden, self.hidden_bias, self.out, self.out_bias, features(contexts, outlook), contexts, shares)
        return shares

    def nll(self, contexts: Contexts, outlook: Outlook, vocab_size: int) -> Floats:
        """Return the negative log-likelihood of the token at each place in nats, (Q,)."""
        shares = self.shares(contexts, outlook)
        nll: Floats = -np.log((shares * members(contexts, outlook, vocab_size)).sum(axis=1))
        return nll

    def to_json(self) -> dict[str, Any]:
        """Return the weights as plain JSON values; they come back exactly."""
        return {name: getattr(self, name).tolist() for name in self.__slots__}

    @classmethod
    def load(cls, data: bytes, where: str) -> "Weights":
        """Return the weights of a `weights.json`.

        Raises:
            ModelError: It holds no such weights.
        """
        try:
            found = json.loads(data)
            made = cls(*(np.array(found[name], np.float64) for name in cls.__slots__))
            hidden, members = len(made.hidden_bias), len(made.out_bias)
            inputs = FEATURES * (members - 3) + 3
            if made.hidden.shape != (inputs, hidden) or made.out.shape != (hidden + inputs, members):
                raise ValueError("of other shapes")
            if not all(np.isfinite(getattr(made, name)).all() for name in cls.__slots__):
                raise ValueError("not finite")
        except (ValueError, TypeError, LookupError, RecursionError) as error:
            raise ModelError(
                f"not the weights of a memory: {error}", where=where, hint="Run `slimpajama train` again."
            ) from error
        return made


def members(contexts: Contexts, outlook: Outlook, vocab_size: int) -> Floats:
    """Return what each member of the mixture says of the token at each place, (Q, M)."""
    share = contexts.targets / np.maximum(contexts.counts, 1)
    return np.column_stack([share, np.full(len(share), 1 / vocab_size), np.exp(-outlook.nll)])


def features(contexts: Contexts, outlook: Outlook) -> Floats:
    """Return what is known of each place before its token is seen, (Q, J)."""
    asked = outlook.entropy >= 0
    return np.column_stack([contexts.features, asked * outlook.entropy / 4, asked * outlook.peak])


@compiled(allocates=True)
def _weigh(hidden: Any, hidden_bias: Any, out: Any, out_bias: Any, x: Any, contexts: Any, members: Any) -> None:
    """Set the softmax over the members, adding in one order, so that no library's threads change a bit."""
    inputs, units = hidden.shape
    h, network = np.zeros(units + inputs), len(out_bias) - 1
    for q in range(len(x)):
        h[:units] = hidden_bias
        for j in range(inputs):
            h[units + j] = x[q, j]
            if x[q, j] != 0:
                for i in range(units):
                    h[i] += x[q, j] * hidden[j, i]
        members[q] = out_bias
        for i in range(units + inputs):
            if i >= units or h[i] > 0:
                for m in range(len(out_bias)):
                    members[q, m] += h[i] * out[i, m]
        largest = -math.inf
        for m in range(len(out_bias)):
            # Without a network its peak is 0, which no distribution over several tokens has.
            there = contexts.counts[q, m] > 0 if m < contexts.counts.shape[1] else m < network or x[q, inputs - 1] < 0
            if not there:
                members[q, m] = -math.inf
            largest = max(largest, members[q, m])
        total = 0.0
        for m in range(len(out_bias)):
            members[q, m] = math.exp(members[q, m] - largest)
            total += members[q, m]
        members[q] /= total


def learn(contexts: Contexts, outlook: Outlook, vocab_size: int, seed: int = 0) -> Weights:
    """Learn the weights from places whose tokens are known; the same on any number of threads.

    Source: Adam with decoupled weight decay, Loshchilov & Hutter 2019.
    """
    x_QJ = torch.from_numpy(features(contexts, outlook))
    p_QM = torch.from_numpy(members(contexts, outlook, vocab_size))
    known = np.column_stack([contexts.counts > 0, np.ones(len(x_QJ), np.bool_), outlook.entropy >= 0])
    absent_QM = torch.from_numpy(~known)
    (places, inputs), mixed = x_QJ.shape, p_QM.size(1)
    generator = torch.Generator().manual_seed(seed)
    bound = inputs**-0.5
    hidden = torch.empty(inputs, HIDDEN, dtype=torch.float64).uniform_(-bound, bound, generator=generator)
    sizes = ((HIDDEN,), (HIDDEN + inputs, mixed), (mixed,))
    parameters = [hidden, *(torch.zeros(size, dtype=torch.float64) for size in sizes)]
    for parameter in parameters:
        parameter.requires_grad_()
    hidden, hidden_bias, out, out_bias = parameters
    batch = min(BATCH, places)
    steps = max(EPOCHS * places // batch, STEPS)
    optimiser = torch.optim.AdamW(parameters, lr=RATE, weight_decay=DECAY, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: max(0.02, 1 - step / steps))
    order = torch.empty(0, dtype=torch.long)
    with one_thread():
        for _ in range(steps):
            if len(order) < batch:
                order = torch.randperm(places, generator=generator)
            some, order = order[:batch], order[batch:]
            x = x_QJ[some]
            z = torch.cat((torch.relu(x @ hidden + hidden_bias), x), dim=1) @ out + out_bias
            shares = z.masked_fill(absent_QM[some], -torch.inf).softmax(dim=1)
            loss = -(shares * p_QM[some]).sum(dim=1).log().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return Weights(*(parameter.detach().numpy() for parameter in parameters))
