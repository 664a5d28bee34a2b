"""Expressions of the user: parsed without `eval`, differentiated, and run as lists of numpy calls."""
