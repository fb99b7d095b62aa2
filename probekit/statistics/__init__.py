"""How sure a number is: intervals, paired tests, and what many tests at once are worth."""
