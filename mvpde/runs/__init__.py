"""A case carried out: measures advanced and recorded, and the folder that tells of it."""
