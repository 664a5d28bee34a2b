"""What walls of the problem do to a density."""
