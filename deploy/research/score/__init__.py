"""Training and judging the model of the AI score."""
