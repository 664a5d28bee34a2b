"""The limit laws, one module each: what is computed at a point of a study, and how the law is fitted to what came out."""
