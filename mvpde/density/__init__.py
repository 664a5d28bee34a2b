"""The law as finite elements: conservative edge fluxes on P1 simplices."""
