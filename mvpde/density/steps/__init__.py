"""Parts of implicit time steps: positivity, few lengths, and the method of order 4."""
