"""What is done to positions that stay open, and what is told of all of them."""
