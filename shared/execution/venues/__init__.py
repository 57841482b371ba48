"""Venues behind one interface: ``base.Venue``."""
