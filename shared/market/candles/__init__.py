"""Candles from venues: checked, kept in Redis and in the ledger, brought up to date."""
