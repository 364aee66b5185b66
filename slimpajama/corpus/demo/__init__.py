"""The demo corpus: real Chinese and English text from packages, written as raw files of every format."""

from slimpajama.corpus.demo.build import build_demo_corpus

__all__ = ["build_demo_corpus"]
