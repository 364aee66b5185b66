"""The one truth on disk or S3: stores, Parquet, manifests, nights, models."""
