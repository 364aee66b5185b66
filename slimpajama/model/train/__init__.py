"""Training: rows from shards, a schedule, checkpoints and the loop; `stage.py` publishes the model."""
