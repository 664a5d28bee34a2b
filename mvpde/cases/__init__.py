"""What a case file says: read, checked, and turned into a model, a law, a mesh and measures."""
