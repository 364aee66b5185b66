"""slimpajama: a growing pile of Chinese and English text in, a small language model out, every night.

The library half: pure stages on plain files. It imports third-party libraries only, never Prefect.
"""

__version__ = "0.1.0"
