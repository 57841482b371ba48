"""The AI score: features, costs, the model, and what it says of an entry now."""
