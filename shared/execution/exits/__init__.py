"""What ends or guards a position: sales, stops that rest on venues, closing."""
