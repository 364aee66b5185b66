"""Memory: the next token's likelihood by how the corpus goes on after the same tokens, mixed with the network's."""
