"""What the numbers of a run say: one finding a file, each a function from a result to records with a sentence."""
