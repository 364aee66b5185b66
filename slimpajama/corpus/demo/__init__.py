"""The demo corpus: real Chinese and English text from packages, written as raw files of every format."""

from slimpajama.corpus.demo.build import DemoReport, SourceReport, build_demo_corpus

__all__ = ["DemoReport", "SourceReport", "build_demo_corpus"]
