"""Limit laws of deep networks and of networks with random weights."""
