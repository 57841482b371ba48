"""All inputs of a scan, side by side and within one deadline."""
