"""Measurements that stand in docs/benchmarks; `make bench` repeats them."""
