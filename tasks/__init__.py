"""Thin Prefect tasks: retries, names, limits and logs around one library call each."""
