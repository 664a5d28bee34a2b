"""Deep networks: their units and layers, the sweeps through them, what of them measures need; and networks of random weights."""
