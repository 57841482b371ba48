"""Whether the value at risk that gates orders is what it says: recorded days are its judges."""
