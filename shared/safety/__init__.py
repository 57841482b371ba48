"""Thirteen checks a minute, what follows from them, and the switch that a person can pull."""
