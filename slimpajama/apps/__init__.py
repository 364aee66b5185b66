"""What a model is used for: tuned applications, serving, compression, the evaluation harness."""
