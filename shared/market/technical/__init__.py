"""Technical indicators of a window of candles, and how long each remembers its start."""
