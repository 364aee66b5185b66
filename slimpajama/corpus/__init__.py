"""Raw files to shards: sources, ingest, cleaning, deduplication, pairs, decontamination, words, shards."""
