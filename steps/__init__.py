"""The steps of the workflows: one file a step, each no more than a frame around ``shared``."""
