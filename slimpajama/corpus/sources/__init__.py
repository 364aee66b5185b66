"""Raw files of many formats to batches of records, the same for the nightly ingest and for `slimpajama dedup`."""
