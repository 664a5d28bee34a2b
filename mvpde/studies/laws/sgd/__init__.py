"""Limit laws of stochastic gradient descent: one module each."""
