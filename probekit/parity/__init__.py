"""Parity: how far two backends' features are apart on the same inputs, tap by tap."""
