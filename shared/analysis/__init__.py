"""How well it trades: metrics, benchmarks, learned weights, a model's view."""
