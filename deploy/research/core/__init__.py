"""The core sleeve in a replay of the whole loop: how it drifts, and what brings it back."""
