"""The steps of the model half of a night, in order."""

from slimpajama.model.evaluate.stage import EVALUATE, GATE
from slimpajama.model.generate.stage import GENERATE
from slimpajama.model.memory.stage import MEMORY
from slimpajama.model.train.stage import TRAIN

STEPS = (TRAIN, MEMORY, EVALUATE, GATE, GENERATE)
