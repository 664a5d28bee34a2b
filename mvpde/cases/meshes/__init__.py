"""How a case meets its mesh: the box, found or given, the points on it, and coarser ones."""
