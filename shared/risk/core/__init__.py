"""The core sleeve: held at target weights beside the tactical one, and brought back to them."""
