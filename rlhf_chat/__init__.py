"""A chat that learns from its ratings, on one machine."""

__version__ = "0.2.0"
