"""Deep networks: their units and layers, the sweeps through them, and what of them measures need."""
