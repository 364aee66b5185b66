"""Task data: pairs of a source and its target, checked, freed of duplicates and split, for tuning a champion on."""
