"""Learning rate over one night: constant, with a short rise on a first night and a fall to zero at the end.

A constant rate with a decay at the end can go on every night without knowing how many will follow; a cosine
has to be warmed up again each time, which forgets (Hägele et al. 2024, arXiv:2405.18392).
"""

from __future__ import annotations


def progress_share(step: int, steps: int, seconds: float = 0.0, max_seconds: float = 0.0) -> float:
    """Return how much of the night is over in the middle of step number `step` (from 0), in [0, 1].

    Args:
        step: Number of the step that is about to run.
        steps: Steps that the budget in tokens allows.
        seconds: Training time used so far; counts only where there is a limit.
        max_seconds: Limit of the training time; 0 means none, and the answer depends on the step alone.
    """
    share = (step + 0.5) / steps
    if max_seconds > 0:
        share = max(share, seconds / max_seconds)
    return min(1.0, share)


def lr_scale(progress: float, warmup_share: float, decay_share: float) -> float:
    """Return the factor on the learning rate: linear rise, 1, linear fall to zero.

    Args:
        progress: Share of the night that is over, in [0, 1].
        warmup_share: Share of the night in which the rate rises; 0 for a warm start.
        decay_share: Share of the night in which it falls to zero.

    Returns:
        A factor in [0, 1]; where rise and fall overlap, the smaller of both.
    """
    rise = progress / warmup_share if warmup_share > 0 else 1.0
    fall = (1.0 - progress) / decay_share if decay_share > 0 else 1.0
    return max(0.0, min(1.0, rise, fall))
