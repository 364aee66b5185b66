"""Ingest: raw files of many formats in, one table of documents out, and a record of everything that broke."""
