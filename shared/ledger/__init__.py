"""PostgreSQL, the truth about orders, fills, money and state."""
