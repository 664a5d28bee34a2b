"""How far the numbers of a run are from the truth: errors of each measure, and whether measures agree within them."""
