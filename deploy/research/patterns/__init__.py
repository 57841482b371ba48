"""How well the chart patterns are found, and what they are worth."""
