"""From an approved size to slices on venues: positions opened, worked, added to."""
