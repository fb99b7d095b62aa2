"""What is fitted to the features of a tap, and how it is scored."""
