"""What walls of the problem do to particles."""
