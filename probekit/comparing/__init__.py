"""Two models on the same test rows: from their run directories to paired differences, and their views."""
