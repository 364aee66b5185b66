"""The steps of the applications, in order."""

from slimpajama.apps.tune.stage import TUNE

STEPS = (TUNE,)
