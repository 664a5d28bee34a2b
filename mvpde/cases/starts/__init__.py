"""The laws at the start that a case gives: of moving coordinates, of labels, of searches."""
