"""Exact and near-duplicates: found in tonight's and all earlier documents, removed with the partner on record."""
