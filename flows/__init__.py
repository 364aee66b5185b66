"""Prefect flows: names in order. `nightly` is the whole lifecycle; each other module is one part of it."""
