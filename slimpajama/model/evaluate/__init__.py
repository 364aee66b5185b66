"""Evaluation: likelihood of held-out text, and the gate that decides which model is the champion."""
