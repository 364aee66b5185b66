"""Muon for the matrices inside the model, AdamW for embeddings and vectors.

Muon is momentum whose update is orthogonalised, so that every direction of a weight matrix moves equally far
(Jordan et al. 2024, "Muon: An optimizer for hidden layers"; the quintic's coefficients are theirs). At equal
time it was worth 0.11 to 0.15 bits per byte over AdamW alone. State is plain tensors by name, so that a
resumed run takes bit-identical steps.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from slimpajama.model.architectures.fsdp import share_of, whole

# Chosen on short runs (400,000 tokens, steps of 2,048, one seed), bits per byte zh / en: momentum 0.9 -> 0.85 gained
# 0.008 / 0.012, eps 1e-10 -> 1e-5 0.012 / 0.005 (1e-4 lost it again), ADAM_LR 0.005 -> 0.01 0.014 / 0.008.
MUON_LR, MOMENTUM = 0.03, 0.85
ADAM_LR, BETAS = 0.01, (0.8, 0.95)
# Large on purpose: Adam's division would push rows of rare tokens along at full speed.
ADAM_EPS = 1e-5
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
NEWTON_SCHULZ_STEPS = 5


def orthogonal(m: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return about the nearest semi-orthogonal matrix of each matrix in (stack, out, in), computed in `dtype`.

    Singular values end between 0.7 and 1.2, which is all that Muon needs.
    """
    # Here a loop over 2-D products is faster than one batched product.
    if m.device.type == "cpu":
        return torch.stack([newton_schulz(one, dtype) for one in m])
    return newton_schulz(m, dtype)


def newton_schulz(m: Tensor, dtype: torch.dtype) -> Tensor:
    """Push the singular values of the matrices (..., out, in) towards 1."""
    a, b, c = NEWTON_SCHULZ
    x: Tensor = m.mT if m.size(-2) > m.size(-1) else m
    x = (x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)).to(dtype)
    for _ in range(NEWTON_SCHULZ_STEPS):
        s = x @ x.mT
        x = a * x + (b * s + c * s @ s) @ x
    return x.transpose(-2, -1) if m.size(-2) > m.size(-1) else x


class Optimiser:
    """Both optimisers behind one step.

    Args:
        lr: Factor on the built-in learning rates.
        precision: `bf16` or `fp32`, of the orthogonalisation: bfloat16 is enough where it is fast.
    """

    def __init__(self, model: nn.Module, lr: float, precision: str = "fp32") -> None:
        self.lr = lr
        self.dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        self.parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        # A 2-D parameter is a table or head, a 3-D one a stack of matrices: see layers.Linear.
        self.matrices = {name: p for name, p in self.parameters.items() if p.ndim == 3}
        others = [p for p in self.parameters.values() if p.ndim != 3]
        self.adamw = torch.optim.AdamW(others, lr=ADAM_LR, betas=BETAS, eps=ADAM_EPS, weight_decay=0.0, fused=True)
        self.momentum = {name: torch.zeros_like(p) for name, p in self.matrices.items()}

    def step(self, lr_scale: float, each: Callable[[Callable[[str], None], Iterable[str]], Any] = map) -> None:
        """Update the parameters by their gradients at `lr_scale` times the learning rate.

        `each` applies a function to each matrix's name, perhaps from several threads.
        """
        self.adamw.param_groups[0]["lr"] = ADAM_LR * self.lr * lr_scale
        self.adamw.step()

        @torch.no_grad()
        def update(name: str) -> None:
            p, momentum = self.matrices[name], self.momentum[name]
            if p.grad is None:
                return
            momentum.lerp_(p.grad, 1 - MOMENTUM)
            step = orthogonal(whole(p.grad.lerp(momentum, MOMENTUM)), self.dtype)
            scale = max(1.0, p.size(-2) / p.size(-1)) ** 0.5
            p.add_(share_of(step.to(p.dtype), p), alpha=-MUON_LR * self.lr * lr_scale * scale)

        list(each(update, self.matrices))

    def state_tensors(self) -> dict[str, Tensor]:
        """Return everything that the next step depends on, apart from weights and gradients."""
        tensors = {f"muon.{name}.momentum": m for name, m in self.momentum.items()}
        for name, p in self.parameters.items():
            for key, value in self.adamw.state.get(p, {}).items():
                tensors[f"adamw.{name}.{key}"] = value
        return tensors

    def load_state_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Take over what `state_tensors` returned."""
        for name, momentum in self.momentum.items():
            momentum.copy_(share_of(tensors[f"muon.{name}.momentum"], momentum))
        for name, p in self.parameters.items():
            prefix = f"adamw.{name}."
            state = {key.removeprefix(prefix): t.clone() for key, t in tensors.items() if key.startswith(prefix)}
            if state:
                self.adamw.state[p] = {k: t if k == "step" else share_of(t.to(p.device), p) for k, t in state.items()}
