"""The night's report: what came in, what was thrown out and why, what the model learnt from the rest."""
