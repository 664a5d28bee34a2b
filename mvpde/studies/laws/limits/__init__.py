"""Limit laws of many particles: one module each."""
