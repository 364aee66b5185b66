"""slimpajama: a growing pile of Chinese and English text in, a small language model out, every night.

The library half: pure stages on plain files. It imports third-party libraries only, never Prefect.
"""

import os

# Before torch loads OpenMP: its threads wait by spinning, and one that waits for a core which another process has
# burns the other core meanwhile: docs/decisions/how-is-work-shared-among-cores-and-machines.md. Set it to ACTIVE where
# nothing else runs.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.2.0"
