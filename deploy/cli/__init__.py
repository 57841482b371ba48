"""The command ``trading-loop``."""
