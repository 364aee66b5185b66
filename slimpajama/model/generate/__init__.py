"""Generation: sampling, text from a prompt, and the night's samples."""
