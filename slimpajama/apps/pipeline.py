"""The steps of the applications, in order."""

from __future__ import annotations

from slimpajama.apps.tune.stage import TUNE

STEPS = (TUNE,)
