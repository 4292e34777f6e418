"""A chat that learns from its person's ratings, on one machine."""
