"""Walls: what happens to a law at the ends of its box."""
