"""Runs and studies as pages that read without a network."""
