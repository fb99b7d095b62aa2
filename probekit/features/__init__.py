"""From rows of a dataset to feature matrices: one pass over the model, and the store that keeps what it gave."""
