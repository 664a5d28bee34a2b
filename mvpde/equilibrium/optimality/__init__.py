"""How far a law is from the best one: certificates of the gap, and what the units can represent."""
