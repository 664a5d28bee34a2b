"""Where the density lives: meshes, their edge graphs, quadrature."""
