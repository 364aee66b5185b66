"""Cleaning: one form for every text, its language, and the rules a document must pass."""
