"""Datasets, label factors, splits, and what the model is fed."""
