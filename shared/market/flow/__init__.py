"""Who is in a hurry: public trades of a minute, and what they add up to over minutes."""
