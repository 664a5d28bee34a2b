"""Deep networks of infinite width as densities: one law for each layer and label, on copies of the meshes of their weights."""
