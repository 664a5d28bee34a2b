"""Where the density goes: stationary laws, spectra, branches."""
