"""The runtimes that run a frozen model, and what they share."""
