"""What a law becomes on a mesh at the start."""
