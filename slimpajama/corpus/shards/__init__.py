"""Encoded training shards: split by duplicate cluster, shuffled by hash, written as Parquet."""
