"""Architectures, loading, training, evaluation, generation. Never imports the corpus."""
