"""slimpajama: a growing pile of Chinese and English text in, a small language model out, every night.

The library half: pure stages on plain files. It imports third-party libraries only, never Prefect.
"""

import os

# Before torch loads OpenMP: its threads wait by spinning, and one that waits for a core which another process has
# burns the other core meanwhile. Training `small` on 2 threads, tokens/s: 8,500 spinning and 6,000 sleeping on an
# idle machine (16 rows a step); 75 and 3,700 beside a busy process (8 rows). Set it to ACTIVE where nothing else runs.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"
