"""Runs of models in which nothing moves: networks with random weights."""
