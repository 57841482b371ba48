"""Offline work on market data: training and measuring what the loop then evaluates."""
