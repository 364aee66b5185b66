"""Passages that stand word for word in many documents: found over all nights, reported, and cut out by option."""
