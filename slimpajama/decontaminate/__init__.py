"""Text that a test will ask about stays out of training: evaluation files, and the corpus's own held-out documents."""
