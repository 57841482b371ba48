"""What the market looks like: candles, indicators, patterns, order flow, microstructure, score."""
