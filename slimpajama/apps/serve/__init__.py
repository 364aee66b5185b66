"""Completions over HTTP: one thread that computes, a bounded queue before it, and a page to try it."""
