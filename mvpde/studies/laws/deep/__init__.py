"""Limit laws of deep networks and of networks with random weights."""
"""Laws of deep networks."""
