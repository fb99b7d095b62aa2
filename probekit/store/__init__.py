"""Features on disk: what is written whole, found again by what made it, checked when it is read, and repaired."""
